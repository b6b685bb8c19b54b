// What the bytes in sight mean: fields and regions by windows, fetched for what is seen now and asked for again while they are not known.
import type { FieldFacts, RegionFacts } from '../../../core/workbench/contract.ts';
import { client, faultOf } from '../../bridge.ts';

/** Bytes of one window. */
const windowSize = 4096;
const mostKept = 128;
/** Milliseconds until a window that was not known yet is asked for again. */
const patience = 120;

interface Window {
  readonly fields: readonly FieldFacts[];
  readonly regions: readonly RegionFacts[];
}

/** Fields of a view, in the order of their bytes. Drawn again when `version` changes. */
export class FieldSource {
  readonly session: string;
  readonly view: string;
  readonly size: number;
  version = $state(0);
  /** The walk over the file has not got to what is in sight. */
  pending = $state(false);
  fault = $state<string | null>(null);
  readonly #windows = new Map<number, Window>();
  #wanted: readonly number[] = [];
  #busy = false;
  #closed = false;

  constructor(session: string, view: string, size: number) {
    this.session = session;
    this.view = view;
    this.size = size;
  }

  close(): void {
    this.#closed = true;
  }

  want(start: number, length: number): void {
    const wanted: number[] = [];
    const end = Math.min(this.size, start + length);
    for (let at = start - (start % windowSize); at < end; at += windowSize) wanted.push(at / windowSize);
    this.#wanted = wanted;
    void this.#fetch();
  }

  /** The innermost (last to begin) field that has the byte; null: none is known. */
  fieldAt(offset: number): FieldFacts | null {
    const fields = this.#windows.get(Math.floor(offset / windowSize))?.fields ?? [];
    let low = 0;
    let high = fields.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((fields[middle]?.start ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    for (let index = low - 1; index >= 0 && index > low - 4; index--) {
      const field = fields[index];
      if (field !== undefined && offset < field.start + field.length) return field;
    }
    return null;
  }

  regionAt(offset: number): RegionFacts | null {
    const regions = this.#windows.get(Math.floor(offset / windowSize))?.regions ?? [];
    return regions.find(({ start, length }) => offset >= start && offset < start + length) ?? null;
  }

  async #fetch(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (;;) {
        const next = this.#wanted.find((window) => !this.#windows.has(window));
        if (next === undefined || this.#closed) break;
        const start = next * windowSize;
        const { session, view } = this;
        const found = await client.sessions.annotations({ session, view, start, length: windowSize });
        if (found.pending) {
          this.pending = true;
          await new Promise((resolve) => setTimeout(resolve, patience));
          continue;
        }
        const fields = found.annotations.toSorted((a, b) => a.start - b.start || b.length - a.length);
        this.#windows.set(next, { fields, regions: found.regions });
        for (const oldest of this.#windows.keys()) {
          if (this.#windows.size <= mostKept) break;
          this.#windows.delete(oldest);
        }
        this.version += 1;
      }
      this.pending = false;
    } catch (error) {
      if (!this.#closed) this.fault = faultOf(error).text;
      this.pending = false;
    } finally {
      this.#busy = false;
    }
  }
}

// Where the bytes in sight belong to what is searched for: asked by windows, those that were looked at last are kept.
import type { Match } from '../../../core/workbench/contract.ts';
import { client } from '../../bridge.ts';
import type { Asked } from './kept-patterns.ts';

/** Bytes of one window. */
const windowSize = 16 * 1024;
const mostKept = 64;

/** Matches of one pattern in one view. Drawn again when `version` changes. */
export class MatchSource {
  readonly #session: string;
  readonly #view: string;
  readonly #size: number;
  readonly #asked: Asked;
  version = $state(0);
  readonly #windows = new Map<number, readonly Match[]>();
  #wanted: readonly number[] = [];
  #seen = $state.raw({ start: 0, end: 0 });
  #busy = false;
  #closed = false;

  constructor(session: string, view: string, size: number, asked: Asked) {
    [this.#session, this.#view, this.#size, this.#asked] = [session, view, size, asked];
  }

  close(): void {
    this.#closed = true;
  }

  /** These bytes are in sight now. */
  want(start: number, length: number): void {
    const end = Math.min(this.#size, start + length);
    const wanted: number[] = [];
    for (let at = start - (start % windowSize); at < end; at += windowSize) wanted.push(at / windowSize);
    this.#wanted = wanted;
    this.#seen = { start, end };
    void this.#fetch();
  }

  /** The matches that a stretch has a part of. */
  in(start: number, end: number): Match[] {
    const found: Match[] = [];
    for (let at = start - (start % windowSize); at < end; at += windowSize) {
      for (const match of this.#windows.get(at / windowSize) ?? []) {
        const isSeen = match.start < end && match.start + match.length > start;
        // One that reaches into the next window is told of there too.
        if (isSeen && match.start > (found.at(-1)?.start ?? -1)) found.push(match);
      }
    }
    return found;
  }

  /** How many are in sight. */
  get count(): number {
    void this.version;
    return this.in(this.#seen.start, this.#seen.end).length;
  }

  async #fetch(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (;;) {
        const next = this.#wanted.find((window) => !this.#windows.has(window));
        if (next === undefined || this.#closed) break;
        const stretch = { start: next * windowSize, length: windowSize };
        const asked = { session: this.#session, view: this.#view, pattern: this.#asked };
        this.#windows.set(next, await client.sessions.matches({ ...asked, ...stretch }));
        for (const oldest of this.#windows.keys()) {
          if (this.#windows.size <= mostKept) break;
          this.#windows.delete(oldest);
        }
        this.version += 1;
      }
    } catch {
      // The search itself says what is wrong; what is not marked is still there to be read.
      this.#closed = true;
    } finally {
      this.#busy = false;
    }
  }
}

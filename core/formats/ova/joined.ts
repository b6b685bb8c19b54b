// Several storages one behind the other as one: a disk that was cut into chunks.
import type { Storage, StorageExtent } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

/** The parts in their order, for reading. Owns them. */
export class JoinedStorage implements Storage {
  readonly name: string;
  readonly size: number;
  readonly writable = false;
  readonly descriptor = null;
  readonly identity: string | null;
  readonly #parts: readonly Storage[];
  readonly #starts: readonly number[];

  constructor(parts: readonly Storage[], name: string) {
    this.name = name;
    this.identity = parts[0]?.identity ?? null;
    this.#parts = parts;
    const starts: number[] = [];
    let end = 0;
    for (const { size } of parts) {
      starts.push(end);
      end += size;
    }
    this.#starts = starts;
    this.size = end;
  }

  /** The part that has the byte at `offset`, and the offset in it. */
  #find(offset: HostOffset): { part: Storage; within: number } | null {
    let low = 0;
    let high = this.#parts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    const part = this.#parts[low];
    return part === undefined ? null : { part, within: offset - (this.#starts[low] ?? 0) };
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    if (offset + into.length > this.size) {
      const detail = { found: Math.max(0, this.size - offset), length: into.length, size: this.size };
      throw new ImageError('storage/short-read', detail, { file: this.name, offset });
    }
    for (let done = 0; done < into.length;) {
      const found = this.#find(offset + done);
      if (found === null) return;
      const length = Math.min(into.length - done, found.part.size - found.within);
      found.part.readAt(into.subarray(done, done + length), found.within);
      done += length;
    }
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    const found = this.#find(offset);
    const rest = Math.max(0, Math.min(limit, this.size - offset));
    if (found === null || rest === 0) return { kind: 'data', length: rest };
    return found.part.extentAt(found.within, Math.min(rest, found.part.size - found.within));
  }

  allocated(): number {
    return this.#parts.reduce((sum, part) => sum + part.allocated(), 0);
  }

  close(): void {
    for (const part of this.#parts) part.close();
  }

  writeAt(): void {
    this.#refuse();
  }

  truncate(): void {
    this.#refuse();
  }

  zeroAt(): void {
    this.#refuse();
  }

  provide(): void {
    this.#refuse();
  }

  flush(): void {}

  #refuse(): never {
    throw new ImageError('storage/read-only', {}, { file: this.name });
  }
}

// A file as it was before a verb that ended early, for reading only: its own bytes, and over them the old ones of the journal.
import { ImageError } from '../../errors/image-error.ts';
import type { Storage, StorageExtent } from '../storage.ts';
import type { HostOffset } from '../units.ts';
import type { JournalFile, OldPiece } from './read.ts';

export class JournalView implements Storage {
  readonly name: string;
  readonly size: number;
  readonly writable = false;
  /** The bulk plane would read past the journal. */
  readonly descriptor = null;
  readonly identity: string | null;
  readonly #inner: Storage;
  readonly #journal: Storage;
  readonly #old: readonly OldPiece[];
  readonly #closed: () => void;

  /** `closed` is called once, when the view is closed. */
  constructor(inner: Storage, file: JournalFile, journal: Storage, closed: () => void) {
    this.name = inner.name;
    this.identity = inner.identity;
    this.size = file.size;
    this.#inner = inner;
    this.#journal = journal;
    this.#old = file.old;
    this.#closed = closed;
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    const end = offset + into.length;
    if (end > this.size) {
      const found = Math.max(0, this.size - offset);
      const detail = { found, length: into.length, size: this.size };
      throw new ImageError('storage/short-read', detail, { file: this.name, offset });
    }
    // What the verb cut off stands in the journal.
    const there = Math.max(0, Math.min(into.length, this.#inner.size - offset));
    if (there > 0) this.#inner.readAt(into.subarray(0, there), offset);
    into.fill(0, there);
    for (let i = this.#firstEndingAfter(offset); i < this.#old.length; i++) {
      const piece = this.#old[i] as OldPiece;
      if (piece.offset >= end) return;
      const from = Math.max(offset, piece.offset);
      const to = Math.min(end, piece.offset + piece.length);
      const part = into.subarray(from - offset, to - offset);
      if (piece.at === null) part.fill(0);
      else this.#journal.readAt(part, piece.at + (from - piece.offset));
    }
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    const rest = Math.max(0, Math.min(limit, this.size - offset));
    const piece = this.#old[this.#firstEndingAfter(offset)];
    if (rest === 0) return { kind: 'data', length: 0 };
    if (piece !== undefined && piece.offset <= offset) {
      return {
        kind: piece.at === null ? 'hole' : 'data',
        length: Math.min(rest, piece.offset + piece.length - offset),
      };
    }
    const untouched = Math.min(rest, (piece?.offset ?? Infinity) - offset);
    return offset < this.#inner.size ? this.#inner.extentAt(offset, untouched) : { kind: 'hole', length: untouched };
  }

  allocated(): number {
    return this.#inner.allocated();
  }

  writeAt(): never {
    return this.#refuse();
  }

  truncate(): never {
    return this.#refuse();
  }

  zeroAt(): never {
    return this.#refuse();
  }

  provide(): never {
    return this.#refuse();
  }

  flush(): void {}

  close(): void {
    this.#inner.close();
    this.#closed();
  }

  #refuse(): never {
    throw new ImageError('storage/read-only', {}, { file: this.name });
  }

  #firstEndingAfter(place: number): number {
    let low = 0;
    let high = this.#old.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { offset, length } = this.#old[middle] as OldPiece;
      if (offset + length > place) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

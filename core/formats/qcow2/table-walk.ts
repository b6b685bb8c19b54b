// Reading many L2 tables one after the other: neighbours in the file in one piece, as 32-bit halves, holes not at all.
import { endianness } from 'node:os';
import type { Storage } from '../../block/storage.ts';
import { entryOffset } from './layout.ts';
import { readPadded } from './stored-refcounts.ts';

const littleEndian = endianness() === 'LE';
const pieceLength = 1024 * 1024;

/** Gives table after table out of one buffer. */
export class TableWalk {
  readonly #storage: Storage;
  readonly #tableSize: number;
  readonly #buffer: ArrayBuffer;
  readonly #bytes: Uint8Array;
  #start = 0;
  #length = 0;
  #empty = false;
  #holeStart = 0;
  #holeEnd = 0;

  /** Tables of `tableSize` bytes (a cluster). */
  constructor(storage: Storage, tableSize: number) {
    this.#storage = storage;
    this.#tableSize = tableSize;
    this.#buffer = new ArrayBuffer(Math.max(pieceLength, tableSize));
    this.#bytes = new Uint8Array(this.#buffer);
  }

  /**
   * The table at `offset` in halves, valid until the next call; null: all its entries are zero. `next` and `index` say what is likely
   * asked for afterwards: entries of an L1 table behind the one that led here. Throws `storage/*`.
   */
  table(offset: number, next: Uint32Array, index: number): Uint32Array | null {
    if (offset < this.#start || offset + this.#tableSize > this.#start + this.#length) {
      // Asking the file system about every table costs more than reading it, unless the tables are empty.
      if (this.#empty && this.#isHole(offset)) return null;
      this.#fill(offset, next, index);
    }
    if (this.#empty) return null;
    const at = offset - this.#start;
    if (at % 4 === 0) return new Uint32Array(this.#buffer, at, this.#tableSize / 4);
    return new Uint32Array(this.#buffer.slice(at, at + this.#tableSize));
  }

  #fill(offset: number, next: Uint32Array, index: number): void {
    let length = this.#tableSize;
    for (let i = index + 1; 2 * i + 1 < next.length && length + this.#tableSize <= this.#bytes.length; i++) {
      if (entryOffset(next[2 * i] ?? 0, next[2 * i + 1] ?? 0) !== offset + length) break;
      length += this.#tableSize;
    }
    const piece = this.#bytes.subarray(0, length);
    readPadded(this.#storage, piece, offset);
    this.#empty = piece[0] === 0 && Buffer.compare(piece.subarray(1), piece.subarray(0, length - 1)) === 0;
    if (littleEndian) Buffer.from(this.#buffer, 0, length).swap32();
    this.#start = offset;
    this.#length = length;
  }

  /** The file keeps no bytes for the table at `offset`, or it lies past the end. */
  #isHole(offset: number): boolean {
    const end = offset + this.#tableSize;
    if (offset >= this.#holeStart && end <= this.#holeEnd) return true;
    if (offset >= this.#storage.size) return true;
    const extent = this.#storage.extentAt(offset, this.#storage.size - offset);
    if (extent.kind !== 'hole') return false;
    this.#holeStart = offset;
    this.#holeEnd = offset + extent.length >= this.#storage.size ? Number.MAX_SAFE_INTEGER : offset + extent.length;
    return end <= this.#holeEnd;
  }
}

/** The file keeps no bytes for this stretch, or it lies past the end. */
export function isHole(storage: Storage, offset: number, length: number): boolean {
  const extent = storage.extentAt(offset, Math.min(length, storage.size - offset));
  return extent.kind === 'hole' && offset + extent.length >= Math.min(offset + length, storage.size);
}

// Room in the file for new blocks: behind everything that is in use, or where a block was given up for good.
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { isPresent, type BlockTable } from './block-table.ts';
import { blockCount, chunkCount, type Geometry } from './layout.ts';
import { alignment, bitmapBlockLength, bitmapState } from './spec.ts';

/** Where the last block of the image ends, and at least `endOfTables`. Reads the whole BAT once. */
export function endOfUse(table: BlockTable, geometry: Geometry, endOfTables: number): number {
  let end = endOfTables;
  const blocks = blockCount(geometry);
  for (let block = 0; block < blocks; block++) {
    const index = table.payload(block);
    if (isPresent(table.state(index))) end = Math.max(end, table.place(index) + geometry.blockSize);
  }
  const chunks = chunkCount(geometry);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const index = table.bitmap(chunk);
    if (index >= table.capacity || table.state(index) !== bitmapState.present) continue;
    end = Math.max(end, table.place(index) + bitmapBlockLength);
  }
  return alignUp(end, alignment);
}

/** Hands out room. What is given up becomes free once the tables that say so are on the disk. */
export class Space {
  readonly #storage: Storage;
  readonly #blockSize: number;
  #end: number;
  #given: number[] = [];
  #free: number[] = [];

  /** `end`: where the last block that the file on the disk names ends. */
  constructor(storage: Storage, blockSize: number, end: number) {
    this.#storage = storage;
    this.#blockSize = blockSize;
    this.#end = end;
  }

  /**
   * `length` bytes in one piece, whole MiB; the file reaches over them. `zeroed`: they read as zeroes; otherwise anything may stand there.
   * Throws `storage/truncate`, `storage/write`.
   */
  allocate(length: number, zeroed: boolean): number {
    if (length === this.#blockSize) {
      const place = this.#free.pop();
      if (place !== undefined) return place;
    }
    const place = this.#end;
    const before = this.#storage.size;
    if (place + length > before) this.#storage.truncate(place + length);
    if (zeroed && place < before) this.#storage.zeroAt(place, Math.min(length, before - place));
    this.#end = place + length;
    return place;
  }

  /** The block at `place` is no longer in use, but the file may still say so. */
  giveUp(place: number): void {
    this.#given.push(place);
  }

  /** The tables on the disk no longer name what was given up: its bytes go back to the host, its room may be used again. */
  settle(): void {
    while (this.#given.length > 0) {
      const place = this.#given[this.#given.length - 1] ?? 0;
      const length = Math.min(this.#blockSize, this.#storage.size - place);
      if (length > 0) this.#storage.zeroAt(place, length);
      this.#given.pop();
      // A block that the end of the file cuts short is not used again.
      if (length === this.#blockSize) this.#free.push(place);
    }
  }
}

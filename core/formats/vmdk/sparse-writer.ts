// Writing a plain sparse extent (hosted or ESX server): grains are added at the end of the file.
import type { ImageError } from '../../errors/image-error.ts';
import type { ExtentPlace, ExtentWriter } from './extent-writer.ts';
import type { SparseExtent } from './sparse.ts';
import { sectorSize, zeroedEntry } from './spec.ts';
import { TableWriter } from './table-writer.ts';

export class SparseWriter implements ExtentWriter {
  readonly #extent: SparseExtent;
  readonly #tables: TableWriter;

  /** Throws `vmdk/directory-outside`. */
  constructor(extent: SparseExtent) {
    this.#extent = extent;
    this.#tables = new TableWriter(extent, extent.grainSize);
  }

  reserve(offset: number, length: number): ExtentPlace {
    if (this.#extent.tables.cache.full) this.settle(true);
    const extent = this.#extent;
    const { grainSize, storage } = extent;
    const answer = extent.map(offset, length);
    if (answer.kind === 'data') {
      this.#tables.noteWritten();
      return { start: offset, length: answer.length, storage, offset: answer.offset, fresh: false, publish: () => {} };
    }
    const first = Math.floor(offset / grainSize);
    const wanted = Math.ceil((offset + length) / grainSize) - first;
    let count = 1;
    while (count < wanted && !extent.isPlace(extent.entryOf(first + count))) count++;
    const host = this.#tables.allocate(count * grainSize);
    const start = first * grainSize;
    return {
      start,
      length: Math.min(count * grainSize, extent.size - start),
      storage,
      offset: host,
      fresh: true,
      publish: () => {
        for (let i = 0; i < count; i++) this.#tables.set(first + i, (host + i * grainSize) / sectorSize);
      },
    };
  }

  zero(offset: number, length: number, keepSpace: boolean, below: boolean): number {
    const extent = this.#extent;
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const answer = extent.map(at, length - done);
      let part = answer.length;
      if (answer.kind === 'data') {
        if (keepSpace) break;
        // The grains keep their places; the host takes the space back. No table changes, nothing is lost track of.
        this.#tables.noteWritten();
        extent.storage.zeroAt(answer.offset, answer.length);
      } else if (answer.kind === 'absent' && below) {
        part = extent.zeroedGrains ? this.#setGrains(at, part, zeroedEntry) : 0;
        if (part === 0) break;
      }
      done += part;
    }
    return done;
  }

  /** The grains stay in the file, unused: nothing in it says whether another table points to them. */
  release(offset: number, length: number): number {
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const { kind, length: found } = this.#extent.map(at, length - done);
      const part = kind === 'absent' ? found : this.#setGrains(at, found, 0);
      if (part === 0) break;
      done += part;
    }
    return done;
  }

  settle(durable: boolean): void {
    this.#tables.settle(durable);
  }

  /** Sets the entries of the whole grains of a stretch (the last one of the extent may be shorter). Bytes done. */
  #setGrains(offset: number, length: number, entry: number): number {
    const { grainSize, size } = this.#extent;
    if (offset % grainSize !== 0) return 0;
    const toEnd = offset + length === size;
    const grains = toEnd ? Math.ceil(length / grainSize) : Math.floor(length / grainSize);
    for (let i = 0; i < grains; i++) this.#tables.set(offset / grainSize + i, entry);
    return Math.min(length, grains * grainSize);
  }
}

/** Extents that can be read but not written: reads go on, writes are refused with the reason. */
export class RefusingWriter implements ExtentWriter {
  readonly #refusal: ImageError;

  constructor(refusal: ImageError) {
    this.#refusal = refusal;
  }

  reserve(): ExtentPlace {
    throw this.#refusal;
  }

  zero(): number {
    throw this.#refusal;
  }

  release(): number {
    throw this.#refusal;
  }

  settle(): void {}
}

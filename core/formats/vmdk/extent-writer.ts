// What a writable extent does; here for flat ones. Offsets count from the extent's start.
import type { PackedWriter } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import type { FlatExtent } from './extent.ts';

/** Room for bytes of an extent; see `Place` in block/node.ts. */
export interface ExtentPlace {
  readonly start: number;
  readonly length: number;
  readonly storage: Storage;
  readonly offset: HostOffset;
  readonly fresh: boolean;
  publish(): void;
}

export interface ExtentWriter {
  /** Room for a prefix of the stretch. Throws `vmdk/full`, `vmdk/stream-*`, `vmdk/extent-read-only`. */
  reserve(offset: number, length: number): ExtentPlace;
  /** Makes a prefix read as zeroes without storing them; how many bytes, 0: it cannot. `below`: there is a layer below. */
  zero(offset: number, length: number, keepSpace: boolean, below: boolean): number;
  /** Gives a prefix back to the layer below; how many bytes. */
  release(offset: number, length: number): number;
  /** Tables into the file after what they point to. `durable`: wait for the disk between the steps and at the end. */
  settle(durable: boolean): void;
  /** Compressed grains; offsets count from the extent's start. */
  reservePacked?(offset: number, stored: Uint8Array): { place: ExtentPlace; bytes: Uint8Array };
  readonly codec?: PackedWriter['codec'];
}

/** Flat extents are written in place. */
export class FlatWriter implements ExtentWriter {
  readonly #extent: FlatExtent;
  #written = false;

  constructor(extent: FlatExtent) {
    this.#extent = extent;
  }

  reserve(offset: number, length: number): ExtentPlace {
    const { storage, base } = this.#extent;
    this.#written = true;
    return { start: offset, length, storage, offset: base + offset, fresh: false, publish: () => {} };
  }

  zero(offset: number, length: number, keepSpace: boolean): number {
    if (keepSpace) return 0;
    this.#written = true;
    this.#extent.storage.zeroAt(this.#extent.base + offset, length);
    return length;
  }

  /** There is no layer below a flat extent that could show through. */
  release(offset: number, length: number): number {
    return this.zero(offset, length, false);
  }

  settle(durable: boolean): void {
    if (!durable || !this.#written) return;
    this.#extent.storage.flush();
    this.#written = false;
  }
}

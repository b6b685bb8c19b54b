// A raw image: guest bytes are the file's bytes; holes of the file read as zeroes.
import type { BackingReference, ImageFile, Mapping, Place, Preallocation, WritableNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp, type GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

const sectorSize = 512;

/** The disk starts at byte `base` of the file; its size is the rest of the file in whole sectors, or what was asked. */
export class RawNode implements WritableNode {
  readonly format = 'raw';
  readonly name: string;
  readonly granularity = 1;
  readonly backing = null;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly base: number;
  size: number;
  readonly #fixed: boolean;
  #closed = false;

  constructor(storage: Storage, window: { offset: number; size: number | null }) {
    this.storage = storage;
    this.name = storage.name;
    this.base = window.offset;
    this.#fixed = window.size !== null;
    this.size = window.size ?? alignUp(storage.size - window.offset, sectorSize);
    this.files = [{ role: 'file', format: 'file', storage }];
  }

  map(range: GuestRange): Mapping {
    const offset = this.base + range.start;
    const inFile = Math.min(range.length, this.storage.size - offset);
    const reserved = { storage: this.storage, offset };
    if (inFile <= 0) return { kind: 'zero', length: range.length, explicit: true, reserved };
    const extent = this.storage.extentAt(offset, inFile);
    const length = Math.min(extent.length, inFile);
    if (extent.kind === 'hole') {
      return { kind: 'zero', length, explicit: true, reserved };
    }
    return { kind: 'data', length, storage: this.storage, offset, writable: true };
  }

  reserve(range: GuestRange): Place {
    return { covers: range, storage: this.storage, offset: this.base + range.start, fresh: false, publish: () => {} };
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    if (keepSpace) return null;
    this.storage.zeroAt(this.base + range.start, range.length);
    return range;
  }

  release(range: GuestRange): GuestRange | null {
    return this.zero(range);
  }

  /** The file ends with the byte that was asked, the disk with the sector that has it. */
  resize(size: number, preallocation: Preallocation = 'off'): void {
    if (this.#fixed) throw new ImageError('raw/size', { size: this.size, found: size }, { file: this.name });
    const before = this.storage.size - this.base;
    const provided = preallocation === 'falloc' || preallocation === 'full';
    if (provided && size > before) this.storage.provide(this.base + before, size - before, preallocation);
    this.storage.truncate(this.base + size);
    this.size = alignUp(size, sectorSize);
  }

  setBacking(reference: BackingReference | null): void {
    if (reference !== null) {
      throw new ImageError('request/unsupported', { what: 'Operation not supported' }, { file: this.name });
    }
  }

  writeBack(): void {}

  flush(): void {
    this.storage.flush();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.storage.close();
  }
}

// A buffer as Storage: for tests, for images that are built in memory, for overlays over a read-only file.
import { ImageError } from '../errors/image-error.ts';
import type { Provision, Storage, StorageExtent } from './storage.ts';
import type { HostOffset } from './units.ts';

/** Storage over a growing buffer. `bytes()` is a copy of its content. */
export class MemoryStorage implements Storage {
  readonly name: string;
  readonly writable = true;
  readonly descriptor = null;
  readonly identity = null;
  size: number;
  #buffer: Uint8Array;

  constructor(initial: Uint8Array = new Uint8Array(0), name = 'memory') {
    this.name = name;
    this.size = initial.length;
    this.#buffer = Uint8Array.from(initial);
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.size);
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    if (offset + into.length > this.size) {
      const found = Math.max(0, this.size - offset);
      throw new ImageError(
        'storage/short-read',
        { found, length: into.length, size: this.size },
        { file: this.name, offset },
      );
    }
    into.set(this.#buffer.subarray(offset, offset + into.length));
  }

  writeAt(from: Uint8Array, offset: HostOffset): void {
    this.#grow(offset + from.length);
    this.#buffer.set(from, offset);
  }

  truncate(size: number): void {
    if (size < this.size) this.#buffer.fill(0, size, this.size);
    else this.#grow(size);
    this.size = size;
  }

  flush(): void {}
  close(): void {}

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    return { kind: 'data', length: Math.min(limit, this.size - offset) };
  }

  zeroAt(offset: HostOffset, length: number): void {
    this.#grow(offset + length);
    this.#buffer.fill(0, offset, offset + length);
  }

  provide(offset: HostOffset, length: number, _how: Provision): void {
    this.#grow(offset + length);
  }

  allocated(): number {
    return this.size;
  }

  #grow(size: number): void {
    if (size > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(size, this.#buffer.length * 2));
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    if (size > this.size) this.size = size;
  }
}

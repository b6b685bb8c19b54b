// A part of a storage seen as a storage of its own: a file inside another file.
import { ImageError } from '../errors/image-error.ts';
import type { Mapping } from './node.ts';
import type { Provision, Storage, StorageExtent } from './storage.ts';
import type { HostOffset } from './units.ts';

/**
 * Bytes `base … base + size` of `outer`. Closing it does nothing: whoever opened `outer` closes that. It grows by writing past its end,
 * which only makes sense where nothing else follows in `outer`.
 */
export class StorageWindow implements Storage {
  readonly name: string;
  readonly outer: Storage;
  readonly base: HostOffset;
  /** Transfers go through `outer` (see `inOuterFile`). */
  readonly descriptor = null;
  readonly identity: string | null;
  size: number;

  constructor(outer: Storage, base: HostOffset, size: number, name: string) {
    this.outer = outer;
    this.base = base;
    this.size = size;
    this.name = name;
    this.identity = outer.identity === null ? null : `${outer.identity}@${base}`;
  }

  get writable(): boolean {
    return this.outer.writable;
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    if (offset + into.length > this.size) {
      const detail = { found: Math.max(0, this.size - offset), length: into.length, size: this.size };
      throw new ImageError('storage/short-read', detail, { file: this.name, offset });
    }
    this.outer.readAt(into, this.base + offset);
  }

  writeAt(from: Uint8Array, offset: HostOffset): void {
    this.outer.writeAt(from, this.base + offset);
    this.size = Math.max(this.size, offset + from.length);
  }

  truncate(size: number): void {
    this.outer.truncate(this.base + size);
    this.size = size;
  }

  flush(): void {
    this.outer.flush();
  }

  close(): void {}

  noteWritten(offset: HostOffset, length: number): void {
    this.outer.noteWritten?.(this.base + offset, length);
    this.size = Math.max(this.size, offset + length);
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    const rest = Math.max(0, Math.min(limit, this.size - offset));
    if (rest === 0) return { kind: 'data', length: 0 };
    const { kind, length } = this.outer.extentAt(this.base + offset, rest);
    return { kind, length: Math.min(rest, length) };
  }

  zeroAt(offset: HostOffset, length: number): void {
    this.outer.zeroAt(this.base + offset, length);
    this.size = Math.max(this.size, offset + length);
  }

  provide(offset: HostOffset, length: number, how: Provision): void {
    this.outer.provide(this.base + offset, length, how);
    this.size = Math.max(this.size, offset + length);
  }

  allocated(): number {
    return this.size;
  }
}

/**
 * The same mapping with places in the outer file: transfers then go through its descriptor, and the map says where in that file the bytes
 * are. Encrypted bytes stay where their cipher knows them.
 */
export function inOuterFile(mapping: Mapping): Mapping {
  switch (mapping.kind) {
    case 'below':
    case 'unreadable':
      return mapping;
    case 'zero': {
      const { reserved } = mapping;
      if (reserved === undefined || !(reserved.storage instanceof StorageWindow)) return mapping;
      const { outer, base } = reserved.storage;
      return { ...mapping, reserved: { storage: outer, offset: base + reserved.offset } };
    }
    case 'data': {
      const { storage } = mapping;
      if (!(storage instanceof StorageWindow) || mapping.cipher !== undefined) return mapping;
      return { ...mapping, storage: storage.outer, offset: storage.base + mapping.offset };
    }
    case 'packed': {
      const { storage, offset } = mapping;
      if (!(storage instanceof StorageWindow)) return mapping;
      const storedLength = Math.min(mapping.storedLength, storage.size - offset);
      return { ...mapping, storage: storage.outer, offset: storage.base + offset, storedLength };
    }
  }
}

// A file or a block device as Storage.
import fs from 'node:fs';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import type { Provision, Storage, StorageExtent } from './storage.ts';
import type { HostOffset } from './units.ts';

/**
 * What other programs may do while we hold the file, in qemu's terms: `read` excludes writers, `write` excludes readers that want
 * consistency and other writers, `shared-any` excludes nobody, `none` takes no lock at all.
 */
export type LockMode = 'read' | 'write' | 'shared-any' | 'none';

export interface FileOptions {
  readonly writable: boolean;
  readonly lock: LockMode;
  /** `new`: must not exist (with this mode); `existing`: must exist. */
  readonly create?: 'new' | undefined;
  readonly mode?: number | undefined;
}

/** Opens a regular file or a block device. Throws `storage/open`, `storage/directory`, `storage/not-a-file`, `storage/locked`. */
export function openFile(path: string, options: FileOptions): Storage {
  return new FileStorage(path, options);
}

class FileStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  readonly descriptor: number;
  readonly identity: string;
  size: number;

  constructor(name: string, options: FileOptions) {
    this.name = name;
    this.writable = options.writable;
    try {
      const flags = options.create === 'new' ? 'wx+' : options.writable ? 'r+' : 'r';
      this.descriptor = fs.openSync(name, flags, options.mode);
    } catch (error) {
      throw fromSystem('storage/open', error, { file: name });
    }
    const stat = fs.fstatSync(this.descriptor);
    if (stat.isDirectory()) {
      fs.closeSync(this.descriptor);
      throw new ImageError('storage/directory', {}, { file: name });
    }
    this.size = stat.size;
    this.identity = `${stat.dev}:${stat.ino}`;
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    let done = 0;
    while (done < into.length) {
      const count = fs.readSync(this.descriptor, into, done, into.length - done, offset + done);
      if (count === 0) {
        throw new ImageError(
          'storage/short-read',
          { found: done, length: into.length, size: this.size },
          { file: this.name, offset },
        );
      }
      done += count;
    }
  }

  writeAt(from: Uint8Array, offset: HostOffset): void {
    try {
      let done = 0;
      while (done < from.length) done += fs.writeSync(this.descriptor, from, done, from.length - done, offset + done);
    } catch (error) {
      throw fromSystem('storage/write', error, { file: this.name, offset });
    }
    this.size = Math.max(this.size, offset + from.length);
  }

  truncate(size: number): void {
    fs.ftruncateSync(this.descriptor, size);
    this.size = size;
  }

  flush(): void {
    fs.fdatasyncSync(this.descriptor);
  }

  close(): void {
    fs.closeSync(this.descriptor);
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    return { kind: 'data', length: Math.min(limit, this.size - offset) };
  }

  zeroAt(offset: HostOffset, length: number): void {
    this.writeAt(new Uint8Array(length), offset);
  }

  provide(offset: HostOffset, length: number, _how: Provision): void {
    this.writeAt(new Uint8Array(length), offset);
  }

  allocated(): number {
    return fs.fstatSync(this.descriptor).blocks * 512;
  }
}

// A file or a block device as Storage.
import fs from 'node:fs';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import { host } from './host/host.ts';
import { lockHolders } from './host/holders.ts';
import type { LockMode } from './host/locks.ts';
import { openChecked, openFlag } from './host/opening.ts';
import type { Provision, Storage, StorageExtent } from './storage.ts';
import { alignDown, alignUp, GiB, type HostOffset, MiB } from './units.ts';

export type { LockMode } from './host/locks.ts';

/**
 * How the host's cache is used (`-t`, `-T`).
 *
 * - `writeback` (default): as the host likes; `flush` reaches the disk.
 * - `writethrough`: every write reaches the disk before it returns.
 * - `none`: the cache is left behind empty: what was read or written here is dropped from it in steps and on close. (Not O_DIRECT:
 *   callers' buffers and offsets need no alignment, and file systems without direct I/O are no special case.)
 * - `directsync`: both of these.
 * - `unsafe`: `flush` does nothing.
 */
export type CacheMode = 'writeback' | 'writethrough' | 'none' | 'directsync' | 'unsafe';

export interface FileOptions {
  readonly writable: boolean;
  readonly lock: LockMode;
  /** `new`: must not exist (with this mode); `existing`: must exist. */
  readonly create?: 'new' | undefined;
  readonly mode?: number | undefined;
  readonly cache?: CacheMode | undefined;
  /** The name for messages, when the file will be known under another one than it is written under. */
  readonly shownAs?: string | undefined;
}

/** The most that one call of the host moves. */
const largestTransfer = GiB;
/** Zeroes that are really written go out in pieces of this size. */
const zeroPiece = MiB;
/** With cache mode `none`: after so many bytes the cache is told to forget them. */
const dropStep = 16 * MiB;

/**
 * Opens a regular file or a block device; symbolic links are followed. Never waits for the other end of a FIFO.
 * Throws `storage/open`, `storage/directory`, `storage/not-a-file`, `storage/locked`, `storage/too-large`.
 */
export function openFile(path: string, options: FileOptions): Storage {
  return new FileStorage(path, options);
}

class FileStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  readonly descriptor: number;
  readonly identity: string;
  size: number;
  readonly #device: boolean;
  readonly #cache: CacheMode;
  /** Every change reaches the disk before the call returns. */
  readonly #durable: boolean;
  /** The stretch that was last asked about, until somebody writes here. */
  #known: { kind: StorageExtent['kind']; start: number; end: number } | null = null;
  #cannotPunch = false;
  #cannotZero = false;
  #sinceDrop = 0;
  #closed = false;

  constructor(path: string, options: FileOptions) {
    const name = options.shownAs ?? path;
    this.name = name;
    this.writable = options.writable;
    this.#cache = options.cache ?? 'writeback';
    this.#durable = this.#cache === 'writethrough' || this.#cache === 'directsync';
    const stat = openChecked(path, name, options, this.#durable ? openFlag('O_DSYNC') : 0);
    this.descriptor = stat.descriptor;
    this.#device = stat.device;
    this.identity = stat.identity;
    try {
      this.size = stat.device ? host().deviceSize(this.descriptor) : stat.size;
      if (!Number.isSafeInteger(this.size)) throw new ImageError('storage/too-large', { found: this.size });
      if (options.lock !== 'none') this.#lock(options.lock);
    } catch (error) {
      fs.closeSync(this.descriptor);
      if (error instanceof ImageError) throw error.at({ file: name });
      throw fromSystem('storage/open', error, { file: name });
    }
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    this.#check(offset, into.length);
    let done = 0;
    while (done < into.length) {
      let count: number;
      try {
        const length = Math.min(into.length - done, largestTransfer);
        count = fs.readSync(this.descriptor, into, done, length, offset + done);
      } catch (error) {
        throw fromSystem('storage/read', error, { file: this.name, offset: offset + done });
      }
      if (count === 0) throw this.#ended(offset, into.length, done);
      done += count;
    }
    this.#countForDrop(into.length);
  }

  writeAt(from: Uint8Array, offset: HostOffset): void {
    this.#checkWritable(offset, from.length);
    this.#changing('storage/write', offset, () => {
      let done = 0;
      while (done < from.length) {
        const length = Math.min(from.length - done, largestTransfer);
        done += fs.writeSync(this.descriptor, from, done, length, offset + done);
      }
      if (this.#durable && openFlag('O_DSYNC') === 0) fs.fdatasyncSync(this.descriptor);
    });
    this.noteWritten(offset, from.length);
  }

  truncate(size: number): void {
    this.#checkWritable(size, 0);
    if (this.#device) {
      // As qemu: a device serves as a target that is at least large enough.
      if (size <= this.size) return;
      throw new ImageError('storage/truncate', { reason: 'Cannot grow device files' }, { file: this.name });
    }
    this.#changing('storage/truncate', size, () => {
      fs.ftruncateSync(this.descriptor, size);
      if (this.#durable) fs.fdatasyncSync(this.descriptor);
    });
    this.#known = null;
    this.size = size;
  }

  flush(): void {
    if (this.#cache === 'unsafe') return;
    this.#checkOpen();
    this.#changing('storage/flush', undefined, () => fs.fdatasyncSync(this.descriptor));
    if (this.#dropsBehind()) host().dropCache(this.descriptor, 0, 0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#dropsBehind()) host().dropCache(this.descriptor, 0, 0);
    this.#changing('storage/flush', undefined, () => fs.closeSync(this.descriptor));
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    this.#check(offset, 0);
    const rest = Math.max(0, Math.min(limit, this.size - offset));
    if (rest === 0 || this.#device) return { kind: 'data', length: rest };
    const known = this.#known;
    if (known !== null && known.start <= offset && offset < known.end) {
      return { kind: known.kind, length: Math.min(rest, known.end - offset) };
    }
    const extent = host().extentAt(this.descriptor, offset, this.size) ?? { kind: 'data', length: this.size - offset };
    if (extent.kind === 'hole' && offset + extent.length >= this.size) this.#checkShrunk(offset);
    this.#known = { kind: extent.kind, start: offset, end: offset + extent.length };
    return { kind: extent.kind, length: Math.min(rest, extent.length) };
  }

  zeroAt(offset: HostOffset, length: number): void {
    this.#checkWritable(offset, length);
    if (length === 0) return;
    this.#known = null;
    const end = offset + length;
    const inside = Math.min(end, this.size) - offset;
    this.#changing('storage/write', offset, () => {
      if (inside > 0) {
        if (this.#device) this.#zeroDevice(offset, inside);
        else if (!this.#punch(offset, inside) && !this.#zeroRange(offset, inside)) this.#writeZeroes(offset, inside);
      }
      if (end > this.size) {
        if (this.#device) this.#writeZeroes(Math.max(offset, this.size), end - Math.max(offset, this.size));
        else fs.ftruncateSync(this.descriptor, end);
      }
      if (this.#durable) fs.fdatasyncSync(this.descriptor);
    });
    this.noteWritten(offset, length);
  }

  discard(offset: HostOffset, length: number): void {
    this.#checkWritable(offset, length);
    const inside = Math.min(offset + length, this.size) - offset;
    if (inside <= 0 || this.#device) return;
    this.#known = null;
    this.#changing('storage/write', offset, () => this.#punch(offset, inside));
  }

  provide(offset: HostOffset, length: number, how: Provision): void {
    this.#checkWritable(offset, length);
    if (length === 0) return;
    this.#known = null;
    this.#changing('storage/write', offset, () => {
      if (how === 'full') this.#writeZeroes(offset, length);
      else if (!this.#device && !host().allocate(this.descriptor, offset, length)) this.#rewrite(offset, length);
      if (this.#durable) fs.fdatasyncSync(this.descriptor);
    });
    this.noteWritten(offset, length);
  }

  allocated(): number {
    this.#checkOpen();
    return this.#device ? this.size : fs.fstatSync(this.descriptor).blocks * 512;
  }

  noteWritten(offset: HostOffset, length: number): void {
    this.#known = null;
    if (!this.#device) this.size = Math.max(this.size, offset + length);
    this.#countForDrop(length);
  }

  #lock(mode: LockMode): void {
    const conflict = host().lock(this.descriptor, mode);
    if (conflict === null) return;
    const holders = lockHolders(this.descriptor).map(({ pid, command }) => ({ pid, command }));
    const detail = { permission: conflict.permission, exclusive: conflict.exclusive, name: this.name };
    throw new ImageError('storage/locked', holders.length === 0 ? detail : { ...detail, holders });
  }

  #punch(offset: number, length: number): boolean {
    this.#cannotPunch ||= !host().punchHole(this.descriptor, offset, length);
    return !this.#cannotPunch;
  }

  #zeroRange(offset: number, length: number): boolean {
    this.#cannotZero ||= !host().zeroRange(this.descriptor, offset, length);
    return !this.#cannotZero;
  }

  /** Whole sectors through the device, what sticks out by writing. */
  #zeroDevice(offset: number, length: number): void {
    const sector = host().deviceSectorSize(this.descriptor);
    const end = offset + length;
    const from = Math.min(end, alignUp(offset, sector));
    const to = Math.max(from, alignDown(end, sector));
    this.#writeZeroes(offset, from - offset);
    if (to > from && !host().zeroDevice(this.descriptor, from, to - from, true)) this.#writeZeroes(from, to - from);
    this.#writeZeroes(to, end - to);
  }

  #writeZeroes(offset: number, length: number): void {
    const zeroes = new Uint8Array(Math.min(length, zeroPiece));
    for (let done = 0; done < length;) {
      done += fs.writeSync(this.descriptor, zeroes, 0, Math.min(zeroes.length, length - done), offset + done);
    }
  }

  /** Space for a stretch where the host cannot reserve it: what is there is written again, what is not there as zeroes. */
  #rewrite(offset: number, length: number): void {
    const piece = new Uint8Array(Math.min(length, zeroPiece));
    for (let done = 0; done < length;) {
      const wanted = Math.min(piece.length, length - done);
      const found = fs.readSync(this.descriptor, piece, 0, wanted, offset + done);
      piece.fill(0, found, wanted);
      let written = 0;
      while (written < wanted) {
        written += fs.writeSync(this.descriptor, piece, written, wanted - written, offset + done + written);
      }
      done += wanted;
    }
  }

  #ended(offset: number, length: number, found: number): ImageError {
    if (!this.#device) this.#checkShrunk(offset);
    return new ImageError('storage/short-read', { found, length, size: this.size }, { file: this.name, offset });
  }

  /** Throws `storage/shrank` when the file is shorter than we know it: what is missing is neither data nor a hole. */
  #checkShrunk(offset: number): void {
    const { size } = fs.fstatSync(this.descriptor);
    if (size >= this.size) return;
    throw new ImageError('storage/shrank', { expected: this.size, found: size }, { file: this.name, offset });
  }

  #changing(
    code: 'storage/write' | 'storage/truncate' | 'storage/flush',
    offset: number | undefined,
    work: () => void,
  ) {
    try {
      work();
    } catch (error) {
      throw fromSystem(code, error, { file: this.name, offset });
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new ImageError('storage/closed', {}, { file: this.name });
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    if (offset < 0) throw new RangeError(`offset ${offset} of ${this.name}`);
    const end = offset + length;
    if (!Number.isSafeInteger(end)) throw new ImageError('storage/too-large', { found: end }, { file: this.name });
  }

  #checkWritable(offset: number, length: number): void {
    this.#check(offset, length);
    if (!this.writable) throw new ImageError('storage/read-only', {}, { file: this.name, offset });
  }

  #dropsBehind(): boolean {
    return this.#cache === 'none' || this.#cache === 'directsync';
  }

  #countForDrop(length: number): void {
    if (!this.#dropsBehind()) return;
    this.#sinceDrop += length;
    if (this.#sinceDrop < dropStep) return;
    this.#sinceDrop = 0;
    host().startWriteback(this.descriptor, 0, 0);
    host().dropCache(this.descriptor, 0, 0);
  }
}

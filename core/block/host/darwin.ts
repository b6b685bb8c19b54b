// macOS: extents, holes, preallocation, locks of an open file description, disks. Written from the headers of XNU.
import fs from 'node:fs';
import type { StorageExtent } from '../storage.ts';
import { alignDown, alignUp } from '../units.ts';
import type { HostCalls } from './calls.ts';
import { type ForeignCalls, type Koffi, Library, systemError } from './koffi.ts';
import { type LockConflict, lockBytes, type LockMode } from './locks.ts';
import { cannot, lockAnswer, SEEK_SET, seekExtent } from './posix.ts';

const seekValues = { data: 4, hole: 3 };
const F_PREALLOCATE = 42;
const F_RDAHEAD = 45;
const F_OFD_SETLK = 90;
const F_OFD_GETLK = 92;
const F_PUNCHHOLE = 99;
const F_ALLOCATEALL = 4;
const F_PEOFPOSMODE = 3;
const F_RDLCK = 1;
const F_UNLCK = 2;
const F_WRLCK = 3;
const DKIOCGETBLOCKSIZE = 0x40046418;
const DKIOCGETBLOCKCOUNT = 0x40086419;

// Variable arguments travel differently from named ones on Apple's ARM machines: the prototypes must say so.
const fcntl = 'int fcntl(int fd, int command, ...)';
const ioctl = 'int ioctl(int fd, unsigned long request, ...)';

/** The calls of macOS. */
export function darwinCalls(koffi: Koffi): HostCalls {
  return new DarwinCalls(new Library(koffi, null));
}

export class DarwinCalls implements HostCalls {
  readonly name = 'darwin';
  readonly #c: ForeignCalls;

  constructor(library: ForeignCalls) {
    this.#c = library;
  }

  extentAt(descriptor: number, offset: number, size: number): StorageExtent | null {
    return seekExtent(this.#c, seekValues, descriptor, offset, size);
  }

  /** Whole blocks of the file system only: what sticks out at either end is written as zeroes. */
  punchHole(descriptor: number, offset: number, length: number): boolean {
    const block = fs.fstatSync(descriptor).blksize;
    const end = offset + length;
    const from = Math.min(end, alignUp(offset, block));
    const to = Math.max(from, alignDown(end, block));
    if (to > from) {
      // fpunchhole_t: flags, reserved, offset, length
      const hole = Buffer.alloc(24);
      hole.writeBigInt64LE(BigInt(from), 8);
      hole.writeBigInt64LE(BigInt(to - from), 16);
      if (!this.#fcntl(descriptor, F_PUNCHHOLE, hole)) return cannot(this.#c, 'fcntl F_PUNCHHOLE');
    }
    writeZeroes(descriptor, offset, from - offset);
    writeZeroes(descriptor, to, end - to);
    return true;
  }

  zeroRange(): boolean {
    return false;
  }

  /** Space is reserved past what the file has already; a hole inside it stays one, so then this cannot be done. */
  allocate(descriptor: number, offset: number, length: number): boolean {
    const { blocks, size } = fs.fstatSync(descriptor);
    const has = Math.max(blocks * 512, 0);
    if (offset < size && has < size) return false;
    const wanted = offset + length - Math.max(has, size);
    if (wanted > 0) {
      // fstore_t: flags, position mode, offset, length, bytes allocated (out)
      const store = Buffer.alloc(32);
      store.writeUInt32LE(F_ALLOCATEALL, 0);
      store.writeInt32LE(F_PEOFPOSMODE, 4);
      store.writeBigInt64LE(BigInt(wanted), 16);
      if (!this.#fcntl(descriptor, F_PREALLOCATE, store)) return cannot(this.#c, 'fcntl F_PREALLOCATE');
    }
    if (offset + length > size) fs.ftruncateSync(descriptor, offset + length);
    return true;
  }

  /** APFS clones whole files by name only (`cloneFile`). */
  cloneRange(): boolean {
    return false;
  }

  copyRange(): number {
    return 0;
  }

  startWriteback(): void {}
  dropCache(): void {}

  shapeNew(): void {}

  adviseSequential(descriptor: number): void {
    this.#c.call(fcntl, descriptor, F_RDAHEAD, 'int', 1);
  }

  lock(descriptor: number, mode: LockMode): LockConflict | null {
    // struct flock: start, length, pid, short type, short whence
    const flock = Buffer.alloc(24);
    const ask = (command: number, type: number, byte: number): 'done' | 'busy' | 'no locks here' => {
      flock.fill(0);
      flock.writeBigInt64LE(BigInt(byte), 0);
      flock.writeBigInt64LE(1n, 8);
      flock.writeInt16LE(type, 20);
      flock.writeInt16LE(SEEK_SET, 22);
      if (this.#fcntl(descriptor, command, flock)) return 'done';
      return lockAnswer(this.#c, 'fcntl F_OFD_SETLK');
    };
    const locks = {
      take: (byte: number) => ask(F_OFD_SETLK, F_RDLCK, byte) !== 'busy',
      isFree: (byte: number) => ask(F_OFD_GETLK, F_WRLCK, byte) !== 'done' || flock.readInt16LE(20) === F_UNLCK,
      release: (byte: number) => void ask(F_OFD_SETLK, F_UNLCK, byte),
    };
    return lockBytes(locks, mode);
  }

  deviceSize(descriptor: number): number {
    const count = Buffer.alloc(8);
    if (this.#c.call(ioctl, descriptor, DKIOCGETBLOCKCOUNT, 'void *', count) !== 0) {
      throw systemError('ioctl DKIOCGETBLOCKCOUNT', this.#c.lastError());
    }
    return Number(count.readBigUInt64LE()) * this.deviceSectorSize(descriptor);
  }

  deviceSectorSize(descriptor: number): number {
    const size = Buffer.alloc(4);
    const known = this.#c.call(ioctl, descriptor, DKIOCGETBLOCKSIZE, 'void *', size) === 0;
    return known ? Math.max(512, size.readUInt32LE()) : 512;
  }

  zeroDevice(): boolean {
    return false;
  }

  #fcntl(descriptor: number, command: number, argument: Buffer): boolean {
    return this.#c.call(fcntl, descriptor, command, 'void *', argument) !== -1;
  }
}

function writeZeroes(descriptor: number, offset: number, length: number): void {
  if (length > 0) fs.writeSync(descriptor, new Uint8Array(length), 0, length, offset);
}

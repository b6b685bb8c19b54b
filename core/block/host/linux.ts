// Linux: extents, holes, reflinks, in-kernel copies, locks of an open file description, block devices.
import type { StorageExtent } from '../storage.ts';
import type { FileShape, HostCalls } from './calls.ts';
import { type ForeignCalls, type Koffi, Library, systemError } from './koffi.ts';
import { type LockConflict, lockBytes, type LockMode } from './locks.ts';
import { cannot, lockAnswer, lseek, SEEK_END, SEEK_SET, seekExtent } from './posix.ts';

// Values of the kernel's generic ABI; `linuxCalls` answers null on machines that have others.
const seekValues = { data: 3, hole: 4 };
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
const FICLONERANGE = 0x4020940d;
const BLKSSZGET = 0x1268;
const BLKZEROOUT = 0x127f;
const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_NOCOW_FL = 0x00800000;
const FS_IOC_FSGETXATTR = 0x801c581f;
const FS_IOC_FSSETXATTR = 0x401c5820;
const FS_XFLAG_EXTSIZE = 0x00000800;
const SYNC_FILE_RANGE_WRITE = 2;
const POSIX_FADV_SEQUENTIAL = 2;
const POSIX_FADV_DONTNEED = 4;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

const machines = new Set(['x64', 'arm64', 'riscv64', 'loong64']);

const fallocate = 'int fallocate(int fd, int mode, int64_t offset, int64_t length)';
const ioctl = 'int ioctl(int fd, unsigned long request, void *argument)';
const fcntl = 'int fcntl(int fd, int command, void *argument)';
const copyFileRange =
  'int64_t copy_file_range(int from, void *from_offset, int to, void *to_offset, size_t length, unsigned int flags)';
const syncFileRange = 'int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)';
const posixFadvise = 'int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)';

/** The calls of Linux, or null on a machine whose constants or word size are not the ones above. */
export function linuxCalls(koffi: Koffi): HostCalls | null {
  return machines.has(process.arch) ? new LinuxCalls(new Library(koffi, null)) : null;
}

class LinuxCalls implements HostCalls {
  readonly name = 'linux';
  readonly #c: ForeignCalls;

  constructor(library: ForeignCalls) {
    this.#c = library;
  }

  extentAt(descriptor: number, offset: number, size: number): StorageExtent | null {
    return seekExtent(this.#c, seekValues, descriptor, offset, size);
  }

  punchHole(descriptor: number, offset: number, length: number): boolean {
    return this.#fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }

  zeroRange(descriptor: number, offset: number, length: number): boolean {
    return this.#fallocate(descriptor, FALLOC_FL_ZERO_RANGE, offset, length);
  }

  allocate(descriptor: number, offset: number, length: number): boolean {
    return this.#fallocate(descriptor, 0, offset, length);
  }

  cloneRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): boolean {
    // struct file_clone_range: src_fd, src_offset, src_length, dest_offset; 64 bits each
    const range = Buffer.alloc(32);
    range.writeBigInt64LE(BigInt(from), 0);
    range.writeBigUInt64LE(BigInt(fromOffset), 8);
    range.writeBigUInt64LE(BigInt(length), 16);
    range.writeBigUInt64LE(BigInt(toOffset), 24);
    return this.#c.call(ioctl, to, FICLONERANGE, range) === 0 || cannot(this.#c, 'ioctl FICLONERANGE');
  }

  copyRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
    const source = Buffer.alloc(8);
    source.writeBigInt64LE(BigInt(fromOffset));
    const target = Buffer.alloc(8);
    target.writeBigInt64LE(BigInt(toOffset));
    const done = this.#c.call(copyFileRange, from, source, to, target, length, 0);
    if (done < 0) cannot(this.#c, 'copy_file_range');
    return Math.max(0, done);
  }

  startWriteback(descriptor: number, offset: number, length: number): void {
    this.#c.call(syncFileRange, descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
  }

  dropCache(descriptor: number, offset: number, length: number): void {
    this.#c.call(posixFadvise, descriptor, offset, length, POSIX_FADV_DONTNEED);
  }

  adviseSequential(descriptor: number): void {
    this.#c.call(posixFadvise, descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  }

  shapeNew(descriptor: number, { noCow, extentSizeHint }: FileShape): void {
    if (noCow) {
      const flags = Buffer.alloc(8);
      if (this.#c.call(ioctl, descriptor, FS_IOC_GETFLAGS, flags) === 0) {
        flags.writeUInt32LE((flags.readUInt32LE(0) | FS_NOCOW_FL) >>> 0, 0);
        this.#c.call(ioctl, descriptor, FS_IOC_SETFLAGS, flags);
      }
    }
    if (extentSizeHint > 0) {
      // struct fsxattr: flags, extent size, extents, project, cow extent size; 32 bits each, then 8 bytes of padding
      const attributes = Buffer.alloc(28);
      if (this.#c.call(ioctl, descriptor, FS_IOC_FSGETXATTR, attributes) === 0) {
        attributes.writeUInt32LE((attributes.readUInt32LE(0) | FS_XFLAG_EXTSIZE) >>> 0, 0);
        attributes.writeUInt32LE(extentSizeHint >>> 0, 4);
        this.#c.call(ioctl, descriptor, FS_IOC_FSSETXATTR, attributes);
      }
    }
  }

  lock(descriptor: number, mode: LockMode): LockConflict | null {
    // struct flock: short type, short whence, 4 bytes of padding, start, length, pid, padding
    const flock = Buffer.alloc(32);
    const ask = (command: number, type: number, byte: number): 'done' | 'busy' | 'no locks here' => {
      flock.fill(0);
      flock.writeInt16LE(type, 0);
      flock.writeInt16LE(SEEK_SET, 2);
      flock.writeBigInt64LE(BigInt(byte), 8);
      flock.writeBigInt64LE(1n, 16);
      if (this.#c.call(fcntl, descriptor, command, flock) === 0) return 'done';
      return lockAnswer(this.#c, 'fcntl F_OFD_SETLK');
    };
    const locks = {
      take: (byte: number) => ask(F_OFD_SETLK, F_RDLCK, byte) !== 'busy',
      // The question "could I write-lock it?" is answered in the structure: F_UNLCK for yes, else somebody's lock.
      isFree: (byte: number) => ask(F_OFD_GETLK, F_WRLCK, byte) !== 'done' || flock.readInt16LE(0) === F_UNLCK,
      release: (byte: number) => void ask(F_OFD_SETLK, F_UNLCK, byte),
    };
    return lockBytes(locks, mode);
  }

  deviceSize(descriptor: number): number {
    const size = this.#c.call(lseek, descriptor, 0, SEEK_END);
    if (size < 0) throw systemError('lseek', this.#c.lastError());
    return size;
  }

  deviceSectorSize(descriptor: number): number {
    const size = Buffer.alloc(8);
    return this.#c.call(ioctl, descriptor, BLKSSZGET, size) === 0 ? Math.max(512, size.readInt32LE(0)) : 512;
  }

  zeroDevice(descriptor: number, offset: number, length: number, discard: boolean): boolean {
    // A hole in a device is a discard that is promised to read as zeroes; the kernel refuses where the device does not promise.
    if (discard && this.punchHole(descriptor, offset, length)) return true;
    const range = Buffer.alloc(16);
    range.writeBigUInt64LE(BigInt(offset), 0);
    range.writeBigUInt64LE(BigInt(length), 8);
    return this.#c.call(ioctl, descriptor, BLKZEROOUT, range) === 0 || cannot(this.#c, 'ioctl BLKZEROOUT');
  }

  #fallocate(descriptor: number, mode: number, offset: number, length: number): boolean {
    for (;;) {
      if (this.#c.call(fallocate, descriptor, mode, offset, length) === 0) return true;
      if (this.#c.lastError() !== 'EINTR') return cannot(this.#c, 'fallocate');
    }
  }
}

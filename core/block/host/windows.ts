// Windows: sparse files, block cloning, locks, disks. Written from Microsoft's documentation of the control codes.
import fs from 'node:fs';
import type { StorageExtent } from '../storage.ts';
import type { HostCalls } from './calls.ts';
import { type ForeignCalls, type Koffi, Library, systemError } from './koffi.ts';
import type { LockConflict, LockMode } from './locks.ts';

const FSCTL_SET_SPARSE = 0x000900c4;
const FSCTL_SET_ZERO_DATA = 0x000980c8;
const FSCTL_QUERY_ALLOCATED_RANGES = 0x000940cf;
const FSCTL_DUPLICATE_EXTENTS_TO_FILE = 0x00098344;
const IOCTL_DISK_GET_LENGTH_INFO = 0x0007405c;
const IOCTL_DISK_GET_DRIVE_GEOMETRY = 0x00070000;
const FileAllocationInfo = 5;
const LOCKFILE_FAIL_IMMEDIATELY = 1;
const LOCKFILE_EXCLUSIVE_LOCK = 2;

const ERROR_NOT_READY = 21;
const ERROR_LOCK_VIOLATION = 33;
const ERROR_MORE_DATA = 234;
const ERROR_IO_PENDING = 997;

/** ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, ERROR_INVALID_PARAMETER, ERROR_NOT_SAME_DEVICE, ERROR_BLOCK_TOO_MANY_REFERENCES. */
const unsupported = new Set([1, 50, 87, 17, 347]);
/** The errno names that messages know: ERROR_ACCESS_DENIED, ERROR_WRITE_PROTECT, ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL. */
const errnoNames: Readonly<Record<number, string>> = {
  5: 'EACCES',
  19: 'EROFS',
  [ERROR_NOT_READY]: 'ENXIO',
  39: 'ENOSPC',
  112: 'ENOSPC',
};

/** Far beyond any file: locks are mandatory here, and where no bytes are they keep nobody from reading. */
const lockOffsetHigh = 0x40000000;

const deviceIoControl =
  'int __stdcall DeviceIoControl(intptr_t device, uint32_t code, void *in, uint32_t in_size, void *out, uint32_t out_size, void *returned, void *overlapped)';
const lockFileEx =
  'int __stdcall LockFileEx(intptr_t file, uint32_t flags, uint32_t reserved, uint32_t low, uint32_t high, void *overlapped)';
const setFileInformation =
  'int __stdcall SetFileInformationByHandle(intptr_t file, int information_class, void *information, uint32_t size)';
const getLastError = 'uint32_t __stdcall GetLastError()';
// The C library's table of descriptors is the one inside the executable: only its own export can look into it.
const getHandle = 'intptr_t uv_get_osfhandle(int fd)';

/** The calls of Windows. */
export function windowsCalls(koffi: Koffi): HostCalls {
  return new WindowsCalls(new Library(koffi, null), new Library(koffi, 'kernel32.dll'));
}

export class WindowsCalls implements HostCalls {
  readonly name = 'windows';
  readonly #executable: ForeignCalls;
  readonly #kernel: ForeignCalls;

  constructor(executable: ForeignCalls, kernel: ForeignCalls) {
    this.#executable = executable;
    this.#kernel = kernel;
  }

  extentAt(descriptor: number, offset: number, size: number): StorageExtent | null {
    // FILE_ALLOCATED_RANGE_BUFFER: offset, length; in: the stretch asked about, out: the first allocated one in it
    const asked = twoNumbers(offset, size - offset);
    const found = Buffer.alloc(16);
    const { error, returned } = this.#control(descriptor, FSCTL_QUERY_ALLOCATED_RANGES, asked, found);
    if (error !== 0 && error !== ERROR_MORE_DATA) return null;
    if (returned < 16) return { kind: 'hole', length: size - offset };
    const start = Number(found.readBigInt64LE(0));
    const end = start + Number(found.readBigInt64LE(8));
    if (start > offset) return { kind: 'hole', length: Math.min(start, size) - offset };
    return end <= offset ? null : { kind: 'data', length: Math.min(end, size) - offset };
  }

  punchHole(descriptor: number, offset: number, length: number): boolean {
    return this.#makeSparse(descriptor) && this.zeroRange(descriptor, offset, length);
  }

  zeroRange(descriptor: number, offset: number, length: number): boolean {
    // FILE_ZERO_DATA_INFORMATION: first byte, first byte beyond
    const stretch = twoNumbers(offset, offset + length);
    return this.#done('FSCTL_SET_ZERO_DATA', this.#control(descriptor, FSCTL_SET_ZERO_DATA, stretch).error);
  }

  /** NTFS reserves for the file as a whole, from its start; a stretch inside it is not something it can be asked for. */
  allocate(descriptor: number, offset: number, length: number): boolean {
    const { size } = fs.fstatSync(descriptor);
    if (offset < size) return false;
    const information = Buffer.alloc(8);
    information.writeBigInt64LE(BigInt(offset + length));
    const handle = this.#handle(descriptor);
    const done = this.#kernel.call(setFileInformation, handle, FileAllocationInfo, information, 8) !== 0;
    if (!this.#done('SetFileInformationByHandle', done ? 0 : this.#lastError())) return false;
    fs.ftruncateSync(descriptor, offset + length);
    return true;
  }

  cloneRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): boolean {
    // DUPLICATE_EXTENTS_DATA: source handle, source offset, target offset, length
    const extents = Buffer.alloc(32);
    extents.writeBigInt64LE(BigInt(this.#handle(from)), 0);
    extents.writeBigInt64LE(BigInt(fromOffset), 8);
    extents.writeBigInt64LE(BigInt(toOffset), 16);
    extents.writeBigInt64LE(BigInt(length), 24);
    const { error } = this.#control(to, FSCTL_DUPLICATE_EXTENTS_TO_FILE, extents);
    return this.#done('FSCTL_DUPLICATE_EXTENTS_TO_FILE', error);
  }

  copyRange(): number {
    return 0;
  }

  startWriteback(): void {}
  dropCache(): void {}
  adviseSequential(): void {}

  shapeNew(): void {}

  /**
   * There are no byte locks of qemu's to agree with here: readers share one lock, a writer has it alone. Who bears other writers
   * takes none.
   */
  lock(descriptor: number, mode: LockMode): LockConflict | null {
    if (mode !== 'read' && mode !== 'write') return null;
    // OVERLAPPED: two internal words of 64 bits, offset low, offset high, event
    const overlapped = Buffer.alloc(32);
    overlapped.writeUInt32LE(lockOffsetHigh, 20);
    const flags = LOCKFILE_FAIL_IMMEDIATELY | (mode === 'write' ? LOCKFILE_EXCLUSIVE_LOCK : 0);
    if (this.#kernel.call(lockFileEx, this.#handle(descriptor), flags, 0, 1, 0, overlapped) !== 0) return null;
    const error = this.#lastError();
    if (error === ERROR_LOCK_VIOLATION || error === ERROR_IO_PENDING) {
      return { permission: 'write', exclusive: mode === 'write' };
    }
    this.#done('LockFileEx', error);
    return null;
  }

  deviceSize(descriptor: number): number {
    const length = Buffer.alloc(8);
    const { error } = this.#control(descriptor, IOCTL_DISK_GET_LENGTH_INFO, null, length);
    if (error !== 0) throw windowsError('IOCTL_DISK_GET_LENGTH_INFO', error);
    return Number(length.readBigInt64LE());
  }

  deviceSectorSize(descriptor: number): number {
    // DISK_GEOMETRY: cylinders (64 bits), media type, tracks per cylinder, sectors per track, bytes per sector
    const geometry = Buffer.alloc(24);
    const { error } = this.#control(descriptor, IOCTL_DISK_GET_DRIVE_GEOMETRY, null, geometry);
    return error === 0 ? Math.max(512, geometry.readUInt32LE(20)) : 512;
  }

  zeroDevice(): boolean {
    return false;
  }

  #makeSparse(descriptor: number): boolean {
    return this.#done('FSCTL_SET_SPARSE', this.#control(descriptor, FSCTL_SET_SPARSE, null).error);
  }

  #handle(descriptor: number): number {
    const handle = this.#executable.call(getHandle, descriptor);
    if (handle === -1) throw systemError('uv_get_osfhandle', 'EBADF');
    return handle;
  }

  #control(
    descriptor: number,
    code: number,
    given: Buffer | null,
    answer: Buffer | null = null,
  ): { error: number; returned: number } {
    const returned = Buffer.alloc(4);
    const done = this.#kernel.call(
      deviceIoControl,
      this.#handle(descriptor),
      code,
      given,
      given?.length ?? 0,
      answer,
      answer?.length ?? 0,
      returned,
      null,
    );
    return { error: done === 0 || done === -1 ? this.#lastError() : 0, returned: returned.readUInt32LE() };
  }

  #lastError(): number {
    return this.#kernel.call(getLastError);
  }

  #done(call: string, error: number): boolean {
    if (error === 0) return true;
    if (unsupported.has(error)) return false;
    throw windowsError(call, error);
  }
}

function windowsError(call: string, error: number): Error {
  return systemError(`${call} (Windows error ${error})`, errnoNames[error] ?? 'EIO');
}

function twoNumbers(first: number, second: number): Buffer {
  const buffer = Buffer.alloc(16);
  buffer.writeBigInt64LE(BigInt(first), 0);
  buffer.writeBigInt64LE(BigInt(second), 8);
  return buffer;
}

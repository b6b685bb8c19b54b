// What a host can do with an open file beyond what Node offers: one interface, four implementations.
import type { StorageExtent } from '../storage.ts';
import type { LockConflict, LockMode } from './locks.ts';

/** Properties that a file takes only while it is empty. */
export interface FileShape {
  /** Overwrite in place instead of copy-on-write (Btrfs). */
  readonly noCow: boolean;
  /** Set space aside in pieces of this many bytes (XFS); 0: as the file system likes. */
  readonly extentSizeHint: number;
}

/**
 * Calls on open descriptors. Offsets and lengths are bytes. A call that this host, this file system or this file cannot do
 * answers `false`, `0` or `null`: the caller has another way. A call that was possible and failed throws a system error (`code` is
 * the errno's name), which `fromSystem` turns into an `ImageError`.
 */
export interface HostCalls {
  readonly name: 'linux' | 'darwin' | 'windows' | 'fallback';

  /** What lies at `offset` of a file of `size` bytes (`offset < size`) and how far it goes on; null: cannot tell. */
  extentAt(descriptor: number, offset: number, size: number): StorageExtent | null;
  /** Makes the stretch, which lies within the file, a hole. */
  punchHole(descriptor: number, offset: number, length: number): boolean;
  /** Makes the stretch, which lies within the file, read as zeroes; its space may stay reserved. */
  zeroRange(descriptor: number, offset: number, length: number): boolean;
  /** Reserves space for the stretch and grows the file to hold it; what is there stays. */
  allocate(descriptor: number, offset: number, length: number): boolean;
  /** Shares the blocks of a stretch of one file with another. Everything must be aligned to the blocks of the file system. */
  cloneRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): boolean;
  /** Copies bytes inside the host, `length` at most; how many were copied. */
  copyRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number;

  /** Starts writing a stretch of dirty pages to the disk and does not wait for it. */
  startWriteback(descriptor: number, offset: number, length: number): void;
  /** The cache may forget a stretch (what is dirty stays); `length` 0: to the end of the file. */
  dropCache(descriptor: number, offset: number, length: number): void;
  /** The file will be read from front to back. */
  adviseSequential(descriptor: number): void;
  /** What an empty file should be like on its file system, as far as that knows such things; never throws. */
  shapeNew(descriptor: number, shape: FileShape): void;

  /** Takes the locks of `mode`, all or none. They go with the descriptor. */
  lock(descriptor: number, mode: LockMode): LockConflict | null;

  /** Bytes of a block device. */
  deviceSize(descriptor: number): number;
  /** Bytes of a sector as the device addresses them. */
  deviceSectorSize(descriptor: number): number;
  /** Makes sectors of a block device read as zeroes, giving their space back if `discard`. */
  zeroDevice(descriptor: number, offset: number, length: number, discard: boolean): boolean;
}

// Storage: bytes on the host. What a file, a block device and a buffer have in common.
import type { HostOffset } from './units.ts';

/** A stretch of a file that holds bytes, or one the file system keeps no bytes for (it reads as zeroes). */
export interface StorageExtent {
  readonly kind: 'data' | 'hole';
  readonly length: number;
}

/** How a stretch of a file is to be provided for before it is written. */
export type Provision = 'falloc' | 'full';

/**
 * Bytes on the host. All calls are synchronous and complete or throw an `ImageError`.
 * The bulk plane (`block/copy`) uses `descriptor` for overlapped transfers of guest data; metadata always goes through the
 * calls here.
 */
export interface Storage {
  /** The name as it was given, for messages. */
  readonly name: string;
  readonly size: number;
  readonly writable: boolean;
  /** File descriptor for overlapped transfers; null where there is none (memory, overlays in memory). */
  readonly descriptor: number | null;
  /** Equal for two names of one file (`device:inode`); null where that has no meaning. */
  readonly identity: string | null;

  /** Fills `into` completely. Throws `storage/short-read` past the end, `storage/read`. */
  readAt(into: Uint8Array, offset: HostOffset): void;
  /** Writes all of `from`, growing the file if need be. Throws `storage/write`, `storage/read-only`. */
  writeAt(from: Uint8Array, offset: HostOffset): void;
  /** Makes `size` the length of the file; what is added reads as zeroes. Throws `storage/truncate`. */
  truncate(size: number): void;
  /** What was written before survives a power cut after this. Throws `storage/flush`. */
  flush(): void;
  close(): void;
  /** The bulk plane wrote this stretch through `descriptor`: sizes and cached extents follow. */
  noteWritten?(offset: HostOffset, length: number): void;

  /** The kind of the bytes at `offset` and how far (at most `limit` bytes) it goes on. A storage that cannot tell says data. */
  extentAt(offset: HostOffset, limit: number): StorageExtent;
  /** Makes a stretch read as zeroes and gives its space back where the host can; grows the file if it lies past the end. */
  zeroAt(offset: HostOffset, length: number): void;
  /**
   * Nothing refers to this stretch any more, and what says so lasts: its space may be given back now, later (after a change that could
   * still be taken back), or never. It reads as anything. Absent: never.
   */
  discard?(offset: HostOffset, length: number): void;
  /** Provides space for a stretch (`falloc`: reserved; `full`: zeroes written). The file grows to hold it. */
  provide(offset: HostOffset, length: number, how: Provision): void;
  /** Bytes the host has set aside for this file (`st_blocks * 512`); `size` where that has no meaning. */
  allocated(): number;
}

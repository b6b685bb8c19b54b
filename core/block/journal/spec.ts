// The undo journal on disk: the head of the file, the head of a record, and what the records of each kind carry. See docs/journal.md.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bits64, bytes, u32, u64 } from '../../bytes/types.ts';

export const journalMagic = 'PLATUNDO';
export const journalVersion = 1;

export const headStruct = struct('Journal', 'little', 64, {
  magic: field(0, ascii(8), 'PLATUNDO'),
  version: field(8, u32, 'version of this layout'),
  nonce: field(
    12,
    u32,
    'start value of every checksum in this file: what an older journal left on the disk does not pass',
  ),
  time: field(16, u64, 'when the verb began, milliseconds since 1970'),
  reserved: field(24, bytes(36), 'zero'),
  checksum: field(60, u32, 'CRC-32C of the 60 bytes before'),
});

/** What a record says. The numbers stand in files. */
export const recordType = {
  /** Payload: JSON with `verb`, `command`, `program`. */
  about: 1,
  /** A file of the image: payload `fileStruct`, then its role and its path as UTF-8. */
  file: 2,
  /** Payload: the `length` bytes that stood at `offset` before the verb. */
  old: 3,
  /** The `length` bytes at `offset` were zeroes before the verb. */
  hole: 4,
  /** Payload: CRC-32C of each sector from `offset` on (`length` bytes) as the verb is about to leave it. */
  fresh: 5,
  /** The verb is about to make the `length` bytes at `offset` zeroes, or to cut them off. */
  zeroed: 6,
  /** What stands before is complete: its changes may be made now. */
  commit: 7,
  /** The verb is still at work beyond the old end of its files. */
  alive: 8,
  /** The verb has finished: payload `resultStruct` for each file, in the order of their ids. */
  done: 9,
  /** The verb is being taken back: as if it had never finished. */
  undoing: 10,
  /**
   * All changes are made, and those of other images are finished together with these. Payload: JSON with `id` and `members`, paths. When
   * the journal of the first member is done, all are.
   */
  group: 11,
} as const;

export const recordMagic = 0x524a4c50;

export const recordStruct = struct('Record', 'little', 48, {
  magic: field(0, u32, 'PLJR'),
  type: field(4, u32, 'kind of record', { min: 1, max: 11 }),
  file: field(8, u32, 'id of the file: the place of its record among those of files'),
  batch: field(
    12,
    u32,
    'number of the batch, from 1; a batch ends with a record of the kind commit, alive, done or undoing',
  ),
  offset: field(16, u64, 'byte offset in the file'),
  length: field(24, u64, 'bytes of the file that are meant'),
  payload_length: field(32, u32, 'bytes behind this head; the next record begins at the next multiple of 16', {
    max: 2 ** 21,
  }),
  payload_checksum: field(36, u32, 'CRC-32C of the payload, from the nonce on'),
  reserved: field(40, u32, 'zero'),
  checksum: field(44, u32, 'CRC-32C of the 44 bytes before, from the nonce on'),
});
export type RecordHead = ValuesOf<typeof recordStruct>;

export const fileStruct = struct('JournalFile', 'little', 40, {
  inode: field(0, bits64, 'number of the file in its file system'),
  born: field(8, bits64, 'when the file was created, nanoseconds; 0: the file system does not say'),
  size: field(16, u64, 'bytes before the verb'),
  modified: field(24, bits64, 'when it was last changed before the verb, nanoseconds'),
  role_length: field(32, u32, 'bytes of the role', { max: 256 }),
  path_length: field(36, u32, 'bytes of the path, which starts at the folder of the journal', { max: 8192 }),
});

export const resultStruct = struct('JournalResult', 'little', 24, {
  size: field(0, u64, 'bytes after the verb'),
  modified: field(8, bits64, 'when it was last changed, nanoseconds'),
  changed: field(16, bits64, 'when it or its inode was last changed, nanoseconds'),
});

/** Checksums of new content stand for so many bytes: what a disk writes whole or not at all. */
export const sectorSize = 512;
/** The most bytes of a file that one record of old bytes holds, and the alignment of records. */
export const largestPiece = 1024 * 1024;
export const recordAlignment = 16;
/** A longer file, or one with more records, is none of ours. */
export const largestJournal = 3 * 1024 ** 3;
export const mostRecords = 2 ** 21;

/** `offset` of a record `file`: the verb made it. Otherwise 0. */
export const madeByVerb = 1;

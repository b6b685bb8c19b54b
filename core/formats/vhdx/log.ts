// The log (2.3): which of its entries are valid, which of them form the active sequence, and what these change in the file.
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { crc32c, crc32cWithHole } from '../../bytes/checksum.ts';
import { ImageError, isImageError } from '../../errors/image-error.ts';
import {
  dataDescriptor,
  descriptorLength,
  firstLoggable,
  logEntryHeader,
  logSectorLength,
  maxVirtualSize,
  zeroDescriptor,
  zeroGuid,
  type Header,
  type LogEntryHeader,
} from './spec.ts';

const entrySignature = 0x65676f6c; // 'loge'
const zeroSignature = 0x6f72657a; // 'zero'
const dataSignature = 0x63736564; // 'desc'
const sectorSignature = 0x61746164; // 'data'
const windowLength = 1024 * 1024;

/** A valid entry: `at` is its offset within the log. */
export interface LogEntry {
  readonly at: number;
  readonly header: LogEntryHeader;
}

/** The entries to be replayed, oldest first. */
export interface LogSequence {
  readonly entries: readonly LogEntry[];
  readonly head: LogEntry;
}

/** One change that an entry makes to the file. A data sector's middle stands at `from` of the file, its ends in the descriptor. */
export type LogChange =
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | { readonly kind: 'data'; readonly offset: number; readonly from: number; readonly ends: Uint8Array };

/** True when the header says that there is a log to be replayed. */
export function hasLog(header: Header): boolean {
  return header.LogGuid !== zeroGuid && header.LogLength > 0;
}

/** The bytes of the circular log, read in large pieces. */
export class LogArea {
  readonly storage: Storage;
  readonly offset: number;
  readonly length: number;
  readonly guid: string;
  readonly #window = new Uint8Array(windowLength);
  #windowAt = -1;

  constructor(storage: Storage, header: Header) {
    this.storage = storage;
    this.offset = header.LogOffset;
    this.length = header.LogLength;
    this.guid = header.LogGuid;
  }

  /** Offset within the log, `distance` behind `at`, around the end. */
  step(at: number, distance: number): number {
    return (at + distance) % this.length;
  }

  /** The sector at `at`; valid until the next call. */
  sector(at: number): Uint8Array {
    const start = at - (at % windowLength);
    if (start !== this.#windowAt) {
      this.#windowAt = -1;
      this.storage.readAt(this.#window, this.offset + start);
      this.#windowAt = start;
    }
    return this.#window.subarray(at - start, at - start + logSectorLength);
  }
}

function view(sector: Uint8Array): DataView {
  return new DataView(sector.buffer, sector.byteOffset, sector.length);
}

/** Bytes of the sectors that the header and `count` descriptors of an entry take. */
export function descriptorArea(count: number): number {
  return alignUp(logEntryHeader.size + count * descriptorLength, logSectorLength);
}

/**
 * The entry at `at`, or null where none is valid: signature, GUID, lengths, every descriptor, every data sector, checksum (2.3.1).
 * Nothing is read beyond what the entry's length, itself bounded by the log, can hold.
 */
function validEntry(log: LogArea, at: number): LogEntry | null {
  const first = log.sector(at).slice();
  if (view(first).getUint32(0, true) !== entrySignature) return null;
  const header = parseEntryHeader(first);
  if (header === null || header.LogGuid !== log.guid || header.SequenceNumber === 0n) return null;
  const { EntryLength, DescriptorCount, Tail } = header;
  if (EntryLength === 0 || EntryLength % logSectorLength !== 0 || EntryLength > log.length) return null;
  if (Tail >= log.length || Tail % logSectorLength !== 0) return null;
  if (DescriptorCount > (EntryLength - logEntryHeader.size) / descriptorLength) return null;
  const area = descriptorArea(DescriptorCount);
  let sum = crc32cWithHole(first, logEntryHeader.fields.Checksum.offset);
  let sector: Uint8Array = first;
  let dataSectors = 0;
  for (let index = 0; index < DescriptorCount; index++) {
    const within = logEntryHeader.size + index * descriptorLength;
    if (within % logSectorLength === 0) {
      sector = log.sector(log.step(at, within));
      sum = crc32c(sector, sum);
    }
    const kind = descriptorKind(log, sector.subarray(within % logSectorLength), header.SequenceNumber);
    if (kind === null) return null;
    if (kind === 'data') dataSectors++;
  }
  if (EntryLength !== area + dataSectors * logSectorLength) return null;
  const high = Number(header.SequenceNumber >> 32n);
  const low = Number(header.SequenceNumber & 0xffffffffn);
  for (let index = 0; index < dataSectors; index++) {
    const data = log.sector(log.step(at, area + index * logSectorLength));
    const fields = view(data);
    if (fields.getUint32(0, true) !== sectorSignature) return null;
    if (fields.getUint32(4, true) !== high || fields.getUint32(4092, true) !== low) return null;
    sum = crc32c(data, sum);
  }
  return sum === header.Checksum ? { at, header } : null;
}

function parseEntryHeader(sector: Uint8Array): LogEntryHeader | null {
  try {
    return logEntryHeader.parseLoosely(sector);
  } catch (error) {
    if (isImageError(error, 'storage/too-large')) return null;
    throw error;
  }
}

/** What a descriptor is; null: it is not valid. Nothing may write to the headers or into the log itself. */
function descriptorKind(log: LogArea, bytes: Uint8Array, sequence: bigint): 'zero' | 'data' | null {
  const fields = view(bytes.subarray(0, descriptorLength));
  const signature = fields.getUint32(0, true);
  if (signature !== zeroSignature && signature !== dataSignature) return null;
  if (fields.getBigUint64(24, true) !== sequence) return null;
  const zero = signature === zeroSignature;
  const offset = Number(fields.getBigUint64(16, true));
  const length = zero ? Number(fields.getBigUint64(8, true)) : logSectorLength;
  if (offset % logSectorLength !== 0 || length % logSectorLength !== 0 || offset < firstLoggable) return null;
  if (!Number.isSafeInteger(offset + length)) return null;
  if (offset < log.offset + log.length && offset + length > log.offset) return null;
  return zero ? 'zero' : 'data';
}

/**
 * The active sequence (2.3.2): of all runs of valid entries with consecutive numbers the one with the largest number, from the entry
 * that its last one names as tail. Null: no entry is valid; QEMU leaves such a log when it ends between header and entry, and the file
 * is as the log's writer found it. Throws `vhdx/log-truncated`.
 */
export function activeSequence(storage: Storage, header: Header): LogSequence | null {
  if (!hasLog(header)) return null;
  const log = new LogArea(storage, header);
  let best: LogSequence | null = null;
  let at = 0;
  for (;;) {
    const run = runFrom(log, at);
    const last = run.at(-1);
    if (last === undefined) {
      at += logSectorLength;
      if (at >= log.length) break;
      continue;
    }
    const tail = run.findIndex((entry) => entry.at === last.header.Tail);
    if (tail >= 0 && (best === null || last.header.SequenceNumber > best.head.header.SequenceNumber)) {
      best = { entries: run.slice(tail), head: last };
    }
    const next = log.step(last.at, last.header.EntryLength);
    if (next <= at) break;
    at = next;
  }
  if (best !== null) checkFileLength(storage, best.head.header);
  return best;
}

/** Valid entries from `at` on with consecutive sequence numbers, at most once around the log. */
function runFrom(log: LogArea, at: number): LogEntry[] {
  const run: LogEntry[] = [];
  let used = 0;
  let next = at;
  let expected: bigint | null = null;
  for (;;) {
    const entry = validEntry(log, next);
    if (entry === null || (expected !== null && entry.header.SequenceNumber !== expected)) return run;
    used += entry.header.EntryLength;
    if (used > log.length) return run;
    run.push(entry);
    next = log.step(next, entry.header.EntryLength);
    expected = entry.header.SequenceNumber + 1n;
    if (used === log.length) return run;
  }
}

function checkFileLength(storage: Storage, head: LogEntryHeader): void {
  const where = { file: storage.name, field: 'FlushedFileOffset' };
  if (head.FlushedFileOffset > storage.size) {
    const detail = { expected: head.FlushedFileOffset, found: storage.size };
    throw new ImageError('vhdx/log-truncated', detail, where);
  }
  if (head.LastFileOffset > 2 * maxVirtualSize) {
    const detail = { offset: head.LastFileOffset, size: 2 * maxVirtualSize };
    throw new ImageError('vhdx/log-outside', detail, { ...where, field: 'LastFileOffset' });
  }
}

/** The length that the file has once the sequence is replayed. */
export function lengthAfter(storage: Storage, sequence: LogSequence): number {
  return Math.max(storage.size, sequence.head.header.LastFileOffset);
}

/** What the entry changes, in its order. Throws `vhdx/log-outside` for a change beyond `fileLength`. */
export function* changesOf(log: LogArea, entry: LogEntry, fileLength: number): Generator<LogChange, void, void> {
  const { DescriptorCount } = entry.header;
  let data = log.step(entry.at, descriptorArea(DescriptorCount));
  for (let index = 0; index < DescriptorCount; index++) {
    const within = logEntryHeader.size + index * descriptorLength;
    const place = log.step(entry.at, within - (within % logSectorLength));
    const bytes = log.sector(place).subarray(within % logSectorLength, (within % logSectorLength) + descriptorLength);
    const zero = view(bytes).getUint32(0, true) === zeroSignature;
    let change: LogChange;
    if (zero) {
      const fields = zeroDescriptor.parse(bytes);
      change = { kind: 'zero', offset: fields.FileOffset, length: fields.ZeroLength };
    } else {
      const fields = dataDescriptor.parse(bytes);
      const ends = new Uint8Array(12);
      ends.set(fields.LeadingBytes);
      ends.set(fields.TrailingBytes, 8);
      change = { kind: 'data', offset: fields.FileOffset, from: log.offset + data, ends };
      data = log.step(data, logSectorLength);
    }
    const length = change.kind === 'zero' ? change.length : logSectorLength;
    if (change.offset + length > fileLength) {
      const detail = { offset: change.offset + length, size: fileLength };
      throw new ImageError('vhdx/log-outside', detail, { file: log.storage.name, offset: log.offset + entry.at });
    }
    yield change;
  }
}

/** Fills `into` (one sector) with what a data change writes. */
export function readChange(storage: Storage, change: Extract<LogChange, { kind: 'data' }>, into: Uint8Array): void {
  storage.readAt(into, change.from);
  into.set(change.ends.subarray(0, 8), 0);
  into.set(change.ends.subarray(8), logSectorLength - 4);
}

/** Replays a sequence on the disk (2.3.3); the caller then makes a header without LogGuid current. Ends with a flush. */
export function replayOnDisk(storage: Storage, header: Header, sequence: LogSequence): void {
  const log = new LogArea(storage, header);
  const fileLength = lengthAfter(storage, sequence);
  if (storage.size < fileLength) storage.truncate(fileLength);
  const sector = new Uint8Array(logSectorLength);
  for (const entry of sequence.entries) {
    for (const change of changesOf(log, entry, fileLength)) {
      if (change.kind === 'zero') {
        storage.zeroAt(change.offset, change.length);
      } else {
        readChange(storage, change, sector);
        storage.writeAt(sector, change.offset);
      }
    }
  }
  storage.flush();
}

// The backup GPT at a new end of the disk: entries and header there, the primary header and the protective MBR after them.
import zlib from 'node:zlib';
import type { WritableNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { writeGuest } from '../block/write.ts';
import { ImageError } from '../errors/image-error.ts';
import { gptPartitions, headerCrc, readGptCopy, type GptCopy } from './gpt.ts';
import type { PartitionTable } from './partitions.ts';
import { gptHeader, mbr, mbrLength, mbrRecord, systemId, type GptHeader } from './spec.ts';

/** Where the parts of a backup GPT stand on a disk of a certain size, in sectors. */
interface EndPlaces {
  readonly header: number;
  readonly entries: number;
  readonly lastUsable: number;
}

function placesFor({ sectorSize, entries }: GptCopy, size: number): EndPlaces {
  const header = Math.floor(size / sectorSize) - 1;
  const first = header - Math.ceil(entries.length / sectorSize);
  return { header, entries: first, lastUsable: first - 1 };
}

/** The copy that says what is true: the primary one, if it is whole. Throws `gpt/none` for a disk without a GPT. */
function believed(table: PartitionTable | null, name: string): GptCopy {
  const copy = table?.gpt?.primary ?? table?.gpt?.backup;
  if (copy === undefined || copy === null) throw new ImageError('gpt/none', {}, { file: name });
  return copy;
}

/**
 * Says whether a disk of `size` bytes has room for all partitions and the backup GPT behind them. Throws `gpt/none`, `gpt/cut` with the
 * first partition that would lose its end, `gpt/small`.
 */
export function checkGptFits(table: PartitionTable | null, size: number, name: string): void {
  const copy = believed(table, name);
  const { lastUsable } = placesFor(copy, size);
  const end = (lastUsable + 1) * copy.sectorSize;
  const cut = gptPartitions(copy).find(({ start, length }) => start + length > end);
  if (cut !== undefined) {
    const detail = { number: cut.number, end: cut.start + cut.length, allowed: end };
    throw new ImageError('gpt/cut', detail, { file: name });
  }
  if (lastUsable < copy.header.first_usable_lba) throw new ImageError('gpt/small', { size }, { file: name });
}

/**
 * Gives the disk a GPT whose backup ends with byte `size` (at most the disk's size). On the disk one whole copy is there at every
 * moment. Throws what `checkGptFits` throws, and what writing throws.
 */
export function moveGptEnd(node: WritableNode, table: PartitionTable | null, size: number): void {
  checkGptFits(table, size, node.name);
  const copy = believed(table, node.name);
  const places = placesFor(copy, size);
  const primary = table?.gpt?.primary ?? restorePrimary(node, copy);
  const old = primary.header.alternate_lba;
  const last = { last_usable_lba: places.lastUsable };
  const backup = { ...last, my_lba: places.header, alternate_lba: 1, partition_entry_lba: places.entries };
  writeEntries(node, primary, places.entries);
  writeHeader(node, primary, backup);
  node.flush();
  writeHeader(node, primary, { ...last, alternate_lba: places.header });
  node.flush();
  sizeProtectiveRecord(node, places.header);
  clearOld(node, primary, old, places);
  node.flush();
}

/** The primary copy as it must have been beside this backup. */
function restorePrimary(node: WritableNode, backup: GptCopy): GptCopy {
  const { sectorSize, header } = backup;
  const sectors = Math.ceil(backup.entries.length / sectorSize);
  if (header.first_usable_lba < 2 + sectors) throw new ImageError('gpt/none', {}, { file: node.name });
  writeEntries(node, backup, 2);
  writeHeader(node, backup, { my_lba: 1, alternate_lba: header.my_lba, partition_entry_lba: 2 });
  node.flush();
  const restored = readGptCopy(node, sectorSize, 1);
  if (restored === null) throw new Error('the primary GPT that was written cannot be read');
  return restored;
}

function writeEntries(node: WritableNode, { sectorSize, entries }: GptCopy, lba: number): void {
  const whole = new Uint8Array(Math.ceil(entries.length / sectorSize) * sectorSize);
  whole.set(entries);
  writeGuest(node, whole, lba * sectorSize);
}

/** The header of `copy` with other `values`, in the sector that it says it stands in. */
function writeHeader(node: WritableNode, copy: GptCopy, values: Partial<GptHeader>): void {
  const { sectorSize, entries, headerBytes } = copy;
  const sector = new Uint8Array(sectorSize);
  sector.set(headerBytes);
  const bytes = sector.subarray(0, headerBytes.length);
  gptHeader.patch(bytes, { ...values, partition_entry_array_crc32: zlib.crc32(entries) });
  gptHeader.patch(bytes, { header_crc32: headerCrc(bytes) });
  writeGuest(node, sector, (values.my_lba ?? copy.header.my_lba) * sectorSize);
}

/** The record that protects a GPT spans the disk, or as much as 32 bits can say. A hybrid table is somebody's own work: it stays. */
function sizeProtectiveRecord(node: WritableNode, lastSector: number): void {
  const sector = new Uint8Array(mbrLength);
  readGuest(node, sector, 0);
  const records = mbr.parseLoosely(sector).partition_records;
  const types = [0, 16, 32, 48].map((at) => mbrRecord.parse(records.subarray(at, at + 16)));
  const used = types.filter(({ os_type: type }) => type !== systemId.empty);
  const [only] = used;
  if (used.length !== 1 || only?.os_type !== systemId.protective || only.starting_lba !== 1) return;
  const at = mbr.fields.partition_records.offset + 16 * types.indexOf(only);
  mbrRecord.patch(sector.subarray(at, at + 16), { size_in_lba: Math.min(lastSector, 0xffff_ffff) });
  writeGuest(node, sector, 0);
}

/** A second backup header in the middle of the disk would only mislead those who search for one. */
function clearOld(node: WritableNode, copy: GptCopy, lba: number, places: EndPlaces): void {
  const { sectorSize } = copy;
  if (lba >= places.entries && lba <= places.header) return;
  if (readGptCopy(node, sectorSize, lba) === null) return;
  const at = lba * sectorSize;
  const inPartition = gptPartitions(copy).some(({ start, length }) => start <= at && at < start + length);
  if (!inPartition) writeGuest(node, new Uint8Array(sectorSize), at);
}

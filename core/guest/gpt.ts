// One copy of a GPT on a guest's disk: header and entries, believed only with both checksums right.
import zlib from 'node:zlib';
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { isImageError } from '../errors/image-error.ts';
import { gptEntry, gptHeader, largestEntryArray, unusedType, type GptHeader } from './spec.ts';
import type { Partition } from './partitions.ts';

/** A header and its entries. */
export interface GptCopy {
  readonly sectorSize: number;
  readonly header: GptHeader;
  /** The header's bytes as far as its checksum covers them. */
  readonly headerBytes: Uint8Array;
  readonly entries: Uint8Array;
}

/** The copy whose header is in sector `lba`; null where there is none that can be believed. Throws what reading throws. */
export function readGptCopy(node: BlockNode, sectorSize: number, lba: number): GptCopy | null {
  const start = lba * sectorSize;
  if (!Number.isSafeInteger(start) || start + sectorSize > node.size || lba < 1) return null;
  const sector = new Uint8Array(sectorSize);
  readGuest(node, sector, start);
  const header = parsed(sector);
  if (header === null || header.header_size > sectorSize || header.my_lba !== lba) return null;
  const headerBytes = sector.slice(0, header.header_size);
  if (headerCrc(headerBytes) !== header.header_crc32) return null;
  const length = header.number_of_partition_entries * header.size_of_partition_entry;
  const at = header.partition_entry_lba * sectorSize;
  if (length === 0 || length > largestEntryArray || !Number.isSafeInteger(at) || at + length > node.size) return null;
  const entries = new Uint8Array(length);
  readGuest(node, entries, at);
  if (zlib.crc32(entries) !== header.partition_entry_array_crc32) return null;
  return { sectorSize, header, headerBytes, entries };
}

function parsed(sector: Uint8Array): GptHeader | null {
  try {
    return gptHeader.parse(sector);
  } catch (error) {
    if (isImageError(error)) return null; // no header, or one with a number that no disk has
    throw error;
  }
}

/** CRC-32 of a header, its own field taken as zero. */
export function headerCrc(headerBytes: Uint8Array): number {
  const bytes = headerBytes.slice();
  gptHeader.patch(bytes, { header_crc32: 0 });
  return zlib.crc32(bytes);
}

/** The partitions of a copy, by the place of their entries; entries with sectors that cannot be are left out. */
export function gptPartitions({ sectorSize, header, entries }: GptCopy): Partition[] {
  const partitions: Partition[] = [];
  const step = header.size_of_partition_entry;
  for (let index = 0; index < header.number_of_partition_entries; index++) {
    const bytes = entries.subarray(index * step, (index + 1) * step);
    if (bytes.subarray(0, 16).every((byte) => byte === 0)) continue;
    let values;
    try {
      values = gptEntry.parse(bytes);
    } catch (error) {
      if (isImageError(error, 'storage/too-large')) continue;
      throw error;
    }
    const { starting_lba: first, ending_lba: last, partition_type_guid: type } = values;
    const end = (last + 1) * sectorSize;
    if (type === unusedType || first < 1 || last < first || !Number.isSafeInteger(end)) continue;
    partitions.push({
      number: index + 1,
      start: first * sectorSize,
      length: end - first * sectorSize,
      type,
      name: text(values.partition_name),
      table: 'gpt',
    });
  }
  return partitions;
}

/** UTF-16 up to the first zero. */
function text(bytes: Uint8Array): string {
  const whole = new TextDecoder('utf-16le').decode(bytes);
  const end = whole.indexOf('\0');
  return end < 0 ? whole : whole.slice(0, end);
}

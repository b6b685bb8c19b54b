// The classic partition table: four records in the first sector, and a chain of extended boot records for logical partitions.
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import type { Partition } from './partitions.ts';
import { mbr, mbrLength, mbrRecord, mbrSignature, sectorSizes, systemId, type MbrRecord } from './spec.ts';

/** Logical partitions that are followed at most; also ends a chain that bites its tail. */
const longestChain = 256;

/** The first sector as a partition table: its four records; null where it is something else (a file system, code, nothing). */
export function readMbr(node: BlockNode): MbrRecord[] | null {
  if (node.size < mbrLength || isFileSystem(node)) return null;
  const records = recordsAt(node, 0);
  if (records === null) return null;
  const wrong = records.some(
    ({ boot_indicator: boot, os_type: type, starting_lba: start, size_in_lba: length }) =>
      (boot & 0x7f) !== 0 || (type !== systemId.empty && (start === 0 || length === 0)),
  );
  return wrong ? null : records;
}

/** Boot sectors of FAT, exFAT and NTFS carry the same signature, and code or data in place of a table. */
function isFileSystem(node: BlockNode): boolean {
  const start = new Uint8Array(90);
  readGuest(node, start, 0);
  const name = (from: number, to: number): string => Buffer.from(start.subarray(from, to)).toString('latin1');
  return (
    ['NTFS    ', 'EXFAT   ', '-FVE-FS-'].includes(name(3, 11)) || name(54, 57) === 'FAT' || name(82, 87) === 'FAT32'
  );
}

function recordsAt(node: BlockNode, start: number): MbrRecord[] | null {
  const sector = new Uint8Array(mbrLength);
  readGuest(node, sector, start);
  const { signature, partition_records: bytes } = mbr.parseLoosely(sector);
  if (signature !== mbrSignature) return null;
  return [0, 16, 32, 48].map((at) => mbrRecord.parse(bytes.subarray(at, at + 16)));
}

/** The partitions that `records` name: primary ones (1 to 4), the extended one among them, then logical ones (from 5). */
export function mbrPartitions(node: BlockNode, records: readonly MbrRecord[], sectorSize: number): Partition[] {
  const partitions: Partition[] = [];
  records.forEach((record, index) => {
    if (record.os_type !== systemId.empty) partitions.push(partition(record, index + 1, 0, sectorSize));
  });
  for (const record of records) {
    if (isExtended(record)) addLogical(node, record.starting_lba, sectorSize, partitions);
  }
  return partitions;
}

/** True for the record of a partition that holds logical ones. */
export function isExtended({ os_type: type }: { os_type: number }): boolean {
  return systemId.extended.includes(type);
}

function partition(record: MbrRecord, number: number, base: number, sectorSize: number): Partition {
  return {
    number,
    start: (base + record.starting_lba) * sectorSize,
    length: record.size_in_lba * sectorSize,
    type: record.os_type.toString(16).padStart(2, '0'),
    name: '',
    table: 'mbr',
  };
}

/** Nothing in the table says what its numbers count; where an extended partition begins there is a signature. */
export function mbrSectorSize(node: BlockNode, records: readonly MbrRecord[]): number {
  const extended = records.find(isExtended);
  if (extended === undefined) return sectorSizes[0];
  const fits = sectorSizes.find((size) => {
    const at = extended.starting_lba * size;
    return at + mbrLength <= node.size && recordsAt(node, at) !== null;
  });
  return fits ?? sectorSizes[0];
}

/** Record 0 of each link is a partition, counted from the link; record 1 the next link, counted from the extended partition. */
function addLogical(node: BlockNode, base: number, sectorSize: number, into: Partition[]): void {
  let number = Math.max(4, ...into.map((known) => known.number)) + 1;
  for (const { link, logical } of extendedLinks(node, base, sectorSize)) {
    if (logical.os_type !== systemId.empty && logical.starting_lba > 0 && logical.size_in_lba > 0) {
      into.push(partition(logical, number++, link, sectorSize));
    }
  }
}

/** An extended boot record: its sector, and its first record. */
export interface ExtendedLink {
  readonly link: number;
  readonly logical: MbrRecord;
}

/** The extended boot records of the extended partition that begins at sector `base`. Throws what reading the disk throws. */
export function* extendedLinks(node: BlockNode, base: number, sectorSize: number): Generator<ExtendedLink, void, void> {
  const seen = new Set<number>();
  for (let link = base; seen.size < longestChain && !seen.has(link);) {
    seen.add(link);
    const at = link * sectorSize;
    if (at + mbrLength > node.size) return;
    const [logical, next] = recordsAt(node, at) ?? [];
    if (logical === undefined || next === undefined) return;
    yield { link, logical };
    if (!isExtended(next) || next.starting_lba === 0) return;
    link = base + next.starting_lba;
  }
}

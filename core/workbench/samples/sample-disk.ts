// The disk inside the sample images: one partition with a small FAT16 file system, files to read and one that was deleted.
import { alignUp, type GuestOffset, KiB, MiB } from '../../block/units.ts';
import { bootSector, bootSignature } from '../../guest/fat-spec.ts';
import { mbr, mbrRecord, mbrSignature } from '../../guest/spec.ts';

/** Bytes of the disk. */
export const sampleSize = 64 * MiB;

/** A file in the root directory. */
export interface SampleFile {
  /** As the directory keeps it: eight characters and three, capitals. */
  readonly name: string;
  readonly ending: string;
  readonly bytes: Uint8Array;
  /** It was deleted: its clusters are free, and still hold what they held. */
  readonly deleted?: boolean;
}

/** Bytes to be written at a place of the guest's disk; everything else reads as zeroes. */
export interface Piece {
  readonly at: GuestOffset;
  readonly bytes: Uint8Array;
}

const sector = 512;
const partition = { start: 2048, sectors: sampleSize / sector - 2048 };
const perCluster = 4;
const clusterSize = perCluster * sector;
const reserved = 4;
const rootEntries = 512;
const entrySize = 32;
const rootSectors = (rootEntries * entrySize) / sector;
/** Sectors of one FAT, so that it has an entry for every cluster of what is left of the partition. */
const tableSectors = 126;
const tables = 2;
const firstData = reserved + tables * tableSectors + rootSectors;
/** Everything in the file system is from this moment: 2026-01-01, 12:00. */
const [date, time] = [((2026 - 1980) << 9) | (1 << 5) | 1, 12 << 11];
/** FAT type with sectors counted from the start of the disk, and places that cylinders cannot tell. */
const fat16Lba = 0x0e;
const beyondCylinders = Uint8Array.of(0xfe, 0xff, 0xff);

/** What stands on a disk with these files, from its start on. The same files make the same bytes. */
export function sampleDisk(files: readonly SampleFile[]): Piece[] {
  const table = new Uint16Array((tableSectors * sector) / 2);
  // The kind of medium, and the bits that say "closed, no errors".
  table[0] = 0xfff8;
  table[1] = 0xffff;
  const root = new Uint8Array(rootEntries * entrySize);
  directoryEntry(root, 0, 'PLATTER', '', 0x08, 0, 0);
  const data: Piece[] = [];
  let cluster = 2;
  for (const [index, { name, ending, bytes, deleted }] of files.entries()) {
    const count = Math.ceil(bytes.length / clusterSize);
    directoryEntry(root, index + 1, name, ending, 0x20, cluster, bytes.length);
    if (deleted === true) root[(index + 1) * entrySize] = 0xe5;
    else for (let n = 0; n < count; n++) table[cluster + n] = n === count - 1 ? 0xffff : cluster + n + 1;
    data.push({ at: place(firstData + (cluster - 2) * perCluster), bytes });
    cluster += count;
  }
  const tableBytes = littleEndian(table);
  const copies = Array.from({ length: tables }, (_, n) => ({
    at: place(reserved + n * tableSectors),
    bytes: tableBytes,
  }));
  return [
    { at: 0, bytes: partitionTable() },
    { at: place(0), bytes: bootRecord() },
    ...copies,
    { at: place(reserved + tables * tableSectors), bytes: root },
    ...data,
  ];
}

/** Numbered lines of text, so that any of them says where it stands. `length` is rounded up to whole clusters of 64 KiB. */
export function numberedLines(subject: string, length: number): Uint8Array {
  const whole = alignUp(length, 64 * KiB);
  const lines: string[] = [];
  for (let at = 0, number = 1; at < whole; at += 64, number++) {
    lines.push(`${`line ${String(number).padStart(6, '0')} of ${subject}, at byte ${at}`.padEnd(63, ' ')}\n`);
  }
  return new TextEncoder().encode(lines.join(''));
}

/** Offset on the disk of a sector of the partition. */
function place(number: number): GuestOffset {
  return (partition.start + number) * sector;
}

function partitionTable(): Uint8Array {
  const records = new Uint8Array(64);
  records.set(
    mbrRecord.serialise({
      boot_indicator: 0,
      starting_chs: beyondCylinders,
      os_type: fat16Lba,
      ending_chs: beyondCylinders,
      starting_lba: partition.start,
      size_in_lba: partition.sectors,
    }),
  );
  return mbr.serialise({
    boot_code: new Uint8Array(440),
    disk_signature: 0x504c5452,
    partition_records: records,
    signature: mbrSignature,
  });
}

function bootRecord(): Uint8Array {
  const bytes = bootSector.serialise({
    BS_jmpBoot: Uint8Array.of(0xeb, 0x3c, 0x90),
    BS_OEMName: 'PLATTER ',
    BPB_BytsPerSec: sector,
    BPB_SecPerClus: perCluster,
    BPB_RsvdSecCnt: reserved,
    BPB_NumFATs: tables,
    BPB_RootEntCnt: rootEntries,
    BPB_Media: 0xf8,
    BPB_FATSz16: tableSectors,
    BPB_SecPerTrk: 63,
    BPB_NumHeads: 255,
    BPB_HiddSec: partition.start,
    BPB_TotSec32: partition.sectors,
    BS_Sign: bootSignature,
  });
  // What FAT16 has from byte 36 on: drive, state, signature of the three fields behind, serial number, label, kind.
  bytes.set([0x80, 0, 0x29, 0x52, 0x54, 0x4c, 0x50], 36);
  bytes.set(new TextEncoder().encode('PLATTER    FAT16   '), 43);
  // There is nothing to start from here: tell the firmware so (int 18h), and wait.
  bytes.set([0xcd, 0x18, 0xf4, 0xeb, 0xfd], 62);
  return bytes;
}

function directoryEntry(
  into: Uint8Array,
  index: number,
  name: string,
  ending: string,
  attributes: number,
  cluster: number,
  length: number,
): void {
  const at = index * entrySize;
  into.set(new TextEncoder().encode(name.padEnd(8) + ending.padEnd(3)), at);
  into[at + 11] = attributes;
  const view = new DataView(into.buffer, at, entrySize);
  for (const [offset, value] of [
    [14, time],
    [16, date],
    [18, date],
    [22, time],
    [24, date],
    [26, cluster],
  ] as const) {
    view.setUint16(offset, value, true);
  }
  view.setUint32(28, length, true);
}

function littleEndian(numbers: Uint16Array): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 2);
  const view = new DataView(bytes.buffer);
  for (const [index, number] of numbers.entries()) view.setUint16(index * 2, number, true);
  return bytes;
}

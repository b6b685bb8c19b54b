// What stands on a guest's disk: its partition table, what contradicts itself in that, and the file system and label of each partition.
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { isImageError } from '../errors/image-error.ts';
import { fileSystemIn } from './file-systems.ts';
import { labelOf } from './labels.ts';
import { partitionUse, type PartitionUse } from './partition-types.ts';
import { isContainer, readPartitionTable, type Partition, type PartitionTable } from './partitions.ts';
import { Volume } from './volume.ts';

/** A partition, or the whole disk. Offsets and lengths in bytes. */
export interface ContentsPart {
  /** Null: there is no table, it is the whole disk. */
  readonly number: number | null;
  readonly start: number;
  readonly length: number;
  /** As the table says: two hex digits or a GUID; empty for the whole disk. */
  readonly type: string;
  readonly use: PartitionUse | null;
  /** Its name in a GPT. */
  readonly name: string;
  /** It only holds logical partitions. */
  readonly container: boolean;
  /** `ext4`, `ntfs`, `LVM` …; null: nothing is recognised. */
  readonly fileSystem: string | null;
  readonly label: string | null;
}

export type ContentsRemarkCode =
  'gpt-primary-lost' | 'gpt-backup-lost' | 'gpt-backup-not-at-end' | 'beyond-end' | 'overlap';

/** Something in the table that is not as it should be. */
export interface ContentsRemark {
  readonly code: ContentsRemarkCode;
  readonly partition: number | null;
}

export interface DiskContents {
  readonly size: number;
  readonly table: 'mbr' | 'gpt' | null;
  readonly sectorSize: number | null;
  /** By rising start, at most 256. */
  readonly parts: readonly ContentsPart[];
  /** Partitions left out. */
  readonly more: number;
  readonly remarks: readonly ContentsRemark[];
}

const mostParts = 256;

/** Reads tables and superblocks only; nothing it reads is believed beyond the bounds of the disk. Throws what reading the image throws. */
export function diskContents(node: BlockNode): DiskContents {
  const table = readPartitionTable(node);
  if (table === null) {
    const whole = { start: 0, length: node.size, type: '', use: null, name: '', container: false };
    const inside = inspect(node, 0, node.size);
    const parts = inside.fileSystem === null ? [] : [{ number: null, ...whole, ...inside }];
    return { size: node.size, table: null, sectorSize: null, parts, more: 0, remarks: [] };
  }
  const sorted = table.partitions.toSorted((a, b) => a.start - b.start || b.length - a.length);
  return {
    size: node.size,
    table: table.kind,
    sectorSize: table.sectorSize,
    parts: sorted.slice(0, mostParts).map((partition) => partOf(node, partition)),
    more: Math.max(0, sorted.length - mostParts),
    remarks: [...gptRemarks(node, table), ...placeRemarks(node, sorted)],
  };
}

function partOf(node: BlockNode, partition: Partition): ContentsPart {
  const { number, start, length, type, name } = partition;
  const container = isContainer(partition);
  const fits = start + length <= node.size;
  const inside = container || !fits ? { fileSystem: null, label: null } : inspect(node, start, length);
  return { number, start, length, type, use: partitionUse(partition), name, container, ...inside };
}

function inspect(node: BlockNode, start: number, length: number): Pick<ContentsPart, 'fileSystem' | 'label'> {
  const volume = new Volume((into, at) => readGuest(node, into, at), start, length);
  try {
    const kind = fileSystemIn(volume)?.kind ?? null;
    return { fileSystem: kind, label: kind === null ? null : labelOf(volume, kind) };
  } catch (error) {
    // A superblock that contradicts itself: nothing is said of it here.
    if (isImageError(error, 'guest/damaged')) return { fileSystem: null, label: null };
    throw error;
  }
}

function gptRemarks(node: BlockNode, { gpt, sectorSize }: PartitionTable): ContentsRemark[] {
  if (gpt === null) return [];
  const last = Math.floor(node.size / sectorSize) - 1;
  const remarks: ContentsRemark[] = [];
  if (gpt.primary === null) remarks.push({ code: 'gpt-primary-lost', partition: null });
  if (gpt.backup === null) remarks.push({ code: 'gpt-backup-lost', partition: null });
  else if (gpt.backup.header.my_lba !== last) remarks.push({ code: 'gpt-backup-not-at-end', partition: null });
  return remarks;
}

/** `sorted`: by start. */
function placeRemarks(node: BlockNode, sorted: readonly Partition[]): ContentsRemark[] {
  const remarks: ContentsRemark[] = [];
  let end = 0;
  for (const partition of sorted) {
    const { number, start, length } = partition;
    if (start + length > node.size) remarks.push({ code: 'beyond-end', partition: number });
    if (isContainer(partition)) continue;
    if (start < end) remarks.push({ code: 'overlap', partition: number });
    end = Math.max(end, start + length);
    if (remarks.length >= mostParts) break;
  }
  return remarks;
}

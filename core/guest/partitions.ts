// The partitions of a guest's disk, from whichever table it has: MBR with logical partitions, or GPT from the copy that is whole.
import type { BlockNode } from '../block/node.ts';
import { gptPartitions, readGptCopy, type GptCopy } from './gpt.ts';
import { mbrPartitions, mbrSectorSize, readMbr } from './mbr.ts';
import { sectorSizes, systemId } from './spec.ts';

/** A partition. Offsets and lengths in bytes; it may reach beyond the end of the disk. */
export interface Partition {
  /** As Linux counts them: entry of a GPT from 1; MBR primary ones 1 to 4, logical ones from 5. */
  readonly number: number;
  readonly start: number;
  readonly length: number;
  /** MBR: two hex digits (`83`; `05`, `0f`, `85` are the extended partition that holds logical ones). GPT: the type's GUID, lower case. */
  readonly type: string;
  /** GPT only; empty otherwise. */
  readonly name: string;
  readonly table: 'mbr' | 'gpt';
}

export interface PartitionTable {
  readonly kind: 'mbr' | 'gpt';
  /** What the table counts in. For an MBR without logical partitions: taken to be 512. */
  readonly sectorSize: number;
  readonly partitions: readonly Partition[];
  /** The copies that can be believed; the backup is looked for where the primary says, and in the last sector. Null with an MBR. */
  readonly gpt: { readonly primary: GptCopy | null; readonly backup: GptCopy | null } | null;
}

/** True for the partition of an MBR that only holds the logical ones. */
export function isContainer({ table, type }: Partition): boolean {
  return table === 'mbr' && systemId.extended.includes(Number.parseInt(type, 16));
}

/** The table of the disk; null: there is none (or a GPT of which no copy is whole). Throws what reading the disk throws. */
export function readPartitionTable(node: BlockNode): PartitionTable | null {
  const records = readMbr(node);
  if (records === null) return null;
  if (!records.some(({ os_type: type }) => type === systemId.protective)) {
    const sectorSize = mbrSectorSize(node, records);
    const partitions = mbrPartitions(node, records, sectorSize);
    return partitions.length === 0 ? null : { kind: 'mbr', sectorSize, partitions, gpt: null };
  }
  for (const sectorSize of sectorSizes) {
    const primary = readGptCopy(node, sectorSize, 1);
    const stated = primary === null ? null : readGptCopy(node, sectorSize, primary.header.alternate_lba);
    const backup = stated ?? readGptCopy(node, sectorSize, Math.floor(node.size / sectorSize) - 1);
    const copy = primary ?? backup;
    if (copy !== null) return { kind: 'gpt', sectorSize, partitions: gptPartitions(copy), gpt: { primary, backup } };
  }
  return null;
}

/**
 * The partitions, those of an MBR with the extended one and the logical ones in it; none where there is no table. Throws what reading
 * the disk throws.
 */
export function readPartitions(node: BlockNode): readonly Partition[] {
  return readPartitionTable(node)?.partitions ?? [];
}

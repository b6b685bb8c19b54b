// What a guest's disk has behind a certain byte: stored data, partitions, the backup GPT.
import type { BlockNode } from '../block/node.ts';
import { resolve } from '../block/read.ts';
import type { Job } from '../job.ts';
import type { Partition, PartitionTable } from './partitions.ts';

export interface Beyond {
  /** Bytes that are stored (anywhere in the chain) and not known to be zero. */
  readonly storedBytes: number;
  /** Partitions that end behind the byte. */
  readonly partitions: readonly Partition[];
  /** The backup GPT stands behind it, in whole or in part. */
  readonly backupGpt: boolean;
}

/** What lies behind byte `end` of the disk with this `table`. Throws what reading the maps throws, `request/cancelled`. */
export function whatLiesBeyond(node: BlockNode, table: PartitionTable | null, end: number, job: Job): Beyond {
  let storedBytes = 0;
  for (const { start, length, mapping } of resolve(node, { start: end, length: node.size - end })) {
    job.throwIfCancelled();
    job.progress({ phase: 'look', done: start - end, total: node.size - end });
    if (mapping.kind !== 'zero') storedBytes += length;
  }
  const backup = table?.gpt?.backup ?? null;
  return {
    storedBytes,
    partitions: (table?.partitions ?? []).filter(({ start, length }) => start + length > end),
    backupGpt: backup !== null && (backup.header.my_lba + 1) * backup.sectorSize > end,
  };
}

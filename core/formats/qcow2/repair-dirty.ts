// An image that its last writer left dirty: refcounts and copied bits are made to agree with the tables before anybody writes.
import { silentJob } from '../../job.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { computeReferences } from './reference-count.ts';
import { snapshotTable } from './snapshots.ts';
import { entry } from './spec.ts';

/**
 * Counts all references anew, corrects the refcounts and then the copied bits of the active tables, and takes the dirty bit away
 * (specification: "dirty bit"). Throws what counting and allocation throw.
 */
export function repairDirty(metadata: Qcow2Metadata): void {
  const { state } = metadata;
  const { counts } = computeReferences(state, snapshotTable(state), silentJob);
  metadata.refcounts.adopt(counts);
  correctCopiedBits(metadata);
  metadata.flush();
  metadata.markClean();
}

function correctCopiedBits(metadata: Qcow2Metadata): void {
  const { state, refcounts } = metadata;
  const { l1, tables, layout } = state;
  const { clusterSize, l2EntrySize } = layout;
  const halves = l2EntrySize / 4;
  for (let index = 0; index * 2 < l1.length; index++) {
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0) continue;
    metadata.setL1Copied(index, refcounts.get(offset / clusterSize) === 1);
    const table = tables.get(offset);
    let changed = false;
    for (let i = 0; i < table.length; i += halves) {
      const high = table[i] ?? 0;
      const cluster = entryOffset(high, table[i + 1] ?? 0) / clusterSize;
      // Compressed clusters never have the bit; in an external data file every cluster has.
      if (state.external || (high & entry.compressed) !== 0 || cluster === 0 || !Number.isInteger(cluster)) continue;
      const right = refcounts.get(cluster) === 1;
      if (((high & entry.copied) !== 0) === right) continue;
      table[i] = (high ^ entry.copied) >>> 0;
      changed = true;
    }
    if (changed) tables.change(offset, table);
    metadata.relieve();
  }
}

// Refcounts made to agree with references that were counted: for an image that its last writer left dirty.
import { ImageError } from '../../errors/image-error.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import type { RefcountBlocks } from './refcount-blocks.ts';
import { limit } from './spec.ts';
import type { Qcow2State } from './state.ts';

/**
 * Makes all refcounts what `counts` says; the blocks that are missing for that are added, in clusters that nothing refers to.
 * Throws `qcow2/refcount-table-full`.
 */
export function adoptCounts(state: Qcow2State, blocks: RefcountBlocks, counts: ClusterCounts): void {
  const { refcountBlockEntries: perBlock } = state.layout;
  addMissing(state, blocks, counts);
  for (let cluster = 0; cluster < counts.size; cluster++) {
    const right = counts.get(cluster);
    if (right === 0 && blocks.block(Math.floor(cluster / perBlock)) === null) continue;
    if (blocks.get(cluster) !== right) blocks.set(cluster, Math.min(right, state.layout.refcountMax));
  }
}

/** Blocks, and a table that can hold them, for all clusters that are referenced: behind everything that is there. */
function addMissing(state: Qcow2State, blocks: RefcountBlocks, counts: ClusterCounts): void {
  const { refcountBlockEntries: perBlock, clusterSize } = state.layout;
  // A set is walked in the order in which its members came, also those that come meanwhile.
  const missing = new Set<number>();
  let highest = 0;
  const need = (index: number): void => {
    if (blocks.blockOffset(index) !== 0) return;
    missing.add(index);
    highest = Math.max(highest, index);
  };
  let end = counts.size;
  for (let index = 0; index * perBlock < end; index++) {
    if (blocks.blockOffset(index) !== 0) continue;
    for (let i = index * perBlock; i < Math.min(end, (index + 1) * perBlock); i++) {
      if (counts.get(i) === 0) continue;
      need(index);
      break;
    }
  }
  if (missing.size === 0) return;
  const take = (clusters: number): number => {
    const first = end;
    end += clusters;
    for (let cluster = first; cluster < end; cluster++) {
      counts.add(cluster);
      need(Math.floor(cluster / perBlock));
    }
    return first;
  };
  for (const index of missing) {
    if (index * 2 >= blocks.table.length) {
      // Twice what is known to be needed: the table and the blocks need counting too.
      const clusters = Math.ceil(((highest + missing.size + 1) * 2 * 8) / clusterSize);
      if (clusters * clusterSize > limit.refcountTableBytes) {
        const detail = { allowed: limit.refcountTableBytes };
        throw new ImageError('qcow2/refcount-table-full', detail, { file: state.storage.name });
      }
      const first = take(clusters);
      blocks.moveTable(first, clusters);
      blocks.tellMetadata(first, clusters);
    }
    blocks.place(index, take(1));
  }
}

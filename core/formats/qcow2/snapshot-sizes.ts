// What would become free if a snapshot were deleted: the clusters that its tables alone refer to, by the refcounts.
import { isImageError } from '../../errors/image-error.ts';
import { entryOffset, packedLength, packedOffset } from './layout.ts';
import { snapshotL1, snapshotTable } from './snapshots.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';
import { loadTable } from './tables.ts';

/**
 * For each snapshot its id and the bytes of the file that nothing would refer to once it were deleted, tables included; null: it could not
 * be found out before `until` (as `performance.now()` counts), or its tables are damaged. Throws what `readSnapshotTable` throws, `storage/*`.
 */
export function snapshotSizes(
  state: Qcow2State,
  limit: number,
  until: number,
): { readonly id: string; readonly freed: number | null }[] {
  if (state.external) return [];
  const { snapshots } = snapshotTable(state);
  const refcounts = new StoredRefcounts(state.storage, state.header, state.layout);
  return snapshots.slice(0, limit).map(({ facts: { id } }) => {
    try {
      return { id, freed: freedBy(state, refcounts, id, until) };
    } catch (error) {
      if (isImageError(error) && error.code.startsWith('qcow2/')) return { id, freed: null };
      throw error;
    }
  });
}

/**
 * A table that another L1 table leads to as well has a refcount above one, and so has all that it leads to: only tables of the
 * snapshot's own are read.
 */
function freedBy(state: Qcow2State, refcounts: StoredRefcounts, id: string, until: number): number | null {
  const { storage, layout, tables } = state;
  const { clusterSize, l2EntrySize } = layout;
  const { offset, entries } = snapshotL1(storage, layout, snapshotTable(state), id);
  const l1 = loadTable(storage, offset, entries, 'Snapshot L1 table');
  let clusters = Math.ceil((entries * 8) / clusterSize);
  /** References to clusters that packed units share. */
  const shared = new Map<number, number>();
  for (let at = 0; at < l1.length; at += 2) {
    if (performance.now() > until) return null;
    const l2 = entryOffset(l1[at] ?? 0, l1[at + 1] ?? 0);
    if (l2 === 0) continue;
    if (l2 % clusterSize !== 0) return null;
    if (!refcounts.isOne(l2 / clusterSize)) continue;
    clusters += 1;
    const table = tables.get(l2);
    for (let i = 0; i < table.length; i += l2EntrySize / 4) {
      const high = table[i] ?? 0;
      const low = table[i + 1] ?? 0;
      if ((high & entry.compressed) !== 0) {
        const start = packedOffset(layout, high, low);
        const last = Math.floor((start + packedLength(layout, high, low) - 1) / clusterSize);
        for (let host = Math.floor(start / clusterSize); host <= last; host++)
          shared.set(host, (shared.get(host) ?? 0) + 1);
        continue;
      }
      const data = entryOffset(high, low);
      if (data !== 0 && refcounts.isOne(Math.floor(data / clusterSize))) clusters += 1;
    }
  }
  for (const [host, references] of shared) if (refcounts.get(host) === references) clusters += 1;
  return clusters * clusterSize;
}

// The refcounts of a qcow2 file as runs of clusters with the same one.
import type { StoredCounts } from '../driver.ts';
import { pageBits, pageClusters } from './cluster-counts.ts';
import { getRefcount } from './layout.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/**
 * The refcounts of the image file (specification: "Host cluster management"); null: an external data file has none. Reads throw
 * `storage/*`.
 */
export function qcow2Counts(state: Qcow2State, role: string): StoredCounts | null {
  if (role !== 'file') return null;
  const stored = new StoredRefcounts(state.storage, state.header, state.layout);
  const { clusterSize } = state.layout;
  return {
    run(start, end) {
      const first = Math.floor(start / clusterSize);
      const most = Math.ceil(end / clusterSize) - first;
      const { count, clusters } = sameCount(stored, state.layout.refcountOrder, first, most);
      return { count, length: Math.min(end, (first + clusters) * clusterSize) - start };
    },
  };
}

/** Clusters from `first` on, at most `most`, with the same refcount; no further than a page of them. */
function sameCount(
  stored: StoredRefcounts,
  order: number,
  first: number,
  most: number,
): { count: number | null; clusters: number } {
  const from = first % pageClusters;
  const limit = Math.min(most, pageClusters - from);
  const page = stored.page(Math.floor(first / 2 ** pageBits));
  if (page === null) return { count: 0, clusters: limit };
  const { raw, unreadable } = page;
  if (unreadable && stored.unreadable(first)) {
    let clusters = 1;
    while (clusters < limit && stored.unreadable(first + clusters)) clusters++;
    return { count: null, clusters };
  }
  const count = getRefcount(raw, order, from);
  if (!unreadable && count <= 1 && stored.allAre(raw, count)) return { count, clusters: limit };
  let clusters = 1;
  while (
    clusters < limit &&
    getRefcount(raw, order, from + clusters) === count &&
    !(unreadable && stored.unreadable(first + clusters))
  )
    clusters++;
  return { count, clusters };
}

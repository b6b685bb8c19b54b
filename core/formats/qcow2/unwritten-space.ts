// Was space provided for in this image without being written (preallocated metadata)? Then its data is worth asking the host about.
import { ImageError } from '../../errors/image-error.ts';
import { pageClusters } from './cluster-counts.ts';
import { getRefcount } from './layout.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/**
 * As QEMU finds it out: the clusters in use are a ninth more than the host has set aside for the file, and at least two more. Counts
 * no further than that. An image whose refcounts cannot be read has none.
 */
export function hasUnwrittenSpace(state: Qcow2State): boolean {
  const { storage, layout, header } = state;
  const clusters = Math.ceil(storage.size / layout.clusterSize);
  const held = Math.floor(storage.allocated() / layout.clusterSize);
  const enough = Math.max(Math.floor((held * 10) / 9), held + 2);
  if (clusters < enough) return false;
  try {
    const refcounts = new StoredRefcounts(storage, header, layout);
    let used = 0;
    for (let first = 0; first < clusters && used < enough; first += pageClusters) {
      const page = refcounts.page(Math.floor(first / pageClusters));
      if (page === null) continue;
      const count = Math.min(pageClusters, clusters - first);
      for (let i = 0; i < count && used < enough; i++) {
        if (getRefcount(page.raw, layout.refcountOrder, i) !== 0) used++;
      }
    }
    return used >= enough;
  } catch (error) {
    if (error instanceof ImageError) return false;
    throw error;
  }
}

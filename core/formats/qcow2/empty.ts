// Giving the whole disk back to the layer below: every L1 entry, and the end of the file.
import type { View } from './answers.ts';
import { l2OffsetAt } from './l2.ts';
import type { Qcow2Metadata } from './metadata.ts';

/**
 * Afterwards nothing is stored for the active disk; what snapshots refer to stays. The L1 entries are cleared on the disk before what they
 * pointed to is counted down (`flush`), so that a power cut leaves leaks at worst. Throws `qcow2/*`, `storage/*`.
 */
export function emptyDisk(view: View, metadata: Qcow2Metadata): void {
  const { state, l1 } = view;
  const { clusterSize, extendedL2 } = state.layout;
  const words = extendedL2 ? 4 : 2;
  metadata.beforeGuestChange();
  metadata.flush();
  for (let index = 0; index < l1.length / 2; index++) {
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0) continue;
    const table = view.tables.get(offset);
    for (let i = 0; i < table.length; i += words) {
      const high = table[i] ?? 0;
      const low = table[i + 1] ?? 0;
      if ((high | low) !== 0) metadata.freeEntry(high, low);
    }
    metadata.free(offset / clusterSize, 1);
    metadata.dropL1(index);
    metadata.relieve();
  }
  metadata.flush();
  giveBackHoles(view, metadata);
  metadata.trimEnd();
}

/** Free clusters between those in use become holes, where the file is not cut anyway. */
function giveBackHoles(view: View, metadata: Qcow2Metadata): void {
  const { storage, layout } = view.state;
  const { clusterSize } = layout;
  const { blocks } = metadata.refcounts;
  const end = Math.min(blocks.lastUsed() + 1, Math.ceil(storage.size / clusterSize));
  let first = -1;
  for (let cluster = 0; cluster <= end; cluster++) {
    if (cluster < end && blocks.get(cluster) === 0) {
      if (first < 0) first = cluster;
    } else if (first >= 0) {
      const from = first * clusterSize;
      storage.zeroAt(from, Math.min(cluster * clusterSize, storage.size) - from);
      first = -1;
    }
  }
}

// Refcounts that were changed in memory, brought to the disk in the order that survives a power cut.
import { writeHeaderFields } from './header-write.ts';
import type { Refcounts } from './refcount.ts';
import type { Qcow2State } from './state.ts';

/** Blocks, then the table, then (where the table moved) the header, each made to last before the next; an old table is given back. */
export function settleRefcounts(state: Qcow2State, refcounts: Refcounts): void {
  const { blocks } = refcounts;
  for (;;) {
    blocks.writeBlocks();
    state.storage.flush();
    if (!blocks.tableDirty) return;
    const moved = blocks.writeTable();
    state.storage.flush();
    if (!moved) return;
    writeHeaderFields(state, ['refcount_table_offset', 'refcount_table_clusters']);
    state.storage.flush();
    const old = blocks.takeOldTable();
    if (old === null) return;
    for (let cluster = old.first; cluster < old.first + old.count; cluster++) {
      refcounts.set(cluster, Math.max(0, refcounts.get(cluster) - 1));
    }
  }
}

// Entries of the tables of a qcow2 image by name.
import type { HostOffset } from '../../block/units.ts';
import { entryOf } from '../table-entries.ts';
import { entryOffset } from './layout.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

export const qcow2EntryNames = ['L1[i]', 'L2[i]', 'L2[i][j]', 'refcount_table[i]', 'refcount[cluster]'] as const;

/** `L2[i]` is the table that `L1[i]` leads to. Throws `storage/*`. */
export function qcow2Entry(state: Qcow2State, name: string, indices: readonly number[]): HostOffset | null {
  const { layout, l1, header } = state;
  const { fields } = header;
  const [first, second] = indices;
  switch (name) {
    case 'l1':
      return entryOf(fields.l1_table_offset, l1.length / 2, 8, first);
    case 'l2': {
      if (first === undefined || 2 * first >= l1.length) return null;
      const table = entryOffset(l1[2 * first] ?? 0, l1[2 * first + 1] ?? 0);
      if (table === 0) return null;
      return second === undefined ? table : entryOf(table, layout.l2Entries, layout.l2EntrySize, second);
    }
    case 'refcount_table': {
      const entries = (fields.refcount_table_clusters * layout.clusterSize) / 8;
      return entryOf(fields.refcount_table_offset, entries, 8, first);
    }
    case 'refcount': {
      if (first === undefined) return null;
      const stored = new StoredRefcounts(state.storage, header, layout);
      const block = stored.blockOffset(stored.blockIndex(first));
      const within = first % layout.refcountBlockEntries;
      return block === 0 ? null : block + Math.floor((within * layout.refcountBits) / 8);
    }
    default:
      return null;
  }
}

// Which entries decide over a byte: of the disk the L1 and the L2 entry, of the file the refcount of its cluster.
import { isImageError } from '../../errors/image-error.ts';
import type { EntryQuestion, TableEntry } from '../driver.ts';
import { l2OffsetAt } from './l2.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/** Outermost first. Throws the codes of damaged tables, `storage/*`. */
export function qcow2EntriesOf(state: Qcow2State, at: EntryQuestion): TableEntry[] {
  if ('guest' in at) return mappingEntries(state, at.guest);
  return at.role === 'file' ? refcountEntries(state, at.host) : [];
}

function mappingEntries(state: Qcow2State, guest: number): TableEntry[] {
  const { l2Coverage, clusterSize, l2EntrySize, extendedL2 } = state.layout;
  const index = Math.floor(guest / l2Coverage);
  const { l1_table_offset } = state.header.fields;
  const l1: TableEntry = {
    structure: 'L1 table',
    field: `L1[${index}]`,
    role: 'file',
    offset: l1_table_offset + index * 8,
    length: 8,
    value: hex(state.l1[index * 2] ?? 0, state.l1[index * 2 + 1] ?? 0),
  };
  const offset = faultFree(() => l2OffsetAt(state, state.l1, index));
  if (offset === 0) return [l1];
  const entry = Math.floor((guest - index * l2Coverage) / clusterSize);
  const table = faultFree(() => state.tables.get(offset));
  if (table === 0) return [l1];
  const halves = extendedL2 ? 4 : 2;
  const word = hex(table[entry * halves] ?? 0, table[entry * halves + 1] ?? 0);
  const bitmap = extendedL2 ? ` ${hex(table[entry * halves + 2] ?? 0, table[entry * halves + 3] ?? 0)}` : '';
  const l2: TableEntry = {
    structure: 'L2 table',
    field: `L2[${entry}]`,
    role: 'file',
    offset: offset + entry * l2EntrySize,
    length: l2EntrySize,
    value: word + bitmap,
  };
  return [l1, l2];
}

/** What stands behind a damaged entry cannot be told; the entry itself can. */
function faultFree<Result>(look: () => Result): Result | 0 {
  try {
    return look();
  } catch (error) {
    if (isImageError(error)) return 0;
    throw error;
  }
}

function refcountEntries(state: Qcow2State, host: number): TableEntry[] {
  const { clusterSize, refcountBlockEntries, refcountBits } = state.layout;
  const { refcount_table_offset } = state.header.fields;
  const stored = new StoredRefcounts(state.storage, state.header, state.layout);
  const cluster = Math.floor(host / clusterSize);
  const index = stored.blockIndex(cluster);
  const block = stored.blockOffset(index);
  const table: TableEntry = {
    structure: 'refcount table',
    field: `entry ${index}`,
    role: 'file',
    offset: refcount_table_offset + index * 8,
    length: 8,
    value: `0x${block.toString(16)}`,
  };
  if (block === 0 || stored.unreadable(cluster)) return [table];
  const entry = cluster % refcountBlockEntries;
  const refcount: TableEntry = {
    structure: 'refcount block',
    field: `refcount of cluster ${cluster}`,
    role: 'file',
    offset: block + Math.floor((entry * refcountBits) / 8),
    length: Math.max(1, refcountBits / 8),
    value: stored.exact(cluster),
  };
  return [table, refcount];
}

function hex(high: number, low: number): string {
  return `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;
}

// Which entries decide over a byte of the disk: the one in the L1 table, the one in the L2 table.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import type { QcowState } from './state.ts';

/** Outermost first. Throws the codes of damaged tables, `storage/*`. */
export function qcowEntriesOf(state: QcowState, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at)) return [];
  const { l2Coverage, clusterSize } = state.layout;
  const index = Math.floor(at.guest / l2Coverage);
  const l1 = entry('L1 table', `L1[${index}]`, state.fields.l1_table_offset + index * 8, state.l1, index);
  const offset = state.l2Offset(index);
  if (offset === 0) return [l1];
  const inTable = Math.floor((at.guest - index * l2Coverage) / clusterSize);
  return [l1, entry('L2 table', `L2[${inTable}]`, offset + inTable * 8, state.l2Table(offset), inTable)];
}

function entry(structure: string, field: string, offset: number, halves: Uint32Array, index: number): TableEntry {
  const half = (at: number): string => (halves[at] ?? 0).toString(16).padStart(8, '0');
  return { structure, field, role: 'file', offset, length: 8, value: `0x${half(index * 2)}${half(index * 2 + 1)}` };
}

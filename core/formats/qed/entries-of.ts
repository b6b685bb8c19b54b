// Which entries decide over a byte of the disk: the one in the L1 table, the one in the L2 table.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import type { QedNode } from './node.ts';

/** Outermost first. */
export function qedEntriesOf(node: QedNode, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at)) return [];
  const { clusterSize, l2Coverage: coverage } = node.layout;
  const index = Math.floor(at.guest / coverage);
  const { l1_table_offset } = node.header;
  const table = node.entryAt(l1_table_offset, index);
  const l1 = entry('L1', l1_table_offset, index, table);
  if (table === 0) return [l1];
  const inTable = Math.floor((at.guest - index * coverage) / clusterSize);
  return [l1, entry('L2', table, inTable, node.entryAt(table, inTable))];
}

function entry(name: 'L1' | 'L2', table: number, index: number, value: number): TableEntry {
  const offset = table + index * 8;
  const words = `0x${value.toString(16)}`;
  return { structure: `${name} table`, field: `${name}[${index}]`, role: 'file', offset, length: 8, value: words };
}

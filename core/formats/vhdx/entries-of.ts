// Which entry decides over a byte of the disk: the payload block's in the BAT.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import { isPresent } from './block-table.ts';
import type { VhdxNode } from './node.ts';

/** One entry for every byte of the disk. Throws `storage/*`. */
export function vhdxEntriesOf(node: VhdxNode, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at)) return [];
  const { table, geometry } = node;
  const index = table.payload(Math.floor(at.guest / geometry.blockSize));
  const state = table.state(index);
  const value = isPresent(state) ? `state ${state}, offset 0x${table.place(index).toString(16)}` : `state ${state}`;
  return [
    { structure: 'BAT', field: `BAT[${index}]`, role: 'file', offset: table.offset + index * 8, length: 8, value },
  ];
}

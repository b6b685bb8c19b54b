// Which entry decides over a byte of the disk: the block's in the BAT.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import { roomAt } from './layout.ts';
import { DynamicNode, type VhdNode } from './node.ts';
import { unallocated } from './spec.ts';

/** None for a fixed disk. */
export function vhdEntriesOf(node: VhdNode, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at) || !(node instanceof DynamicNode)) return [];
  const block = Math.floor(at.guest / node.layout.blockSize);
  const entry = node.table.get(block);
  const value = entry === unallocated ? 'not allocated' : `sector ${entry} (offset 0x${roomAt(entry).toString(16)})`;
  const offset = node.table.offset + block * 4;
  return [{ structure: 'BAT', field: `BAT[${block}]`, role: 'file', offset, length: 4, value }];
}

// Which entry decides over a byte of the disk: the block's in the block map.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import type { VdiNode } from './node.ts';
import { freeBlock, zeroBlock } from './spec.ts';

/** One entry for every byte of the disk. Throws `storage/*`. */
export function vdiEntriesOf(node: VdiNode, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at)) return [];
  const block = Math.floor(at.guest / node.blockSize);
  const entry = node.blockMap.get(block);
  const value = entry === freeBlock ? 'not allocated' : entry === zeroBlock ? 'zero' : `block ${entry} of the file`;
  const offset = node.blockMap.offset + block * 4;
  return [{ structure: 'block map', field: `map[${block}]`, role: 'file', offset, length: 4, value }];
}

// Giving the whole disk back to the parent: a map of free blocks, and a file that ends where its data began.
import { freeBlock } from './spec.ts';
import type { WritableVdiNode } from './writing.ts';

/** The map is on the disk before the count of blocks, and both before the file is cut. Throws `storage/*`. */
export function emptyDisk(node: WritableVdiNode): void {
  const { blockMap, storage } = node;
  node.flush();
  for (let block = 0; block < blockMap.entries; block++) {
    if (blockMap.get(block) !== freeBlock) blockMap.set(block, freeBlock);
  }
  blockMap.write();
  storage.flush();
  node.patchHeader({ blocks_allocated: 0 });
  storage.flush();
  node.setTop(0);
  const end = node.header.values.offset_data;
  if (end < storage.size) storage.truncate(end);
  storage.flush();
}

// The blocks of a disk in the order of the file.
import type { HostOffset } from '../../block/units.ts';
import { roomAt } from './layout.ts';
import type { DynamicNode } from './node.ts';
import { unallocated } from './spec.ts';

export interface PlacedBlock {
  readonly block: number;
  readonly room: HostOffset;
}

/** All blocks that have a room, by its place; blocks that share one follow each other. */
export function* placedBlocks(node: DynamicNode): Generator<PlacedBlock, void, void> {
  const { table } = node;
  let count = 0;
  let last = -1;
  let isSorted = true;
  for (let block = 0; block < table.entries; block++) {
    const entry = table.get(block);
    if (entry === unallocated) continue;
    if (entry < last) isSorted = false;
    last = entry;
    count++;
  }
  const order = new Uint32Array(count);
  for (let block = 0, at = 0; block < table.entries; block++) {
    if (table.get(block) !== unallocated) order[at++] = block;
  }
  if (!isSorted) order.sort((a, b) => table.get(a) - table.get(b) || a - b);
  for (const block of order) yield { block, room: roomAt(table.get(block)) };
}

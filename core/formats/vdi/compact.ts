// Giving space back in a VDI: blocks leave the map, the last ones move into their places, the file is cut.
import { copyWithin } from '../../block/move.ts';
import type { BlockNode, WritableNode } from '../../block/node.ts';
import { KiB } from '../../block/units.ts';
import type { Job } from '../../job.ts';
import { compactedByHoles, type CompactDriver, type CompactStep } from '../compact-driver.ts';
import { VdiNode } from './node.ts';
import { freeBlock, imageType, zeroBlock } from './spec.ts';
import { WritableVdiNode } from './writing.ts';

/** Blocks that move between two waits for the disk. */
const batch = 32;

function ours(node: BlockNode): VdiNode {
  if (!(node instanceof VdiNode)) throw new Error(`${node.name} was not opened as VDI`);
  return node;
}

function writable(node: BlockNode): WritableVdiNode {
  if (!(node instanceof WritableVdiNode)) throw new Error(`${node.name} was not opened as VDI for writing`);
  return node;
}

/** Moves blocks from the end of the file into places that no block has any more, and cuts the file. */
function* settle(node: WritableVdiNode, job: Job): Generator<CompactStep, void, void> {
  const { blockMap, storage } = node;
  const { block_extra, block_size, offset_data } = node.header.values;
  const total = block_extra + block_size;
  node.flush();
  let count = 0;
  for (let block = 0; block < blockMap.entries; block++) if (blockMap.get(block) < zeroBlock) count++;
  const used = new Uint8Array(Math.ceil(count / 8));
  const beyond: number[] = [];
  for (let block = 0; block < blockMap.entries; block++) {
    const entry = blockMap.get(block);
    if (entry >= zeroBlock) continue;
    if (entry < count) used[entry >> 3] = (used[entry >> 3] ?? 0) | (1 << (entry & 7));
    else beyond.push(block);
  }
  let place = 0;
  const nextPlace = (): number => {
    while (((used[place >> 3] ?? 0) & (1 << (place & 7))) !== 0) place++;
    return place++;
  };
  for (let first = 0; first < beyond.length; first += batch) {
    job.throwIfCancelled();
    const moves = beyond.slice(first, first + batch).map((block) => ({ block, to: nextPlace() }));
    for (const { block, to } of moves) {
      const from = node.placeOf(blockMap.get(block)) - block_extra;
      copyWithin(storage, from, node.placeOf(to) - block_extra, total);
    }
    storage.flush();
    for (const { block, to } of moves) blockMap.set(block, to);
    blockMap.write();
    storage.flush();
    yield { done: (first + moves.length) * total, total: beyond.length * total };
  }
  node.patchHeader({ blocks_allocated: count });
  storage.flush();
  node.setTop(count);
  const end = offset_data + count * total;
  if (end < storage.size) storage.truncate(end);
  storage.flush();
}

export const compactVdi: CompactDriver = {
  plan(node) {
    const { header, differencing, blockSize } = ours(node);
    const isStatic = header.values.image_type === imageType.static;
    const rewrite = differencing
      ? { refused: 'a differencing disk would lose its link to its parent' }
      : { options: isStatic ? { static: true } : {} };
    if (isStatic) return compactedByHoles(rewrite);
    return { way: 'moves', reason: null, unit: blockSize, hole: 64 * KiB, keepsContent: null, rewrite };
  },
  begin(node: WritableNode, changesContent) {
    if (changesContent) writable(node).markChanged();
  },
  give(node, unit, { below, dry }) {
    const image = ours(node);
    if (dry) return true;
    const entry = below ? zeroBlock : freeBlock;
    image.blockMap.set(unit.start / image.blockSize, entry);
    return true;
  },
  settle: (node, job) => settle(writable(node), job),
};

// Giving space back in a VHD: blocks leave the BAT, the last ones move into their rooms, the file is cut and gets its footer there.
import { copyWithin } from '../../block/move.ts';
import type { BlockNode } from '../../block/node.ts';
import { KiB, type HostOffset } from '../../block/units.ts';
import type { Job } from '../../job.ts';
import { compactedByHoles, type CompactDriver, type CompactStep } from '../compact-driver.ts';
import { placedBlocks, type PlacedBlock } from './blocks.ts';
import { isExactMaker } from './geometry.ts';
import { DynamicNode, VhdNode } from './node.ts';
import { sectorSize } from './spec.ts';
import { structures } from './use.ts';
import { WritableDynamicNode } from './writing.ts';

/** Blocks that move between two waits for the disk. */
const batch = 16;

function writable(node: BlockNode): WritableDynamicNode {
  if (!(node instanceof WritableDynamicNode)) throw new Error(`${node.name} was not opened as dynamic VHD for writing`);
  return node;
}

interface Gap {
  start: HostOffset;
  length: number;
}

/** Where rooms fit between structures and blocks, rising. */
function gapsIn(node: DynamicNode, blocks: readonly PlacedBlock[]): Gap[] {
  const { roomSize } = node.layout;
  const used = structures(node).map(({ start, length }) => ({ start, length }));
  for (const { room } of blocks) used.push({ start: room, length: roomSize });
  used.sort((a, b) => a.start - b.start);
  const gaps: Gap[] = [];
  let end = 0;
  for (const { start, length } of used) {
    const from = Math.ceil(end / sectorSize) * sectorSize;
    if (start - from >= roomSize) gaps.push({ start: from, length: start - from });
    end = Math.max(end, start + length);
  }
  return gaps;
}

function* settle(node: WritableDynamicNode, job: Job): Generator<CompactStep, void, void> {
  const { roomSize } = node.layout;
  const { storage, table } = node;
  node.flush();
  const blocks = [...placedBlocks(node)];
  const gaps = gapsIn(node, blocks);
  const moves: { block: number; from: HostOffset; to: HostOffset }[] = [];
  let gap = gaps.shift();
  for (const { block, room } of blocks.reverse()) {
    if (gap === undefined || gap.start >= room) break;
    moves.push({ block, from: room, to: gap.start });
    gap.start += roomSize;
    gap.length -= roomSize;
    if (gap.length < roomSize) gap = gaps.shift();
  }
  node.forgetFreeRooms();
  for (let first = 0; first < moves.length; first += batch) {
    job.throwIfCancelled();
    const now = moves.slice(first, first + batch);
    for (const { from, to } of now) copyWithin(storage, from, to, roomSize);
    storage.flush();
    for (const { block, from, to } of now) {
      node.bitmaps.forget(from);
      table.set(block, to / sectorSize);
    }
    node.flush();
    yield { done: (first + now.length) * roomSize, total: moves.length * roomSize };
  }
  node.giveBackEnd();
  storage.flush();
}

export const compactVhd: CompactDriver = {
  plan(node) {
    if (!(node instanceof VhdNode)) throw new Error(`${node.name} was not opened as VHD`);
    const exact = isExactMaker(node.footer.creator_application) ? { force_size: true } : {};
    if (!(node instanceof DynamicNode)) return compactedByHoles({ options: { subformat: 'fixed', ...exact } });
    const { blockSize } = node.layout;
    const rewrite = node.differencing
      ? { refused: 'a differencing disk would lose its link to its parent' }
      : { options: { block_size: blockSize, ...exact } };
    return { way: 'moves', reason: null, unit: blockSize, hole: 64 * KiB, keepsContent: null, rewrite };
  },
  give(node, unit, { below, dry }) {
    // The format cannot say zero of a block that it does not store.
    if (below) return false;
    return dry || writable(node).release(unit) !== null;
  },
  settle: (node, job) => settle(writable(node), job),
};

// Giving space back in a VHDX: blocks leave the BAT, the last ones move into their places through the log, the file is cut.
import { copyWithin } from '../../block/move.ts';
import type { BlockNode, WritableNode } from '../../block/node.ts';
import { KiB, MiB, type HostOffset } from '../../block/units.ts';
import type { Job } from '../../job.ts';
import { compactedByHoles, type CompactDriver, type CompactStep } from '../compact-driver.ts';
import { isPresent } from './block-table.ts';
import { blockCount, chunkCount } from './layout.ts';
import { VhdxNode } from './node.ts';
import { bitmapBlockLength, bitmapState } from './spec.ts';
import { fixedPieces } from './use.ts';
import { WritableVhdxNode } from './writer.ts';

/** Bytes that move between two waits for the disk, and one block at least. */
const batchBytes = 64 * MiB;

function ours(node: BlockNode): VhdxNode {
  if (!(node instanceof VhdxNode)) throw new Error(`${node.name} was not opened as VHDX`);
  return node;
}

function writable(node: BlockNode): WritableVhdxNode {
  if (!(node instanceof WritableVhdxNode)) throw new Error(`${node.name} was not opened as VHDX for writing`);
  return node;
}

/** A block of the file by its BAT entry. */
interface Placed {
  readonly index: number;
  readonly state: number;
  readonly start: HostOffset;
  readonly length: number;
}

function blocksOf(node: VhdxNode): Placed[] {
  const { table, geometry } = node;
  const placed: Placed[] = [];
  const blocks = blockCount(geometry);
  for (let block = 0; block < blocks; block++) {
    const index = table.payload(block);
    const state = table.state(index);
    if (isPresent(state)) placed.push({ index, state, start: table.place(index), length: geometry.blockSize });
  }
  const chunks = chunkCount(geometry);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const index = table.bitmap(chunk);
    if (index >= table.capacity || table.state(index) !== bitmapState.present) continue;
    placed.push({ index, state: bitmapState.present, start: table.place(index), length: bitmapBlockLength });
  }
  return placed.sort((a, b) => a.start - b.start);
}

interface Gap {
  start: HostOffset;
  length: number;
}

function gapsIn(node: VhdxNode, blocks: readonly Placed[]): Gap[] {
  const used = [...fixedPieces(node), ...blocks].map(({ start, length }) => ({ start, length }));
  used.sort((a, b) => a.start - b.start);
  const gaps: Gap[] = [];
  let end = 0;
  for (const { start, length } of used) {
    const from = Math.ceil(end / MiB) * MiB;
    if (start - from >= MiB) gaps.push({ start: from, length: start - from });
    end = Math.max(end, start + length);
  }
  return gaps;
}

/** For each block from the last on the lowest gap that takes it; gaps too small for payload blocks stay for bitmap blocks. */
function movesFor(gaps: readonly Gap[], blocks: readonly Placed[]): { block: Placed; to: HostOffset }[] {
  const moves: { block: Placed; to: HostOffset }[] = [];
  const firstFit = new Map<number, number>();
  for (const block of blocks.toReversed()) {
    let at = firstFit.get(block.length) ?? 0;
    while (at < gaps.length && (gaps[at]?.length ?? 0) < block.length) at++;
    firstFit.set(block.length, at);
    const gap = gaps[at];
    if (gap === undefined || gap.start >= block.start) continue;
    moves.push({ block, to: gap.start });
    gap.start += block.length;
    gap.length -= block.length;
  }
  return moves;
}

function* settle(node: WritableVhdxNode, job: Job): Generator<CompactStep, void, void> {
  node.touch(false);
  node.flush();
  const blocks = blocksOf(node);
  const moves = movesFor(gapsIn(node, blocks), blocks);
  const total = moves.reduce((sum, { block }) => sum + block.length, 0);
  let done = 0;
  for (let first = 0; first < moves.length;) {
    job.throwIfCancelled();
    let next = first;
    let bytes = 0;
    while (next < moves.length && (bytes === 0 || bytes < batchBytes)) bytes += moves[next++]?.block.length ?? 0;
    const now = moves.slice(first, next);
    for (const { block, to } of now) {
      node.pages.forget(to, block.length);
      copyWithin(node.storage, block.start, to, block.length);
    }
    for (const { block, to } of now) {
      node.pages.forget(block.start, block.length);
      node.table.set(block.index, block.state, to);
    }
    node.flush();
    first = next;
    done += bytes;
    yield { done, total };
  }
  node.cutEnd();
}

export const compactVhdx: CompactDriver = {
  plan(node) {
    const { image, geometry, locator } = ours(node);
    const { blockSize, logicalSectorSize } = geometry;
    const { physicalSectorSize, leaveBlocksAllocated: fixed } = image.metadata;
    const options = {
      block_size: blockSize,
      logical_sector_size: logicalSectorSize,
      physical_sector_size: physicalSectorSize,
      log_size: image.section.header.LogLength,
      ...(fixed ? { subformat: 'fixed' } : {}),
    };
    const rewrite =
      locator === null ? { options } : { refused: 'a differencing disk would lose its link to its parent' };
    if (fixed) return compactedByHoles(rewrite);
    return { way: 'moves', reason: null, unit: blockSize, hole: 64 * KiB, keepsContent: null, rewrite };
  },
  begin(node: WritableNode, changesContent) {
    writable(node).touch(changesContent);
  },
  give(node, unit, { below, dry }) {
    if (dry) return true;
    const image = writable(node);
    return (below ? image.zero(unit) : image.release(unit)) !== null;
  },
  settle: (node, job) => settle(writable(node), job),
};

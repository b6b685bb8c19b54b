// The deep check: both copies of everything that stands twice, the log, every entry of the BAT, bitmaps, overlaps, the parent's locator.
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { relinkRepair, type CheckSummary, type Finding } from '../driver.ts';
import { isPresent } from './block-table.ts';
import { blockCount, chunkCount } from './layout.ts';
import type { VhdxNode } from './node.ts';
import { openParent } from './parent.ts';
import { alignment, bitmapBlockLength, bitmapState, headerOffsets, payloadState, regionTableOffsets } from './spec.ts';
import { ownerName, useOfFile } from './use.ts';

/** Findings of one kind that are told one by one; of the rest only the number. */
const maxEach = 100;
const entriesPerStep = 65_536;

/** qemu-img prints no figures for this format. */
const noFigures: CheckSummary = {
  imageEndOffset: null,
  totalClusters: null,
  allocatedClusters: null,
  fragmentedClusters: null,
  compressedClusters: null,
};

/** Checks an open image, and that its parent is there and is what it was made over. */
export function* checkVhdx(node: VhdxNode, job: Job): Generator<Finding, CheckSummary, void> {
  yield* checkCopies(node);
  yield* checkLog(node);
  yield* checkLocator(node);
  yield* checkParent(node);
  const tally = new Tally(node.name);
  yield* checkPayload(node, job, tally);
  yield* checkBitmaps(node, tally);
  yield* checkOverlaps(node, job, tally);
  yield* tally.rest();
  return noFigures;
}

function finding(node: VhdxNode, code: string, text: string, where: Where, repair: string | null = null): Finding {
  return {
    code: `vhdx/check-${code}`,
    severity: 'corruption',
    text,
    where: { file: node.name, ...where },
    count: 1,
    repair,
  };
}

/** Counts findings by their code and lets only the first ones through, so that a broken BAT does not flood who listens. */
class Tally {
  readonly #file: string;
  readonly #counts = new Map<string, number>();

  constructor(file: string) {
    this.#file = file;
  }

  *pass(one: Finding): Generator<Finding, void, void> {
    if (this.admits(one.code)) yield one;
  }

  /** Counts one of this kind; true while it is to be told. */
  admits(code: string): boolean {
    const count = (this.#counts.get(code) ?? 0) + 1;
    this.#counts.set(code, count);
    return count <= maxEach;
  }

  *rest(): Generator<Finding, void, void> {
    for (const [code, count] of this.#counts) {
      if (count <= maxEach) continue;
      const text = `ERROR ${count - maxEach} more of the kind ${code}`;
      const where = { file: this.#file };
      yield { code, severity: 'corruption', text, where, count: count - maxEach, repair: null };
    }
  }
}

function* checkCopies(node: VhdxNode): Generator<Finding, void, void> {
  const { section, table } = node.image;
  for (const slot of [0, 1] as const) {
    if (section.copies[slot] !== null) continue;
    const text = `ERROR header ${slot + 1} is not valid`;
    yield finding(node, 'header', text, { offset: headerOffsets[slot] }, 'it is written anew by the next writer');
  }
  const offsets = regionTableOffsets;
  for (const slot of [0, 1] as const) {
    if (table.valid[slot]) continue;
    const text = `ERROR copy ${slot + 1} of the region table is not valid`;
    yield finding(node, 'region-table', text, { offset: offsets[slot] }, 'it is written anew by the next writer');
  }
  if (table.valid[0] && table.valid[1] && !table.same) {
    const text = 'ERROR the two copies of the region table differ; the first one counts';
    yield finding(node, 'region-table', text, { offset: offsets[1] }, 'it is made like the first by the next writer');
  }
}

function* checkLog(node: VhdxNode): Generator<Finding, void, void> {
  const { pending, repaired, emptyLog, section } = node.image;
  const where = { offset: section.header.LogOffset };
  if (pending !== null && !repaired) {
    const text = `ERROR the log has ${pending.entries.length} entries that are not in their places yet`;
    yield finding(node, 'log-pending', text, where, 'the log would be replayed');
  }
  if (emptyLog && !repaired) {
    const text = 'ERROR the header names a log in which no entry is valid';
    yield finding(node, 'log-empty', text, where, 'the log would be marked empty');
  }
}

function* checkLocator(node: VhdxNode): Generator<Finding, void, void> {
  const { metadata } = node.image;
  if (!metadata.hasParent && metadata.parentLocator !== null) {
    const text = 'ERROR there is a parent locator, and the file parameters say that there is no parent';
    yield finding(node, 'locator', text, { offset: node.image.table.metadata.offset });
  }
  const paths = ['relative_path', 'absolute_win32_path', 'volume_path'];
  if (node.locator !== null && !paths.some((key) => node.locator?.pairs.has(key) === true)) {
    const text = 'ERROR the parent locator has no path';
    yield finding(node, 'locator', text, { offset: node.image.table.metadata.offset });
  }
}

function* checkParent(node: VhdxNode): Generator<Finding, void, void> {
  if (node.locator === null) return;
  try {
    openParent(node.name, node.locator, node.gate).close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const changed = error.code === 'vhdx/parent-changed';
    yield {
      code: error.code,
      severity: changed ? 'corruption' : 'error',
      text: `ERROR ${error.message}`,
      where: { file: node.name, offset: node.image.table.metadata.offset, field: 'parent_linkage' },
      count: 1,
      repair: changed ? relinkRepair : null,
    };
  }
}

function* checkPayload(node: VhdxNode, job: Job, tally: Tally): Generator<Finding, void, void> {
  const { table, geometry } = node;
  const blocks = blockCount(geometry);
  for (let block = 0; block < blocks; block++) {
    if (block % entriesPerStep === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'check', done: block * geometry.blockSize, total: geometry.virtualSize });
    }
    const index = table.payload(block);
    const state = table.state(index);
    const where = { offset: table.offset + index * 8 };
    if (state === 4) {
      yield* tally.pass(finding(node, 'state', `ERROR BAT entry ${index}: state 4 is reserved`, where));
    }
    if (state === payloadState.partiallyPresent) {
      yield* checkPartial(node, block, index, tally);
    }
    if (!isPresent(state)) continue;
    const used = Math.min(geometry.blockSize, geometry.virtualSize - block * geometry.blockSize);
    yield* checkPlace(node, index, used, tally);
  }
}

function* checkPartial(node: VhdxNode, block: number, index: number, tally: Tally): Generator<Finding, void, void> {
  const { table } = node;
  const where = { offset: table.offset + index * 8 };
  if (node.locator === null) {
    const text = `ERROR BAT entry ${index}: block ${block} is partially present in a disk without parent`;
    yield* tally.pass(finding(node, 'partial', text, where));
    return;
  }
  const chunk = Math.floor(block / table.ratio);
  const bitmap = table.bitmap(chunk);
  if (bitmap < table.capacity && table.state(bitmap) === bitmapState.present) return;
  const text = `ERROR BAT entry ${index}: block ${block} is partially present and chunk ${chunk} has no sector bitmap`;
  yield* tally.pass(finding(node, 'bitmap-missing', text, where));
}

function* checkPlace(node: VhdxNode, index: number, used: number, tally: Tally): Generator<Finding, void, void> {
  const place = node.table.place(index);
  const where = { offset: node.table.offset + index * 8 };
  const { size } = node.image.storage;
  if (place + used > size) {
    const text = `ERROR BAT entry ${index}: ${place}+${used} lies beyond the end of the file (${size})`;
    yield* tally.pass(finding(node, 'outside', text, where));
  } else if (place < alignment) {
    const text = `ERROR BAT entry ${index}: offset ${place} lies in the header section`;
    yield* tally.pass(finding(node, 'overlap', text, where));
  }
}

function* checkBitmaps(node: VhdxNode, tally: Tally): Generator<Finding, void, void> {
  const { table } = node;
  const chunks = chunkCount(node.geometry);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const index = table.bitmap(chunk);
    if (index >= table.capacity) return;
    const state = table.state(index);
    const where = { offset: table.offset + index * 8 };
    if (state !== bitmapState.notPresent && state !== bitmapState.present) {
      const text = `ERROR BAT entry ${index}: state ${state} is none of a sector bitmap`;
      yield* tally.pass(finding(node, 'state', text, where));
    }
    if (state !== bitmapState.present) continue;
    if (node.locator === null) {
      const text = `ERROR BAT entry ${index}: a sector bitmap in a disk without parent`;
      yield* tally.pass(finding(node, 'bitmap', text, where));
    }
    yield* checkPlace(node, index, bitmapBlockLength, tally);
  }
}

function* checkOverlaps(node: VhdxNode, job: Job, tally: Tally): Generator<Finding, void, void> {
  const found: Finding[] = [];
  const windows = useOfFile(node, (block, over) => {
    if (block.place < alignment) return;
    const name = typeof over === 'number' ? ownerName(over) : over.label;
    const text = `ERROR BAT entry ${block.index}: offset ${block.place} lies over ${name}`;
    const where = { offset: node.table.offset + block.index * 8 };
    if (tally.admits('vhdx/check-overlap')) found.push(finding(node, 'overlap', text, where));
  });
  for (const window of windows) {
    job.throwIfCancelled();
    job.progress({ phase: 'check', done: window.start, total: node.image.storage.size });
    yield* found.splice(0);
  }
}

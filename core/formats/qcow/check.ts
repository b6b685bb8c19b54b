// The deep check of a qcow image: every table and every cluster in the file, none on top of another, and the space that nothing uses.
import type { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { CheckSummary, Finding } from '../driver.ts';
import { join, packedLength, packedOffset } from './layout.ts';
import { packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';
import { tablesOf, usesOf, type Use } from './uses.ts';

/** Findings one by one; the figures at the end count clusters. Throws `storage/*`, `request/cancelled`. */
export function* checkQcow(state: QcowState, job: Job): Generator<Finding, CheckSummary, void> {
  const summary = yield* checkEntries(state, job);
  yield* checkPlaces(state, job);
  return summary;
}

function finding(
  state: QcowState,
  severity: Finding['severity'],
  code: string,
  text: string,
  offset: number,
  more: Partial<Finding> = {},
): Finding {
  return { code, severity, text, where: { file: state.storage.name, offset }, count: 1, repair: null, ...more };
}

/** What the entries say by themselves: aligned, within the file, not empty. */
function* checkEntries(state: QcowState, job: Job): Generator<Finding, CheckSummary, void> {
  const { layout, storage } = state;
  const { size } = storage;
  const faults: ImageError[] = [];
  let allocated = 0;
  let compressed = 0;
  let fragmented = 0;
  let expected = -1;
  for (const { index, offset, table } of tablesOf(state, (fault) => faults.push(fault))) {
    job.throwIfCancelled();
    job.progress({ phase: 'check', done: index * layout.l2Coverage, total: state.size });
    for (let i = 0; i < layout.l2Entries; i++) {
      const high = table[i * 2] ?? 0;
      const low = table[i * 2 + 1] ?? 0;
      if ((high | low) === 0) continue;
      allocated++;
      const cluster = index * layout.l2Entries + i;
      const packed = (high & packedFlag) !== 0;
      const start = packed ? packedOffset(layout, high, low) : join(high, low);
      const length = packed ? packedLength(layout, high) : layout.clusterSize;
      if (packed) compressed++;
      if (packed || (expected >= 0 && start !== expected)) fragmented++;
      expected = packed ? -1 : start + length;
      const entry = offset + i * 8;
      if (!packed && start % 512 !== 0) {
        const text = `ERROR cluster ${cluster} is not aligned: offset ${start}`;
        yield finding(state, 'corruption', 'qcow/check-unaligned', text, entry);
      } else if (start + length > size || length === 0) {
        const text = `ERROR cluster ${cluster} lies outside of the file: offset ${start}, ${length} bytes`;
        yield finding(state, 'corruption', 'qcow/check-outside', text, entry);
      }
    }
  }
  for (const fault of faults) {
    yield finding(state, 'corruption', fault.code, `ERROR ${fault.message}`, fault.where.offset ?? 0);
  }
  return {
    imageEndOffset: size,
    totalClusters: Math.ceil(state.size / layout.clusterSize),
    allocatedClusters: allocated,
    fragmentedClusters: fragmented,
    compressedClusters: compressed,
  };
}

/** What stands on top of something else, and what nobody points to. Gaps that alignment leaves are no leak. */
function* checkPlaces(state: QcowState, job: Job): Generator<Finding, void, void> {
  const { clusterSize } = state.layout;
  const { size } = state.storage;
  let last: Use | null = null;
  let end = 0;
  const leak = function* (upTo: number): Generator<Finding, void, void> {
    const first = Math.ceil(end / clusterSize);
    const count = Math.floor(upTo / clusterSize) - first;
    if (count < 1) return;
    const offset = first * clusterSize;
    const text = `Leaked space for ${count} cluster${count === 1 ? '' : 's'} at offset ${offset}`;
    yield finding(state, 'leak', 'qcow/check-leak', text, offset, { count, repair: 'convert the image' });
  };
  let count = 0;
  for (const use of usesOf(
    state,
    () => {},
    () => job.throwIfCancelled(),
  )) {
    if (count++ % 65536 === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'places', done: use.start, total: size });
    }
    if (use.start < end && last !== null) {
      const text = `ERROR ${nameOf(use)} and ${nameOf(last)} share offset ${use.start}`;
      const shared = Math.ceil((Math.min(end, use.start + use.length) - use.start) / clusterSize);
      yield finding(state, 'corruption', 'qcow/check-shared', text, use.start, { count: shared });
    } else if (use.start > end) {
      yield* leak(use.start);
    }
    if (use.start + use.length > end) {
      end = use.start + use.length;
      last = use;
    }
  }
  yield* leak(size);
}

function nameOf({ what, guest }: Use): string {
  switch (what) {
    case 'data':
      return `the clusters from ${guest}`;
    case 'compressed':
      return `cluster ${guest}`;
    case 'L2 table':
      return `L2 table ${guest}`;
    case 'name':
      return 'the backing file name';
    case 'header':
    case 'L1 table':
      return `the ${what}`;
  }
}

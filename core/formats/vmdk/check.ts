// Checking a VMDK image: descriptor against extents, tables against the file and each other, redundant copies, the parent.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { relinkRepair, type CheckSummary, type Finding } from '../driver.ts';
import { checkSparse } from './check-sparse.ts';
import type { Extent } from './extent.ts';
import type { VmdkNode } from './node.ts';
import { openParent } from './parent.ts';

const noFigures: CheckSummary = {
  imageEndOffset: null,
  totalClusters: null,
  allocatedClusters: null,
  fragmentedClusters: null,
  compressedClusters: null,
};

/** Findings of one kind that are told one by one; the rest is told as a number. */
const toldEach = 50;

/** Yields what is wrong; qemu-img prints no figures for this format. */
export function* checkVmdk(node: VmdkNode, job: Job): Generator<Finding, CheckSummary, void> {
  const kept = new Map<string, { finding: Finding; told: number; more: number }>();
  for (const finding of findings(node, job)) {
    const before = kept.get(finding.code) ?? { finding, told: 0, more: 0 };
    kept.set(finding.code, before);
    if (before.told < toldEach) {
      before.told++;
      yield finding;
    } else {
      before.more += finding.count;
    }
  }
  for (const { finding, more } of kept.values()) {
    if (more === 0) continue;
    yield { ...finding, count: more, text: `${more} more of this kind: ${finding.code}`, where: {} };
  }
  return noFigures;
}

function* findings(node: VmdkNode, job: Job): Generator<Finding, void, void> {
  yield* checkDescriptor(node);
  yield* checkParent(node);
  let done = 0;
  for (const extent of node.extents) {
    job.throwIfCancelled();
    const start = done;
    const progress = (bytes: number): void => {
      job.throwIfCancelled();
      job.progress({ phase: 'check', done: start + bytes, total: node.size });
    };
    if (extent.kind === 'sparse') yield* checkSparse(extent, progress);
    done += extent.size;
    progress(extent.size);
  }
}

/** Extents whose size in the descriptor is not the one that they have. */
export function* wrongSizes(
  node: VmdkNode,
): Generator<{ readonly extent: Extent; readonly expected: number; readonly found: number }, void, void> {
  for (const extent of node.extents) {
    const line = node.descriptor.extents[extent.line];
    if (line === undefined) continue;
    const found = actualSize(extent);
    const expected = extent.kind === 'flat' ? extent.base + line.size : line.size;
    const rounded = extent.kind === 'sparse' ? alignUp(line.size, extent.grainSize) : expected;
    if (extent.kind === 'flat' ? found >= expected : found === expected || found === rounded) continue;
    yield { extent, expected, found };
  }
}

function* checkDescriptor(node: VmdkNode): Generator<Finding, void, void> {
  const where = { file: node.place.storage.name, offset: node.place.offset };
  for (const { extent, expected, found } of wrongSizes(node)) {
    const text = `ERROR: the descriptor says ${expected} bytes for extent ${extent.line}, its file has ${found}`;
    const repair = extent.kind === 'sparse' ? 'write the size of the file into the descriptor' : null;
    yield { code: 'vmdk/extent-size', severity: 'corruption', text, where, count: 1, repair };
  }
}

function actualSize(extent: Extent): number {
  return extent.kind === 'flat' ? extent.storage.size : extent.size;
}

/** That the parent is there, and is what the delta was made over. */
function* checkParent(node: VmdkNode): Generator<Finding, void, void> {
  const { name, descriptor, gate } = node;
  try {
    openParent(name, descriptor, { withBacking: true, forRepair: false, gate })?.close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const changed = error.code === 'vmdk/parent-changed';
    yield {
      code: error.code,
      severity: changed ? 'corruption' : 'error',
      text: `ERROR: ${error.message}`,
      where: { file: name, offset: node.place.offset, field: 'parentCID' },
      count: 1,
      repair: changed ? relinkRepair : null,
    };
  }
}

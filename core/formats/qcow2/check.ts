// The check of a qcow2 image: everything that qemu-img's finds, in its order and words, without changing anything.
import { ImageError, isImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { CheckSummary, Finding } from '../driver.ts';
import { pageClusters, type ClusterCounts } from './cluster-counts.ts';
import { checkCopiedBits, complaint } from './copied-bits.ts';
import { corruption, internalError, leak, mended } from './findings.ts';
import { clustersFor, getRefcount, setRefcount } from './layout.ts';
import { ReferenceCount } from './reference-count.ts';
import { readSnapshotTable, type SnapshotTable } from './snapshots.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/**
 * Checks an open image (opened with `forRepair`, so that what a repair would mend does not keep it from opening). Findings come one
 * by one while the image is read. Throws `qcow2/check-failed` where qemu-img ends with "Check failed", `qcow2/check-memory`,
 * `qcow2/check-effort`, `storage/*`, `request/cancelled`.
 */
export function* checkQcow2(state: Qcow2State, job: Job): Generator<Finding, CheckSummary, void> {
  const { storage, layout } = state;
  const table = yield* checkSnapshotTable(state);
  const stored = new StoredRefcounts(storage, state.header, layout);
  const count = new ReferenceCount(state, stored, job);
  yield* count.run(table);
  const { counts, active, suspicious } = count.references;
  const { highest } = yield* compareRefcounts(state, stored, counts, job);
  if (suspicious) yield* checkCopiedBits(state, stored, job);
  return {
    imageEndOffset: (highest + 1) * layout.clusterSize,
    totalClusters: clustersFor(layout, state.size),
    allocatedClusters: active.allocated,
    fragmentedClusters: active.fragmented,
    compressedClusters: active.compressed,
  };
}

/** Bytes of extra data that every snapshot of version 3 has. */
const neededExtra = 16;

/** The snapshot table, after what is wrong with it. Throws `qcow2/check-failed` after the finding where it cannot be read. */
export function* checkSnapshotTable(state: Qcow2State): Generator<Finding, SnapshotTable, void> {
  const table = yield* readable(state);
  if (state.version < 3) return table;
  for (const [index, { extraLength, offset }] of table.snapshots.entries()) {
    if (extraLength >= neededExtra) continue;
    const where = { file: state.storage.name, offset: offset + 36, field: 'extra_data_size' };
    const repair = 'the snapshot table would be written anew';
    yield corruption('snapshot-incomplete', `ERROR snapshot table entry ${index} is incomplete`, where, repair);
  }
  return table;
}

/** The snapshot table; damage ends the check after a finding, as it does in qemu-img. */
function* readable(state: Qcow2State): Generator<Finding, SnapshotTable, void> {
  const { storage, header, layout } = state;
  let fault: ImageError;
  try {
    return readSnapshotTable(storage, header, layout, state.size, 'snapshot table');
  } catch (error) {
    if (!isImageError(error)) throw error;
    fault = error;
  }
  const inside = fault.code === 'qcow2/snapshot-extra' || fault.code === 'qcow2/snapshot-table-big';
  const reason = fault.code === 'qcow2/table-offset' ? 'Invalid argument' : 'File too large';
  if (!inside && fault.code !== 'qcow2/table-offset' && fault.code !== 'qcow2/table-too-large') throw fault;
  const lines = [`ERROR ${inside ? 'failed to read the snapshot table: ' : ''}${fault.message}`];
  const overhanging =
    fault.code === 'qcow2/table-too-large' ? Number(fault.detail.found) - Number(fault.detail.allowed) : 0;
  if (overhanging > 0) {
    lines.push(`You can force-remove all ${overhanging} overhanging snapshots with qemu-img check -r all`);
  }
  yield internalError('snapshot-table', lines.join('\n'), fault.where);
  throw new ImageError('qcow2/check-failed', { reason }, fault.where, fault);
}

/** Which refcounts are made right as they are compared: those that are too high, those that are too low. */
export interface RefcountFixes {
  readonly leaks: boolean;
  readonly errors: boolean;
}

export interface Comparison {
  /** The last cluster that the refcounts or the references say is used. */
  readonly highest: number;
  /** A cluster in use has a refcount of zero: its block may be missing, or be the wrong one altogether. */
  readonly rebuild: boolean;
}

/**
 * Holds the stored refcounts against the references that were counted, and writes those that `fixes` says, except where they are zero:
 * there all of them are doubtful.
 */
export function* compareRefcounts(
  state: Qcow2State,
  stored: StoredRefcounts,
  counts: ClusterCounts,
  job: Job,
  fixes: RefcountFixes | null = null,
): Generator<Finding, Comparison, void> {
  const { storage, layout } = state;
  const { refcountOrder } = layout;
  const pages = Math.ceil(counts.size / pageClusters);
  let highest = 0;
  let rebuild = false;
  for (let page = 0; page < pages; page++) {
    job.throwIfCancelled();
    const start = page * pageClusters;
    const length = Math.min(pageClusters, counts.size - start);
    const found = stored.page(page);
    const uniform = counts.uniform(page);
    if (found === null && uniform === 0) continue;
    if (found !== null && !found.unreadable && uniform !== null && stored.allAre(found.raw, uniform)) {
      if (uniform !== 0) highest = start + length - 1;
      continue;
    }
    // A finding may be a long time in the hands of who reads it; the buffer belongs to the next page by then.
    const raw = found?.raw.slice() ?? null;
    let changed = false;
    for (let at = 0; at < length; at++) {
      const cluster = start + at;
      const counted = counts.get(cluster);
      const kept = raw === null ? 0 : getRefcount(raw, refcountOrder, at);
      if (found?.unreadable === true && stored.unreadable(cluster)) {
        yield* complaint(stored, cluster);
        const text = `Can't get refcount for cluster ${cluster}: Input/output error`;
        yield internalError('refcount-unreadable', text, { file: storage.name, offset: cluster * layout.clusterSize });
        continue;
      }
      if (kept === 0 && counted === 0) continue;
      highest = cluster;
      if (kept === counted) continue;
      const finding = mismatch(state, stored, cluster, kept, counted);
      if (kept === 0) rebuild = true;
      else if (raw !== null && fixes !== null && (kept > counted ? fixes.leaks : fixes.errors)) {
        setRefcount(raw, refcountOrder, at, counted);
        changed = true;
        yield mended(finding);
        continue;
      }
      yield finding;
    }
    if (raw !== null && changed) stored.writePage(page, raw);
  }
  return { highest, rebuild };
}

function mismatch(state: Qcow2State, stored: StoredRefcounts, cluster: number, kept: number, counted: number): Finding {
  const where = { file: state.storage.name, offset: cluster * state.layout.clusterSize, field: 'refcount' };
  const shown = Number.isSafeInteger(kept) ? String(kept) : stored.exact(cluster);
  const text = `cluster ${cluster} refcount=${shown} reference=${counted}`;
  if (kept > counted) return leak('leak', `Leaked ${text}`, where, `the refcount would be set to ${counted}`);
  const repair = kept === 0 ? 'the refcount structures would be rebuilt' : `the refcount would be set to ${counted}`;
  return corruption('refcount', `ERROR ${text}`, where, repair);
}

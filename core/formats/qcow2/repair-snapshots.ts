// The snapshot table put right: too many entries, too much extra data, entries that lack what version 3 needs.
import { alignUp } from '../../block/units.ts';
import { isImageError } from '../../errors/image-error.ts';
import type { Finding } from '../driver.ts';
import { corruption, mended } from './findings.ts';
import { writeHeaderFields } from './header-write.ts';
import { Refcounts } from './refcount.ts';
import { settleRefcounts } from './refcount-settle.ts';
import { readSnapshotTable, type Snapshot, type SnapshotTable } from './snapshots.ts';
import { limit, snapshotEntry, snapshotExtra } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';

/** Extra data that every snapshot of version 3 has, in bytes. */
const neededExtra = 16;

/** What stands in the way of believing the table, taken out of it. */
export interface SnapshotRepair {
  readonly table: SnapshotTable;
  /** Findings that only a new table puts right: write it when the refcounts can be believed. */
  readonly pending: readonly Finding[];
}

/**
 * Reads the snapshot table as a repair does: snapshots over the limits are given up at once (the header counts fewer; their clusters
 * become leaks), what a new table would change is kept for `rewriteSnapshotTable`. `tell` hears of both. Throws what
 * `readSnapshotTable` throws for an offset that is not that of a cluster.
 */
export function readSnapshotsForRepair(state: Qcow2State, tell: (finding: Finding) => void): SnapshotRepair {
  const { storage, header, layout } = state;
  const name = storage.name;
  const cut = (count: number, overhanging: number, why: string): void => {
    const where = { file: name, offset: 60, field: 'nb_snapshots' };
    const text = `Discarding ${overhanging} overhanging snapshots${why}`;
    tell(mended({ ...corruption('snapshots-overhanging', text, where), count: overhanging }, text));
    header.fields = { ...header.fields, nb_snapshots: count };
  };
  const before = header.fields.nb_snapshots;
  if (before > limit.snapshots) cut(limit.snapshots, before - limit.snapshots, '');
  let table: SnapshotTable;
  let overhanging = 0;
  try {
    table = readSnapshotTable(storage, header, layout, state.size, 'snapshot table', true);
  } catch (error) {
    if (!isImageError(error) || error.code !== 'qcow2/snapshot-table-big') throw error;
    overhanging = Number(error.detail.overhanging);
    header.fields = { ...header.fields, nb_snapshots: header.fields.nb_snapshots - overhanging };
    table = readSnapshotTable(storage, header, layout, state.size, 'snapshot table', true);
  }
  if (header.fields.nb_snapshots !== before) {
    writeHeaderFields(state, ['nb_snapshots']);
    storage.flush();
  }
  const pending: Finding[] = [];
  const later = (finding: Finding): void => {
    pending.push(finding);
    tell(finding);
  };
  for (const [index, { extraLength, offset }] of table.snapshots.entries()) {
    if (extraLength <= limit.snapshotExtraBytes) continue;
    const where = { file: name, offset: offset + 36, field: 'extra_data_size' };
    const text = `Discarding too much extra metadata in snapshot table entry ${index} (${extraLength} > ${limit.snapshotExtraBytes})`;
    later(mended(corruption('snapshot-extra', text, where), text));
  }
  if (overhanging > 0) cut(header.fields.nb_snapshots, overhanging, ' (snapshot table is too big)');
  for (const [index, { extraLength, offset }] of table.snapshots.entries()) {
    if (state.version < 3 || extraLength >= neededExtra) continue;
    const where = { file: name, offset: offset + 36, field: 'extra_data_size' };
    later(mended(corruption('snapshot-incomplete', `ERROR snapshot table entry ${index} is incomplete`, where)));
  }
  return { table, pending };
}

/**
 * Writes the table anew in free clusters, points the header to it, and gives the old one back. The refcounts must be right.
 * Throws `qcow2/refcount-table-full`, `storage/*`.
 */
export function rewriteSnapshotTable(state: Qcow2State, table: SnapshotTable): void {
  const { storage, layout, header } = state;
  const { clusterSize } = layout;
  const bytes = tableOf(state, table.snapshots);
  const refcounts = new Refcounts(state, () => {});
  const run = refcounts.allocate(Math.ceil(bytes.length / clusterSize), true);
  storage.writeAt(bytes, run.first * clusterSize);
  settleRefcounts(state, refcounts);
  header.fields = { ...header.fields, snapshots_offset: run.first * clusterSize };
  writeHeaderFields(state, ['nb_snapshots', 'snapshots_offset']);
  storage.flush();
  const last = Math.floor((table.offset + table.length - 1) / clusterSize);
  for (let cluster = table.offset / clusterSize; cluster <= last; cluster++) {
    const count = refcounts.get(cluster);
    if (count > 0) refcounts.set(cluster, count - 1);
  }
  settleRefcounts(state, refcounts);
}

function tableOf(state: Qcow2State, snapshots: readonly Snapshot[]): Uint8Array {
  const entries = snapshots.map((snapshot) => entryOf(state, snapshot));
  const bytes = new Uint8Array(entries.reduce((length, entry) => alignUp(length, 8) + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    at = alignUp(at, 8);
    bytes.set(entry, at);
    at += entry.length;
  }
  return bytes;
}

/** An entry as it stands, with all known extra data, and of the unknown as much as is allowed. */
function entryOf(state: Qcow2State, snapshot: Snapshot): Uint8Array {
  const { storage } = state;
  const { offset, extraLength, facts } = snapshot;
  const read = (length: number, at: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    readPadded(storage, bytes, at);
    return bytes;
  };
  const head = read(snapshotEntry.size, offset);
  const known = new Uint8Array(snapshotExtra.size);
  snapshotExtra.patch(known, {
    vm_state_size_large: BigInt(facts.vmStateSize),
    disk_size: BigInt(facts.diskSize),
    icount: facts.icount === null ? 0xffff_ffff_ffff_ffffn : BigInt(facts.icount),
  });
  const keptLength = Math.min(extraLength, limit.snapshotExtraBytes);
  const keptExtra = read(keptLength, offset + snapshotEntry.size);
  const extra = new Uint8Array(Math.max(known.length, keptLength));
  extra.set(known);
  // Whole fields that are there are kept bit by bit; only what is missing is filled in.
  extra.set(keptExtra.subarray(0, keptLength < known.length ? keptLength - (keptLength % 8) : keptLength));
  snapshotEntry.patch(head, { extra_data_size: extra.length });
  const names = read(snapshot.length - snapshotEntry.size - extraLength, offset + snapshotEntry.size + extraLength);
  return Buffer.concat([head, extra, names]);
}

// Internal snapshots: one is taken, gone back to, deleted. Each is one step: before it the image is what it was, after it all of it is new.
import { isWritable, type WritableNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { NewSnapshot, SnapshotFacts } from '../driver.ts';
import { readBitmaps } from './bitmaps.ts';
import { l1EntriesFor } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { References, settleCopiedBits } from './snapshot-references.ts';
import { keptRow, newRow, nextId, tableOf, type NewEntry } from './snapshot-table.ts';
import { findSnapshot, listSnapshots, snapshotTable, type Snapshot } from './snapshots.ts';
import { limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { loadL1, putActiveL1, putL1, putSnapshots, succeed, type RowsFor } from './succession.ts';
import { Qcow2WritableNode } from './write-node.ts';

/** Longest name of a snapshot in bytes; longer ones are cut, as QEMU does. */
const longestName = 255;

function metadataOf(node: WritableNode): Qcow2Metadata {
  if (!isWritable(node) || !(node instanceof Qcow2WritableNode))
    throw new Error(`${node.name} was not opened to change it`);
  const { metadata, state } = node;
  if (state.external) throw new ImageError('snapshot/unsupported', {}, { file: state.storage.name });
  return metadata;
}

function found(state: Qcow2State, snapshot: Snapshot | null, name: string): Snapshot {
  if (snapshot === null) throw new ImageError('snapshot/not-found', { name }, { file: state.storage.name });
  return snapshot;
}

/**
 * Takes a snapshot (specification: "Snapshots"): what the disk holds now stays, under an id that is one higher than any other. Throws
 * `snapshot/unsupported` beside an external data file, `snapshot/too-many`, `snapshot/table-full`, `qcow2/refcount-overflow` where
 * refcounts are too narrow, and what the tables throw.
 */
export function createSnapshot(node: WritableNode, asked: NewSnapshot, job: Job): SnapshotFacts {
  const metadata = metadataOf(node);
  const { state } = metadata;
  const { snapshots } = snapshotTable(state);
  if (snapshots.length >= limit.snapshots) {
    throw new ImageError('snapshot/too-many', { allowed: limit.snapshots }, { file: state.storage.name });
  }
  const id = nextId(state);
  const entryOf = (l1Offset: number): NewEntry => ({
    id,
    name: Buffer.from(asked.name, 'utf8').subarray(0, longestName),
    l1Offset,
    l1Entries: state.l1.length / 2,
    dateSeconds: asked.dateSeconds,
    dateNanoseconds: asked.dateNanoseconds,
    diskSize: state.size,
  });
  const kept = snapshots.map((snapshot) => keptRow(state, snapshot));
  const tableLength = tableOf([...kept, newRow(entryOf(0))], state.storage.name).length;
  succeed(metadata, (successor) => {
    const l1Home = successor.reserve(state.l1.length * 4);
    const tableHome = successor.reserve(tableLength);
    const references = new References(state);
    references.add(state.l1, 1);
    references.apply(successor, job);
    const active = state.l1.slice();
    const taken = state.l1.slice();
    settleCopiedBits(state, successor, active, [taken], job);
    const l1Offset = putL1(successor, taken, l1Home);
    const rows: RowsFor = (homeOf) => [...kept, newRow(entryOf(homeOf(l1Offset)))];
    return { ...putActiveL1(state, successor, active), ...putSnapshots(state, successor, rows, tableHome) };
  });
  const facts = listSnapshots(state).find((snapshot) => snapshot.id === id);
  if (facts === undefined) throw new Error(`snapshot ${id} was taken and is not there`);
  return facts;
}

/**
 * Makes the disk what the snapshot holds, its size too; what was written since is gone. The id counts before the name. Throws
 * `snapshot/not-found`, `snapshot/bitmaps` while bitmaps follow the disk, `snapshot/other-size` in version 2 for another size,
 * `snapshot/unsupported`, `qcow2/refcount-overflow`, and what the tables throw.
 */
export function applySnapshot(node: WritableNode, idOrName: string, job: Job): void {
  const metadata = metadataOf(node);
  const { state } = metadata;
  const where = { file: state.storage.name };
  if (readBitmaps(state).length > 0) throw new ImageError('snapshot/bitmaps', {}, where);
  const snapshot = found(state, findSnapshot(snapshotTable(state).snapshots, idOrName), idOrName);
  const stored = loadL1(state, snapshot);
  const size = snapshot.facts.diskSize;
  if (size !== state.size && state.version < 3) throw new ImageError('snapshot/other-size', {}, where);
  const entries = Math.max(stored.length / 2, l1EntriesFor(state.layout, size));
  if (!Number.isSafeInteger(size) || size % 512 !== 0 || entries * 8 > limit.l1Bytes) {
    const detail = { table: 'Active L1 table', found: entries * 8, allowed: limit.l1Bytes };
    throw new ImageError('qcow2/table-too-large', detail, { ...where, offset: snapshot.offset });
  }
  succeed(metadata, (successor) => {
    const references = new References(state);
    references.add(stored, 1);
    references.add(state.l1, -1);
    references.apply(successor, job);
    const active = new Uint32Array(entries * 2);
    active.set(stored);
    settleCopiedBits(state, successor, active, [], job);
    return { size, ...putActiveL1(state, successor, active) };
  });
}

/**
 * Deletes the snapshot with this id; what only it referred to is free. Throws `snapshot/not-found`, `snapshot/unsupported`,
 * `qcow2/refcount-underflow`, and what the tables throw.
 */
export function deleteSnapshot(node: WritableNode, id: string, job: Job): void {
  const metadata = metadataOf(node);
  const { state } = metadata;
  const { snapshots } = snapshotTable(state);
  const doomed = found(state, snapshots.find((snapshot) => snapshot.id === id) ?? null, id);
  const stored = loadL1(state, doomed);
  const kept = snapshots.filter((snapshot) => snapshot !== doomed).map((snapshot) => keptRow(state, snapshot));
  if (metadata.givesSnapshotsBack) metadata.willGiveSpaceBack();
  succeed(metadata, (successor) => {
    const tableHome = successor.reserve(tableOf(kept, state.storage.name).length);
    const references = new References(state);
    references.add(stored, -1);
    references.apply(successor, job);
    successor.free(Number(doomed.l1Offset), stored.length * 4);
    const active = state.l1.slice();
    settleCopiedBits(state, successor, active, [], job);
    return { ...putActiveL1(state, successor, active), ...putSnapshots(state, successor, () => kept, tableHome) };
  });
}

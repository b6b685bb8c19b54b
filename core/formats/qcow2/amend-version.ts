// amend: from version 2 to 3 and back. Version 2 has no zero clusters: they become data, or nothing where nothing is below.
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { readBitmaps } from './bitmaps.ts';
import { featureTableBytes } from './create.ts';
import { Kind, kindOf } from './entries.ts';
import { withExtension } from './header-write.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { keptRow } from './snapshot-table.ts';
import { snapshotTable } from './snapshots.ts';
import { entry, extensionType, incompatible, type HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { loadL1, putActiveL1, putL1, putSnapshots, succeed, type RowsFor } from './succession.ts';
import type { Successor } from './successor.ts';
import { tableBytes } from './tables.ts';

/** Extra data that version 3 wants of each snapshot: 64 bits of the state's size, 64 bits of the disk's. */
const wantedExtra = 16;

/** Above this size of clusters there is room for the names of features. */
const smallClusters = 4096;

/** Version 2 becomes version 3: snapshots say all that it wants first. Throws `snapshot/table-full`, `qcow2/header-full`. */
export function upgrade(metadata: Qcow2Metadata): void {
  const { state } = metadata;
  const { snapshots } = snapshotTable(state);
  if (snapshots.some(({ extraLength }) => extraLength < wantedExtra)) {
    const rows = snapshots.map((snapshot) => keptRow(state, snapshot));
    succeed(metadata, (successor) => putSnapshots(state, successor, () => rows));
  }
  const names = state.layout.clusterSize > smallClusters ? featureTableBytes() : null;
  const { extensions } = state.header;
  const added = names === null ? [] : [{ type: extensionType.featureNames, data: names, offset: -1 }];
  const others = withExtension(extensions, extensionType.featureNames, null);
  try {
    rewrite(metadata, { version: 3 }, [...others, ...added]);
  } catch (error) {
    // The names are only for people: without them the header may fit.
    if (!(error instanceof ImageError) || error.code !== 'qcow2/header-full' || added.length === 0) throw error;
    rewrite(metadata, { version: 3 }, others);
  }
}

function rewrite(
  metadata: Qcow2Metadata,
  fields: Partial<HeaderV3>,
  extensions: Qcow2State['header']['extensions'],
  compressionType = metadata.state.header.compressionType,
): void {
  const { header } = metadata.state;
  const { fields: fieldsBefore, extensions: extensionsBefore, compressionType: compressionBefore } = header;
  Object.assign(header, { fields: { ...fieldsBefore, ...fields }, extensions, compressionType });
  try {
    metadata.rewriteHeader();
  } catch (error) {
    Object.assign(header, {
      fields: fieldsBefore,
      extensions: extensionsBefore,
      compressionType: compressionBefore,
    });
    throw error;
  }
}

/**
 * Can this image be one of version 2, once refcounts and size are what they will be? Throws `amend/downgrade-*`. Beside what QEMU
 * refuses, bitmaps: version 2 would lose them.
 */
export function checkDowngrade(state: Qcow2State, refcountOrder: number, size: number): void {
  const where = { file: state.storage.name };
  if (refcountOrder !== 4) throw new ImageError('amend/downgrade-refcounts', {}, where);
  if (state.external) throw new ImageError('amend/downgrade-data-file', {}, where);
  const { snapshots } = snapshotTable(state);
  if (snapshots.some(({ facts }) => facts.vmStateSize > 0xffff_ffff || facts.diskSize !== size)) {
    throw new ImageError('amend/downgrade-snapshots', {}, where);
  }
  const features = state.header.fields.incompatible_features & ~(incompatible.dirty | incompatible.compression);
  if (features !== 0n) throw new ImageError('amend/downgrade-features', { features: features.toString(16) }, where);
  const bitmaps = readBitmaps(state);
  if (bitmaps.length > 0) throw new ImageError('amend/downgrade-bitmaps', { count: bitmaps.length }, where);
  if (state.header.compressionType !== 0 && hasPacked(state)) {
    throw new ImageError('amend/downgrade-compression', {}, where);
  }
}

/** The L1 tables of the disk and of all its snapshots, and how often each L2 table is in them. */
function allL1(state: Qcow2State): { active: Uint32Array; stored: Uint32Array[]; uses: Map<number, number> } {
  const active = state.l1.slice();
  const stored = snapshotTable(state).snapshots.map((snapshot) => loadL1(state, snapshot));
  const uses = new Map<number, number>();
  for (const l1 of [active, ...stored]) {
    for (let index = 0; index * 2 < l1.length; index++) {
      const offset = l2OffsetAt(state, l1, index);
      if (offset !== 0) uses.set(offset, (uses.get(offset) ?? 0) + 1);
    }
  }
  return { active, stored, uses };
}

function hasPacked(state: Qcow2State): boolean {
  for (const offset of allL1(state).uses.keys()) {
    const table = state.tables.get(offset);
    for (let i = 0; i < table.length; i += 2) if (((table[i] ?? 0) & entry.compressed) !== 0) return true;
  }
  return false;
}

/**
 * Version 3 becomes version 2; `checkDowngrade` found nothing against it, and all is on disk. Throws `qcow2/refcount-overflow`,
 * `qcow2/header-full`, and what the tables throw.
 */
export function downgrade(metadata: Qcow2Metadata, job: Job): void {
  const { state } = metadata;
  metadata.markClean();
  const tables = allL1(state);
  const { active, stored, uses } = tables;
  if ([...uses.keys()].some((offset) => hasZeroes(state, offset))) {
    succeed(metadata, (successor) => {
      const moved = expandAll(state, successor, tables, job);
      const fields = pointTo(active, moved, uses) ? putActiveL1(state, successor, active) : {};
      const { snapshots } = snapshotTable(state);
      if (snapshots.length === 0) return fields;
      const places = snapshots.map((snapshot, i) => {
        const l1 = stored[i] ?? new Uint32Array(0);
        const before = Number(snapshot.l1Offset);
        if (!pointTo(l1, moved, uses)) return before;
        successor.free(before, l1.length * 4);
        return putL1(successor, l1, before);
      });
      const rows: RowsFor = (homeOf) =>
        snapshots.map((snapshot, i) => keptRow(state, snapshot, homeOf(places[i] ?? 0)));
      return { ...fields, ...putSnapshots(state, successor, rows) };
    });
  }
  const extensions = withExtension(state.header.extensions, extensionType.featureNames, null);
  const none = { incompatible_features: 0n, compatible_features: 0n, autoclear_features: 0n };
  rewrite(metadata, { version: 2, ...none }, extensions, 0);
}

function hasZeroes(state: Qcow2State, offset: number): boolean {
  const table = state.tables.get(offset);
  for (let i = 0; i < table.length; i += 2) {
    const kind = kindOf(state, table[i] ?? 0, table[i + 1] ?? 0);
    if (kind === Kind.zero || kind === Kind.zeroReserved) return true;
  }
  return false;
}

/** New places of the L2 tables that have zero clusters, with data in place of those. */
function expandAll(
  state: Qcow2State,
  successor: Successor,
  { active, stored, uses }: ReturnType<typeof allL1>,
  job: Job,
): Map<number, number> {
  const { clusterSize } = state.layout;
  const moved = new Map<number, number>();
  const total = [active, ...stored].reduce((sum, l1) => sum + l1.length / 2, 0);
  const looked = new Set<number>();
  let done = 0;
  for (const l1 of [active, ...stored]) {
    for (let index = 0; index * 2 < l1.length; index++) {
      const offset = l2OffsetAt(state, l1, index);
      job.throwIfCancelled();
      if (offset !== 0 && !looked.has(offset) && hasZeroes(state, offset)) {
        const references = uses.get(offset) ?? 1;
        const copy = successor.put(tableBytes(expand(state, successor, offset, references, job)));
        successor.addReferences(offset / clusterSize, 1, -references);
        successor.count(copy, clusterSize, references, { offset });
        moved.set(offset, copy);
      }
      looked.add(offset);
      job.progress({ phase: 'zero clusters', done: ++done * clusterSize, total: total * clusterSize });
    }
  }
  return moved;
}

/** The L2 table at `offset`, which `references` entries point to, without zero clusters. */
function expand(state: Qcow2State, successor: Successor, offset: number, references: number, job: Job): Uint32Array {
  const { clusterSize } = state.layout;
  const table = state.tables.get(offset).slice();
  const copied = references === 1 ? entry.copied : 0;
  const backed = state.backingReference !== null;
  const point = (i: number, to: number): void => {
    table[i] = to === 0 ? 0 : (Math.floor(to / 0x1_0000_0000) | copied) >>> 0;
    table[i + 1] = to % 0x1_0000_0000;
  };
  for (let i = 0; i < table.length; i += 2) {
    const high = table[i] ?? 0;
    const low = table[i + 1] ?? 0;
    const kind = kindOf(state, high, low);
    if (kind !== Kind.zero && kind !== Kind.zeroReserved) continue;
    job.throwIfCancelled();
    const reserved = entryOffset(high, low);
    if (reserved !== 0 && successor.refcount(reserved / clusterSize) === references) {
      // Space that is set aside, and nobody else's: whatever it holds, it reads as zeroes now and will.
      state.storage.zeroAt(reserved, clusterSize);
      point(i, reserved);
      continue;
    }
    if (reserved !== 0) successor.addReferences(reserved / clusterSize, 1, -references);
    if (!backed) {
      point(i, 0);
      continue;
    }
    const place = successor.putZeroes();
    successor.count(place, clusterSize, references);
    point(i, place);
  }
  return table;
}

/** Points the entries of `l1` to the new places. True: at least one moved. */
function pointTo(l1: Uint32Array, moved: ReadonlyMap<number, number>, uses: ReadonlyMap<number, number>): boolean {
  let changed = false;
  for (let index = 0; index * 2 < l1.length; index++) {
    const before = entryOffset(l1[index * 2] ?? 0, l1[index * 2 + 1] ?? 0);
    const after = moved.get(before);
    if (after === undefined) continue;
    const copied = uses.get(before) === 1 ? entry.copied : 0;
    l1[index * 2] = (Math.floor(after / 0x1_0000_0000) | copied) >>> 0;
    l1[index * 2 + 1] = after % 0x1_0000_0000;
    changed = true;
  }
  return changed;
}

// Finding out what every cluster of an image is for: one walk over all tables, each L2 table once.
import { ImageError } from '../../errors/image-error.ts';
import { bitmapClusters, readBitmapDirectory } from './bitmap-references.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { ClusterOwners, mostClusters, owner } from './cluster-owners.ts';
import { entryOffset, packedLength, packedOffset } from './layout.ts';
import type { SnapshotTable } from './snapshots.ts';
import { entry, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';
import { isHole, TableWalk } from './table-walk.ts';
import { loadTable } from './tables.ts';

const l1Piece = 128 * 1024;
/** L2 tables looked through between two pauses of the walk. */
const tablesPerPause = 32;

/** A table that stands in one piece: what it is called, and where it is. */
export interface Stretch {
  readonly start: number;
  readonly length: number;
}

/** A walk that may be left alone at each pause (`null`); at its end come the owners. */
export type OwnersWalk = Generator<null, ClusterOwners, void>;

/**
 * The owners of the clusters of the image file, with `stretches` (cluster-aligned tables) in their places. Throws `storage/*`,
 * `qcow2/check-memory`, `qcow2/check-effort`.
 */
export function* fileOwners(
  state: Qcow2State,
  stored: StoredRefcounts,
  table: SnapshotTable,
  stretches: readonly Stretch[],
): OwnersWalk {
  const { layout, storage } = state;
  const { clusterSize } = layout;
  const owners = new ClusterOwners(Math.ceil(storage.size / clusterSize), storage.name);
  owners.set(0, 1, owner.header);
  for (const { start, length } of stretches) {
    owners.set(Math.floor(start / clusterSize), Math.ceil(length / clusterSize), owner.stretch);
  }
  for (let index = 0; 2 * index < stored.table.length; index++) {
    const offset = stored.blockOffset(index);
    if (offset !== 0 && stored.isAligned(index)) owners.set(offset / clusterSize, 1, owner.refcountBlock);
  }
  const directory = readBitmapDirectory(state);
  for (const bitmap of directory?.bitmaps ?? []) {
    for (const offset of bitmapClusters(state, bitmap)) {
      if (offset !== null) owners.set(offset / clusterSize, 1, owner.bitmapData);
    }
  }
  let looked = 0;
  for (const l2 of eachL2Table(state, table)) {
    if (++looked % tablesPerPause === 0) yield null;
    owners.set(l2.offset / clusterSize, 1, owner.l2);
    if (!state.external && l2.halves !== null) ownEntries(state, l2.halves, owners, l2.active);
  }
  return owners;
}

/** The owners of the clusters of the external data file. Throws as `fileOwners`. */
export function* dataFileOwners(state: Qcow2State, table: SnapshotTable): OwnersWalk {
  const { data, layout } = state;
  const owners = new ClusterOwners(Math.ceil(data.size / layout.clusterSize), data.name);
  let looked = 0;
  for (const { halves, active } of eachL2Table(state, table)) {
    if (++looked % tablesPerPause === 0) yield null;
    if (halves !== null) ownEntries(state, halves, owners, active);
  }
  return owners;
}

function ownEntries(state: Qcow2State, halves: Uint32Array, owners: ClusterOwners, active: boolean): void {
  const { layout, external } = state;
  const { clusterSize, clusterBits, extendedL2, l2Entries } = layout;
  const stride = extendedL2 ? 4 : 2;
  const data = active ? owner.data : owner.snapshotData;
  const reserved = active ? owner.reserved : owner.snapshotReserved;
  for (let index = 0; index < l2Entries; index++) {
    const high = halves[index * stride] ?? 0;
    const low = halves[index * stride + 1] ?? 0;
    if (high === 0 && low === 0) continue;
    if ((high & entry.compressed) !== 0) {
      const offset = packedOffset(layout, high, low);
      const first = Math.floor(offset / clusterSize);
      const last = Math.floor((offset + packedLength(layout, high, low) - 1) / clusterSize);
      owners.set(first, last - first + 1, active ? owner.packed : owner.snapshotPacked);
      continue;
    }
    const cluster = (high & entry.offsetHigh) * 2 ** (32 - clusterBits) + (low >>> clusterBits);
    if (cluster === 0 && !(external && high >= entry.copied)) continue;
    const zero = extendedL2 ? halves[index * stride + 3] === 0 : (low & entry.zero) !== 0;
    // Disks that were written from end to end have one cluster after the other: the entries count up.
    const first = index;
    for (let next = low + clusterSize; index + 1 < l2Entries; index++, next += clusterSize) {
      const at = (index + 1) * stride;
      if (halves[at + 1] !== next || halves[at] !== high) break;
      if (extendedL2 && (halves[at + 3] === 0) !== zero) break;
    }
    owners.set(cluster, index - first + 1, zero ? reserved : data);
  }
}

/** An L2 table that some L1 entry leads to. `halves` is valid until the next one; null: there are only zeroes in it. */
interface L2Table {
  readonly offset: number;
  readonly halves: Uint32Array | null;
  /** The active L1 table leads to it (or a snapshot's does, only). */
  readonly active: boolean;
}

/** Every sound L2 table once, those of the active L1 table first. */
function* eachL2Table(state: Qcow2State, table: SnapshotTable): Generator<L2Table, void, void> {
  const { storage, layout, header } = state;
  const { clusterSize } = layout;
  const clusters = Math.ceil(storage.size / clusterSize);
  if (clusters > mostClusters)
    throw new ImageError('qcow2/check-memory', { allowed: clusters }, { file: storage.name });
  const seen = new ClusterCounts(clusters, storage.name);
  const walk = new TableWalk(storage, clusterSize);
  const { l1_table_offset, l1_size } = header.fields;
  const l1Tables = [{ offset: l1_table_offset, entries: l1_size, active: true }];
  for (const { l1Offset, l1Entries } of table.snapshots) {
    const sound = l1Offset % BigInt(clusterSize) === 0n && l1Entries <= limit.l1Bytes / 8;
    if (sound) l1Tables.push({ offset: Number(l1Offset), entries: l1Entries, active: false });
  }
  let allowed = Math.max(8 * 1024 * 1024, limit.l1Bytes / 8 + storage.size / 8);
  for (const { offset, entries, active } of l1Tables) {
    for (let done = 0; done < entries && offset + done * 8 < storage.size; done += l1Piece) {
      const count = Math.min(l1Piece, entries - done);
      if (isHole(storage, offset + done * 8, count * 8)) continue;
      allowed -= count;
      if (allowed < 0) {
        const reason = 'the L1 tables of the snapshots overlap';
        throw new ImageError('qcow2/check-effort', { reason }, { file: storage.name });
      }
      const piece = loadTable(storage, offset + done * 8, count, 'L1 table', 'zero');
      for (let index = 0; index < count; index++) {
        const place = entryOffset(piece[2 * index] ?? 0, piece[2 * index + 1] ?? 0);
        if (place === 0 || place % clusterSize !== 0 || place >= storage.size) continue;
        if (seen.mark(place / clusterSize)) yield { offset: place, halves: walk.table(place, piece, index), active };
      }
    }
  }
}

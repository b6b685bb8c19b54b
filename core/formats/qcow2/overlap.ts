// Where metadata lies, so that nothing else is ever written there.
import { ImageError } from '../../errors/image-error.ts';
import { bitmapDirectory } from './bitmaps.ts';
import { findExtension } from './header.ts';
import { writeHeaderFields } from './header-write.ts';
import { entryOffset } from './layout.ts';
import { readSnapshotTable } from './snapshots.ts';
import { encryptionHeader, extensionType, incompatible, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';

const chunkClusters = 32768;

/** A set of host clusters, as bits in chunks: no memory for stretches without members. */
class ClusterSet {
  readonly #chunks = new Map<number, Uint8Array>();

  add(first: number, count = 1): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const key = Math.floor(cluster / chunkClusters);
      let chunk = this.#chunks.get(key);
      if (chunk === undefined) {
        chunk = new Uint8Array(chunkClusters / 8);
        this.#chunks.set(key, chunk);
      }
      const at = cluster % chunkClusters;
      chunk[at >> 3] = (chunk[at >> 3] ?? 0) | (1 << (at & 7));
    }
  }

  remove(first: number, count = 1): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const chunk = this.#chunks.get(Math.floor(cluster / chunkClusters));
      if (chunk === undefined) continue;
      const at = cluster % chunkClusters;
      chunk[at >> 3] = (chunk[at >> 3] ?? 0) & ~(1 << (at & 7));
    }
  }

  /** The first member among `count` clusters from `first`, or -1. */
  firstIn(first: number, count: number): number {
    const end = first + count;
    let cluster = first;
    while (cluster < end) {
      const key = Math.floor(cluster / chunkClusters);
      const chunkEnd = Math.min(end, (key + 1) * chunkClusters);
      const chunk = this.#chunks.get(key);
      if (chunk !== undefined) {
        for (; cluster < chunkEnd; cluster++) {
          const at = cluster % chunkClusters;
          if (((chunk[at >> 3] ?? 0) & (1 << (at & 7))) !== 0) return cluster;
        }
      }
      cluster = chunkEnd;
    }
    return -1;
  }
}

/** Knows which host clusters hold metadata of an image that is written to. */
export class OverlapGuard {
  readonly #state: Qcow2State;
  readonly #refcountTable: () => Uint32Array;
  readonly #metadata: ClusterSet;

  /** `refcountTable`: the table as it is now. Throws what reading the snapshot table throws. */
  constructor(state: Qcow2State, refcountTable: () => Uint32Array) {
    this.#state = state;
    this.#refcountTable = refcountTable;
    this.#metadata = metadataClusters(state, refcountTable());
  }

  add(first: number, count = 1): void {
    this.#metadata.add(first, count);
  }

  remove(first: number, count = 1): void {
    this.#metadata.remove(first, count);
  }

  /**
   * Throws `qcow2/overlap` if any of these clusters holds metadata, and marks the image corrupt: its tables contradict themselves.
   */
  refuse(first: number, count: number): void {
    const hit = this.#metadata.firstIn(first, count);
    if (hit < 0) return;
    const state = this.#state;
    const structure = structureAt(state, this.#refcountTable(), hit);
    if (state.version >= 3 && !state.corrupt) {
      state.header.fields.incompatible_features |= incompatible.corrupt;
      writeHeaderFields(state, ['incompatible_features']);
      state.storage.flush();
    }
    const where = { file: state.storage.name, offset: hit * state.layout.clusterSize };
    throw new ImageError('qcow2/overlap', { structure }, where);
  }
}

/** The clusters of all structures of the image that can be known without following snapshots into their L2 tables. */
function metadataClusters(state: Qcow2State, refcountTable: Uint32Array): ClusterSet {
  const set = new ClusterSet();
  for (const [offset, length] of areas(state)) addArea(set, state, offset, length);
  for (const table of [state.l1, refcountTable]) {
    for (let i = 0; i < table.length; i += 2) {
      const offset = entryOffset(table[i] ?? 0, table[i + 1] ?? 0);
      if (offset !== 0) addArea(set, state, offset, 1);
    }
  }
  return set;
}

function addArea(set: ClusterSet, state: Qcow2State, offset: number, length: number): void {
  const { clusterSize } = state.layout;
  if (length === 0) return;
  const first = Math.floor(offset / clusterSize);
  set.add(first, Math.ceil((offset + length) / clusterSize) - first);
}

/** Offset, length and QEMU's name of the structures that are not found through a table. */
function areas(state: Qcow2State): [offset: number, length: number, name: string][] {
  const { fields } = state.header;
  const { clusterSize } = state.layout;
  const found: [number, number, string][] = [
    [0, clusterSize, 'main header'],
    [fields.l1_table_offset, fields.l1_size * 8, 'active L1 table'],
    [fields.refcount_table_offset, fields.refcount_table_clusters * clusterSize, 'refcount table'],
  ];
  const snapshots = readSnapshotTable(state.storage, state.header, state.layout, state.size);
  found.push([snapshots.offset, snapshots.length, 'snapshot table']);
  for (const snapshot of snapshots.snapshots) {
    const offset = Number(snapshot.l1Offset);
    const length = Math.min(snapshot.l1Entries * 8, limit.l1Bytes, state.storage.size - offset);
    if (length > 0) found.push([offset, length, 'inactive L1 table']);
  }
  const directory = bitmapDirectory(state);
  if (directory !== null) found.push([directory.offset, directory.length, 'bitmap directory']);
  const encryption = findExtension(state.header, extensionType.encryptionHeader);
  if (encryption !== null) {
    const pointer = encryptionHeader.parse(encryption.data);
    found.push([pointer.offset, pointer.length, 'encryption header']);
  }
  return found;
}

/** QEMU's name of what lies in host cluster `cluster`, of which it is known that it is metadata. */
function structureAt(state: Qcow2State, refcountTable: Uint32Array, cluster: number): string {
  const start = cluster * state.layout.clusterSize;
  const end = start + state.layout.clusterSize;
  for (const [offset, length, name] of areas(state)) {
    if (length > 0 && offset < end && offset + length > start) return name;
  }
  for (let i = 0; i < state.l1.length; i += 2) {
    if (entryOffset(state.l1[i] ?? 0, state.l1[i + 1] ?? 0) === start) return 'active L2 table';
  }
  for (let i = 0; i < refcountTable.length; i += 2) {
    if (entryOffset(refcountTable[i] ?? 0, refcountTable[i + 1] ?? 0) === start) return 'refcount block';
  }
  return 'metadata';
}

// Refcount blocks and the refcount table of an image opened for writing: read when needed, changed in memory, written when told to.
import { ImageError } from '../../errors/image-error.ts';
import { entryOffset, getRefcount, setRefcount } from './layout.ts';
import { entry, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { loadTable, tableBytes, TableCache } from './tables.ts';

/** A run of host clusters. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

/** `taken` false: given back. */
export type MetadataListener = (first: number, count: number, taken: boolean) => void;

const cleanLimit = 4 * 1024 * 1024;

/**
 * Refcounts by cluster (specification: "Host cluster management"). Changed blocks stay until they are written. New blocks lie in the
 * range they count, so that adding one needs no other.
 */
export class RefcountBlocks {
  /** The refcount table in halves; what it points to is not on disk before `writeBlocks`. */
  table: Uint32Array;
  readonly #state: Qcow2State;
  readonly #dirty = new Map<number, Uint8Array>();
  readonly #clean = new TableCache<Uint8Array>(cleanLimit);
  readonly #onMetadata: MetadataListener;
  /** Entries of the table that are not on disk yet: from, to. */
  #tableFrom = Number.MAX_SAFE_INTEGER;
  #tableTo = 0;
  /** The table has to move: where it stood, until the header points to the new place. */
  #oldTable: ClusterRun | null = null;

  /** `onMetadata` hears of clusters that the refcount structures take for themselves, and of those they give back at once. */
  constructor(state: Qcow2State, onMetadata: MetadataListener) {
    this.#state = state;
    this.#onMetadata = onMetadata;
    const { refcount_table_offset, refcount_table_clusters } = state.header.fields;
    const entries = (refcount_table_clusters * state.layout.clusterSize) / 8;
    this.table = loadTable(state.storage, refcount_table_offset, entries, 'Reference count table');
  }

  /** Bytes of changed blocks. */
  get dirtyBytes(): number {
    return this.#dirty.size * this.#state.layout.clusterSize;
  }

  get(cluster: number): number {
    const { refcountBlockEntries, refcountOrder } = this.#state.layout;
    const block = this.block(Math.floor(cluster / refcountBlockEntries));
    return block === null ? 0 : getRefcount(block, refcountOrder, cluster % refcountBlockEntries);
  }

  /** Sets the refcount of `cluster`; makes the block if there is none. */
  set(cluster: number, value: number): void {
    const { refcountBlockEntries, refcountOrder } = this.#state.layout;
    const index = Math.floor(cluster / refcountBlockEntries);
    if (this.block(index) === null) this.addArea(index, 0);
    setRefcount(this.#change(index), refcountOrder, cluster % refcountBlockEntries, value);
  }

  /** Sets the refcounts of a run, whose blocks are there, to `value`. */
  fill(run: ClusterRun, value: number): void {
    const { refcountBlockEntries: perBlock, refcountOrder } = this.#state.layout;
    let cluster = run.first;
    const end = run.first + run.count;
    while (cluster < end) {
      const index = Math.floor(cluster / perBlock);
      const block = this.#change(index);
      const blockEnd = Math.min(end, (index + 1) * perBlock);
      for (; cluster < blockEnd; cluster++) setRefcount(block, refcountOrder, cluster - index * perBlock, value);
    }
  }

  /** Index of the last block there is; -1: there is none. */
  lastBlock(): number {
    let index = this.table.length / 2 - 1;
    while (index >= 0 && this.table[index * 2] === 0 && this.table[index * 2 + 1] === 0) index--;
    return index;
  }

  /** The last cluster that is referenced; -1: none is. */
  lastUsed(): number {
    const { refcountBlockEntries: perBlock, refcountOrder } = this.#state.layout;
    for (let index = this.lastBlock(); index >= 0; index--) {
      const block = this.block(index);
      if (block === null) continue;
      for (let i = perBlock - 1; i >= 0; i--)
        if (getRefcount(block, refcountOrder, i) !== 0) return index * perBlock + i;
    }
    return -1;
  }

  /**
   * Takes the blocks out of the table that count nothing, or nothing but themselves. Returns their clusters, which are free once the table
   * is on disk. The first block stays.
   */
  dropEmpty(): number[] {
    const { clusterSize } = this.#state.layout;
    const dropped: number[] = [];
    for (let index = this.lastBlock(); index > 0; index--) {
      const block = this.block(index);
      if (block === null || !this.#isEmpty(index, block)) continue;
      dropped.push(this.blockOffset(index) / clusterSize);
      this.#dirty.delete(index);
      this.#clean.drop(index);
      this.table[index * 2] = 0;
      this.table[index * 2 + 1] = 0;
      this.#tableFrom = Math.min(this.#tableFrom, index);
      this.#tableTo = Math.max(this.#tableTo, index + 1);
    }
    return dropped;
  }

  #isEmpty(index: number, block: Uint8Array): boolean {
    const { refcountBlockEntries: perBlock, refcountOrder, clusterSize } = this.#state.layout;
    const own = this.blockOffset(index) / clusterSize - index * perBlock;
    for (let i = 0; i < perBlock; i++) {
      if (i !== own && getRefcount(block, refcountOrder, i) !== 0) return false;
    }
    return true;
  }

  /**
   * Blocks from `index` on, which have none: at the start of the clusters they count lie first they themselves, then a larger table
   * if the present one cannot hold them, then room for `payload` clusters. Returns how many clusters come before the payload.
   */
  addArea(index: number, payload: number): number {
    const { refcountBlockEntries: perBlock, clusterSize } = this.#state.layout;
    const perTableCluster = clusterSize / 8;
    let blocks = 1;
    let tableClusters: number;
    for (;;) {
      const entries = index + blocks;
      const enlarged = Math.ceil((entries + Math.ceil(entries / 2)) / perTableCluster);
      tableClusters = entries > this.table.length / 2 ? enlarged : 0;
      const needed = Math.ceil((blocks + tableClusters + payload) / perBlock);
      if (needed <= blocks) break;
      blocks = needed;
    }
    if (tableClusters * clusterSize > limit.refcountTableBytes) {
      tableClusters = Math.ceil((index + blocks) / perTableCluster);
      if (tableClusters * clusterSize > limit.refcountTableBytes) {
        throw new ImageError(
          'qcow2/refcount-table-full',
          { allowed: limit.refcountTableBytes },
          { file: this.#state.storage.name },
        );
      }
    }
    const first = index * perBlock;
    if (tableClusters > 0) this.moveTable(first + blocks, tableClusters);
    for (let i = 0; i < blocks; i++) this.place(index + i, first + i);
    const own = blocks + tableClusters;
    this.fill({ first, count: own }, 1);
    if (tableClusters > 0) this.#onMetadata(first + blocks, tableClusters, true);
    return own;
  }

  /** The table gets `clusters` clusters from `first` on, which the caller counts. */
  moveTable(first: number, clusters: number): void {
    const { fields } = this.#state.header;
    const { clusterSize } = this.#state.layout;
    const larger = new Uint32Array((clusters * clusterSize) / 4);
    larger.set(this.table);
    this.table = larger;
    if (this.#oldTable === null) {
      this.#oldTable = { first: fields.refcount_table_offset / clusterSize, count: fields.refcount_table_clusters };
    } else {
      // It was never pointed to: the place in between is given back at once.
      const between = fields.refcount_table_offset / clusterSize;
      for (let i = 0; i < fields.refcount_table_clusters; i++) this.set(between + i, 0);
      this.#onMetadata(between, fields.refcount_table_clusters, false);
    }
    fields.refcount_table_offset = first * clusterSize;
    fields.refcount_table_clusters = clusters;
    this.#tableFrom = 0;
    this.#tableTo = larger.length / 2;
  }

  /** The block of index `index`, or null if there is none. */
  block(index: number): Uint8Array | null {
    const offset = this.blockOffset(index);
    if (offset === 0) return null;
    const known = this.#dirty.get(index) ?? this.#clean.get(index);
    if (known !== null) return known;
    const { storage, layout } = this.#state;
    const where = { file: storage.name, offset, field: `refcount block ${index}` };
    if (offset % layout.clusterSize !== 0) {
      throw new ImageError('qcow2/refcount-block-offset', { offset, index }, where);
    }
    if (offset >= storage.size) {
      const detail = { table: 'Refcount block', length: layout.clusterSize, offset, size: storage.size };
      throw new ImageError('qcow2/table-beyond-file', detail, where);
    }
    const block = new Uint8Array(layout.clusterSize);
    storage.readAt(block.subarray(0, Math.min(block.length, storage.size - offset)), offset);
    this.#clean.put(index, block);
    return block;
  }

  /** Where the block of index `index` stands; 0: there is none. */
  blockOffset(index: number): number {
    if (index * 2 >= this.table.length) return 0;
    const low = this.table[index * 2 + 1] ?? 0;
    return entryOffset(this.table[index * 2] ?? 0, low & ~entry.refcountReservedLow);
  }

  #change(index: number): Uint8Array {
    const block = this.block(index);
    if (block === null) throw new Error(`refcount block ${index} is not there`);
    if (!this.#dirty.has(index)) {
      this.#clean.drop(index);
      this.#dirty.set(index, block);
    }
    return block;
  }

  /** The refcount structures have taken these clusters. */
  tellMetadata(first: number, count: number): void {
    this.#onMetadata(first, count, true);
  }

  /** A new block, all zero, at `cluster`, which the caller counts. There is none of this index, and the table can hold it. */
  place(index: number, cluster: number): void {
    const offset = cluster * this.#state.layout.clusterSize;
    this.#dirty.set(index, new Uint8Array(this.#state.layout.clusterSize));
    this.table[index * 2] = Math.floor(offset / 0x1_0000_0000);
    this.table[index * 2 + 1] = offset % 0x1_0000_0000;
    this.#tableFrom = Math.min(this.#tableFrom, index);
    this.#tableTo = Math.max(this.#tableTo, index + 1);
    this.#onMetadata(cluster, 1, true);
  }

  /** Is anything of the table not on disk? Then there must be a flush between `writeBlocks` and `writeTable`. */
  get tableDirty(): boolean {
    return this.#tableFrom < this.#tableTo || this.#oldTable !== null;
  }

  get blocksDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Writes the changed blocks. */
  writeBlocks(): void {
    const { storage } = this.#state;
    for (const [index, block] of this.#dirty) {
      storage.writeAt(block, this.blockOffset(index));
      this.#dirty.delete(index);
      this.#clean.put(index, block);
    }
  }

  /** Writes the changed entries of the table, or the whole table if it moved; the header is the caller's then. Returns true if so. */
  writeTable(): boolean {
    const { storage, header } = this.#state;
    const moved = this.#oldTable !== null;
    const from = moved ? 0 : this.#tableFrom;
    const to = moved ? this.table.length / 2 : this.#tableTo;
    if (from < to)
      storage.writeAt(tableBytes(this.table, from, to - from), header.fields.refcount_table_offset + from * 8);
    this.#tableFrom = Number.MAX_SAFE_INTEGER;
    this.#tableTo = 0;
    return moved;
  }

  /** The header points to the new table: the clusters of the old one, which are free as soon as that is on disk. */
  takeOldTable(): ClusterRun | null {
    const old = this.#oldTable;
    this.#oldTable = null;
    return old;
  }
}

// The next tables of an image: built in free clusters beside the present ones, put in force by one write of the header.
import { alignUp } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { silentJob, type Job } from '../../job.ts';
import { writeHeaderFields } from './header-write.ts';
import { getRefcount, layoutFor, setRefcount, type Layout } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import type { ClusterRun } from './refcount-blocks.ts';
import { limit, type HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** Blocks of the new refcounts that are kept in memory, in bytes. */
const keptBlocks = 16 * 1024 * 1024;

/** A block of the new refcounts. It may differ from what stands in its place in the file as long as it is `changed`. */
interface Block {
  readonly bytes: Uint8Array;
  changed: boolean;
}

/**
 * What changes in many tables at once (a snapshot is taken, another width of the refcounts) cannot be written in place: between two
 * writes, refcounts and copied bits would not agree. So everything that changes gets a new place in clusters that nobody uses, whose
 * count changes in the successor only; when all of it is on disk, one write of the header puts tables and refcounts in force together.
 * Until then the image is what it was, and nothing has leaked; afterwards the old places are free.
 */
export class Successor {
  readonly #metadata: Qcow2Metadata;
  readonly #state: Qcow2State;
  /** The layout that the image will have. */
  readonly layout: Layout;
  /** New places of blocks that changed, by index. */
  readonly #moved = new Map<number, number>();
  readonly #kept = new Map<number, Block>();
  /** Changes of refcounts that the successor's own structures make; they come due when everything else is said. */
  #owed: { run: ClusterRun; change: number }[] = [];
  /** No cluster before this one is handed out. */
  #next = 0;
  readonly #lengthBefore: number;
  #inForce = false;

  /**
   * `refcountOrder`: the width that refcounts will have; another than now: all are copied. Writes out what waits in memory. Throws
   * `qcow2/refcount-width-small` for a count that does not fit the new width, `qcow2/refcount-block-offset`, `storage/*`.
   */
  constructor(metadata: Qcow2Metadata, refcountOrder = metadata.state.layout.refcountOrder, job: Job = silentJob) {
    metadata.flush();
    this.#metadata = metadata;
    this.#state = metadata.state;
    const { clusterBits, extendedL2, refcountOrder: before } = metadata.state.layout;
    this.layout = layoutFor(clusterBits, refcountOrder, extendedL2);
    this.#lengthBefore = metadata.state.storage.size;
    if (refcountOrder !== before) this.#copyAll(job);
  }

  #where(cluster: number): Where {
    return { file: this.#state.storage.name, offset: cluster * this.layout.clusterSize };
  }

  get #sameWidth(): boolean {
    return this.layout.refcountOrder === this.#state.layout.refcountOrder;
  }

  // --- counts

  /** The refcount that `cluster` will have. */
  refcount(cluster: number): number {
    const { refcountBlockEntries, refcountOrder } = this.layout;
    const block = this.#block(Math.floor(cluster / refcountBlockEntries));
    return block === null ? 0 : getRefcount(block.bytes, refcountOrder, cluster % refcountBlockEntries);
  }

  /**
   * `change` references more (or less) to each of `count` clusters, which are in use. Throws `qcow2/refcount-overflow`,
   * `qcow2/refcount-underflow`.
   */
  addReferences(first: number, count: number, change: number): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const before = this.refcount(cluster);
      const value = before + change;
      if (before === 0 || value < 0)
        throw new ImageError('qcow2/refcount-underflow', { cluster }, this.#where(cluster));
      if (value > this.layout.refcountMax) {
        const detail = { cluster, most: this.layout.refcountMax };
        throw new ImageError('qcow2/refcount-overflow', detail, this.#where(cluster));
      }
      this.#set(cluster, value);
    }
  }

  /** The clusters of `length` bytes at `offset` will be free. */
  free(offset: number, length: number): void {
    if (length === 0) return;
    const { clusterSize } = this.layout;
    this.addReferences(offset / clusterSize, alignUp(length, clusterSize) / clusterSize, -1);
  }

  // --- places

  /**
   * Writes `bytes` to a new place of whole clusters and returns its offset; 0 if there are no bytes. `count` says how often they will be
   * referenced. Throws `qcow2/overlap`, `storage/*`.
   */
  put(bytes: Uint8Array): number {
    if (bytes.length === 0) return 0;
    const { clusterSize } = this.layout;
    const whole = new Uint8Array(alignUp(bytes.length, clusterSize));
    whole.set(bytes);
    const offset = this.#take(whole.length / clusterSize).first * clusterSize;
    this.#state.storage.writeAt(whole, offset);
    return offset;
  }

  /** What `put` wrote to `offset` will have `references` references. Once for each. Throws `qcow2/refcount-overflow`. */
  count(offset: number, length: number, references = 1): void {
    if (length === 0) return;
    const { clusterSize, refcountMax } = this.layout;
    const run = { first: offset / clusterSize, count: alignUp(length, clusterSize) / clusterSize };
    if (references > refcountMax) {
      const detail = { cluster: run.first, most: refcountMax };
      throw new ImageError('qcow2/refcount-overflow', detail, this.#where(run.first));
    }
    this.#owed.push({ run, change: references });
  }

  /** A run of clusters that neither the present image nor the successor uses. */
  #take(count: number): ClusterRun {
    const { refcounts } = this.#metadata;
    let found = 0;
    let cluster = this.#next;
    for (; found < count; cluster++) found = refcounts.get(cluster) === 0 ? found + 1 : 0;
    const run = { first: cluster - count, count };
    // What is skipped stays free; for single clusters nothing is.
    this.#next = cluster;
    this.#metadata.refuseMetadata(run.first, run.count);
    return run;
  }

  // --- blocks

  #set(cluster: number, value: number): void {
    const { refcountBlockEntries, refcountOrder } = this.layout;
    const block = this.#blockForChange(Math.floor(cluster / refcountBlockEntries));
    setRefcount(block.bytes, refcountOrder, cluster % refcountBlockEntries, value);
  }

  #block(index: number): Block | null {
    const kept = this.#kept.get(index);
    if (kept !== undefined) return kept;
    const { storage } = this.#state;
    const moved = this.#moved.get(index);
    let bytes: Uint8Array | null;
    if (moved !== undefined) {
      bytes = new Uint8Array(this.layout.clusterSize);
      storage.readAt(bytes, moved);
    } else {
      bytes = this.#sameWidth ? (this.#metadata.refcounts.blocks.block(index)?.slice() ?? null) : null;
    }
    return bytes === null ? null : this.#keep(index, { bytes, changed: false });
  }

  #blockForChange(index: number): Block {
    let block = this.#block(index);
    if (!this.#moved.has(index)) {
      const before = this.#sameWidth ? this.#metadata.refcounts.blocks.blockOffset(index) : 0;
      const { clusterSize } = this.layout;
      const run = this.#take(1);
      this.#moved.set(index, run.first * clusterSize);
      this.#owed.push({ run, change: 1 });
      if (before !== 0) this.#owed.push({ run: { first: before / clusterSize, count: 1 }, change: -1 });
      block ??= this.#keep(index, { bytes: new Uint8Array(clusterSize), changed: true });
    }
    if (block === null) throw new Error(`refcount block ${index} has a place and no content`);
    block.changed = true;
    return block;
  }

  /** Keeps `block` in memory; the one that came first goes, written to its place if it changed: nobody reads that yet. */
  #keep(index: number, block: Block): Block {
    this.#kept.set(index, block);
    if (this.#kept.size * this.layout.clusterSize > keptBlocks) {
      for (const [oldest, old] of this.#kept) {
        if (oldest === index) continue;
        this.#write(oldest, old);
        this.#kept.delete(oldest);
        break;
      }
    }
    return block;
  }

  #write(index: number, block: Block): void {
    if (!block.changed) return;
    const offset = this.#moved.get(index);
    if (offset === undefined) throw new Error(`refcount block ${index} changed and has no place`);
    this.#state.storage.writeAt(block.bytes, offset);
    block.changed = false;
  }

  /** All refcounts in the new width. The present structure counts itself: that ends. */
  #copyAll(job: Job): void {
    const { layout: old } = this.#state;
    const { clusterSize } = old;
    const { blocks } = this.#metadata.refcounts;
    const end = blocks.lastBlock() + 1;
    for (let index = 0; index < end; index++) {
      job.throwIfCancelled();
      job.progress({ phase: 'refcounts', done: index * clusterSize, total: end * clusterSize });
      const block = blocks.block(index);
      if (block === null) continue;
      const first = index * old.refcountBlockEntries;
      for (let i = 0; i < old.refcountBlockEntries; i++) {
        const value = getRefcount(block, old.refcountOrder, i);
        if (value === 0) continue;
        if (value > this.layout.refcountMax) {
          const detail = { bits: this.layout.refcountBits, offset: (first + i) * clusterSize, found: value };
          throw new ImageError('qcow2/refcount-width-small', detail, this.#where(first + i));
        }
        this.#set(first + i, value);
      }
      this.#owed.push({ run: { first: blocks.blockOffset(index) / clusterSize, count: 1 }, change: -1 });
    }
  }

  // --- in force

  /**
   * Makes the successor the image: writes what is left of it, waits for the disk, changes the header (`fields`, and where the refcounts
   * stand) in one write, waits again; the metadata then is read anew. Throws `qcow2/refcount-table-full`, `storage/*`.
   */
  enact(fields: Partial<HeaderV3> = {}): void {
    const { header, storage } = this.#state;
    const { clusterSize } = this.layout;
    const { refcount_table_offset: oldOffset, refcount_table_clusters: oldClusters } = header.fields;
    this.#owed.push({ run: { first: oldOffset / clusterSize, count: oldClusters }, change: -1 });
    const table = this.#placeTable();
    for (const [index, block] of this.#kept) this.#write(index, block);
    this.#writeTable(table);
    storage.flush();
    const before = header.fields;
    header.fields = {
      ...before,
      ...fields,
      refcount_table_offset: table.first * clusterSize,
      refcount_table_clusters: table.count,
      refcount_order: this.layout.refcountOrder,
    };
    const changed = (Object.keys(header.fields) as (keyof HeaderV3)[]).filter(
      (name) => header.fields[name] !== before[name],
    );
    try {
      writeHeaderFields(this.#state, changed);
      this.#inForce = true;
    } catch (error) {
      header.fields = before;
      throw error;
    }
    storage.flush();
    this.#state.layout = this.layout;
    this.#metadata.reload();
  }

  /** The successor does not come: the file gets the length back that it had. Does nothing once it is in force. */
  abandon(): void {
    const { storage } = this.#state;
    if (!this.#inForce && storage.size > this.#lengthBefore) storage.truncate(this.#lengthBefore);
  }

  /** Counts what the successor itself takes; that may need further blocks. */
  #settle(): void {
    while (this.#owed.length > 0) {
      const owed = this.#owed;
      this.#owed = [];
      for (const { run, change } of owed) {
        if (change < 0) this.addReferences(run.first, run.count, change);
        else for (let i = 0; i < run.count; i++) this.#set(run.first + i, change);
      }
    }
  }

  /** Clusters for a refcount table that holds all blocks, those that count the table too. */
  #placeTable(): ClusterRun {
    const { clusterSize } = this.layout;
    const old = this.#metadata.refcounts.blocks;
    for (;;) {
      this.#settle();
      let last = this.#sameWidth ? old.lastBlock() : -1;
      for (const index of this.#moved.keys()) last = Math.max(last, index);
      const count = Math.max(1, Math.ceil(((last + 1) * 8) / clusterSize));
      if (count * clusterSize > limit.refcountTableBytes) {
        const detail = { allowed: limit.refcountTableBytes };
        throw new ImageError('qcow2/refcount-table-full', detail, { file: this.#state.storage.name });
      }
      const run = this.#take(count);
      this.#owed.push({ run, change: 1 });
      this.#settle();
      for (const index of this.#moved.keys()) last = Math.max(last, index);
      if ((last + 1) * 8 <= count * clusterSize) return run;
      this.#owed.push({ run, change: -1 });
    }
  }

  #writeTable({ first, count }: ClusterRun): void {
    const { clusterSize } = this.layout;
    const bytes = new Uint8Array(count * clusterSize);
    const view = new DataView(bytes.buffer);
    const old = this.#metadata.refcounts.blocks;
    for (let index = 0; index * 8 < bytes.length; index++) {
      const offset = this.#moved.get(index) ?? (this.#sameWidth ? old.blockOffset(index) : 0);
      view.setUint32(index * 8, Math.floor(offset / 0x1_0000_0000));
      view.setUint32(index * 8 + 4, offset % 0x1_0000_0000);
    }
    this.#state.storage.writeAt(bytes, first * clusterSize);
  }
}

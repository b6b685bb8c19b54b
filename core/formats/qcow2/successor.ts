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
  /** It has its new place. */
  placed: boolean;
}

/** Where each structure of a successor is to lie in the end, and what stands in it then. */
interface Homecoming {
  readonly from: number;
  readonly length: number;
  readonly home: number;
  readonly references: number;
  /** Its bytes once everything is at home; null: the same as now. */
  readonly content: ((homeOf: (offset: number) => number) => Uint8Array) | null;
}

/** What `put` is told of the place that a structure keeps in the end. */
export interface Home {
  /** Where: the place of what it replaces, or one that `reserve` gave. It is free while the successor is in force. */
  readonly offset: number;
  readonly content?: Homecoming['content'];
}

/** Places of the refcount structure when it comes home. */
interface RefcountHomes {
  readonly blocks: ReadonlyMap<number, number>;
  readonly table: ClusterRun;
}

/**
 * What changes in many tables at once (a snapshot is taken, another width of the refcounts) cannot be written in place: between two
 * writes, refcounts and copied bits would not agree. So everything that changes gets a new place in clusters that nobody uses, whose
 * count changes in the successor only; when all of it is on disk, one write of the header puts tables and refcounts in force together.
 * Until then the image is what it was, and nothing has leaked; afterwards the old places are free. In the same way everything then moves
 * back there (`settle`), so that an image does not grow by its tables each time, and they stay where other programs put them.
 */
export class Successor {
  readonly #metadata: Qcow2Metadata;
  readonly #state: Qcow2State;
  /** The layout that the image will have. */
  readonly layout: Layout;
  /** New places of blocks that changed, by index. */
  readonly #moved = new Map<number, number>();
  readonly #kept = new Map<number, Block>();
  /** The block asked for last: the next question is mostly about it too. */
  #lastIndex = -1;
  #last: Block | null = null;
  /** Changes of refcounts that the successor's own structures make; they come due when everything else is said. */
  #owed: { run: ClusterRun; change: number }[] = [];
  /** No cluster before this one is handed out. */
  #next = 0;
  readonly #lengthBefore: number;
  #inForce = false;
  readonly #homecomings: Homecoming[] = [];
  /** Where blocks of the refcounts stood before, by index. */
  readonly #blockHomes = new Map<number, number>();
  #homes: RefcountHomes | null = null;
  #tableBefore: ClusterRun = { first: 0, count: 0 };
  /** The end of what stays where `put` put it. */
  #end = 0;
  /** Clusters that are free and spoken for. */
  readonly #spokenFor = new Set<number>();

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
    const { refcountBlockEntries, refcountOrder } = this.layout;
    for (let cluster = first; cluster < first + count; cluster++) {
      const index = Math.floor(cluster / refcountBlockEntries);
      const at = cluster - index * refcountBlockEntries;
      const block = this.#block(index);
      const before = block === null ? 0 : getRefcount(block.bytes, refcountOrder, at);
      const value = before + change;
      if (before === 0 || value < 0)
        throw new ImageError('qcow2/refcount-underflow', { cluster }, this.#where(cluster));
      if (value > this.layout.refcountMax) {
        const detail = { cluster, most: this.layout.refcountMax };
        throw new ImageError('qcow2/refcount-overflow', detail, this.#where(cluster));
      }
      setRefcount(this.#blockForChange(index).bytes, refcountOrder, at, value);
      if (value === 0) this.#metadata.noteFree(cluster);
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
    const offset = this.#take(alignUp(bytes.length, clusterSize) / clusterSize).first * clusterSize;
    this.#writeWhole(bytes, offset);
    return offset;
  }

  /** A cluster that reads as zeroes, and takes no space where the host can do without. */
  putZeroes(): number {
    const { clusterSize } = this.layout;
    const offset = this.#take(1).first * clusterSize;
    this.#state.storage.zeroAt(offset, clusterSize);
    return offset;
  }

  #writeWhole(bytes: Uint8Array, offset: number): void {
    const whole = new Uint8Array(alignUp(bytes.length, this.layout.clusterSize));
    whole.set(bytes);
    this.#state.storage.writeAt(whole, offset);
  }

  /** The first free place for `length` bytes that will be the home of something; 0 for no bytes. Before anything is put. */
  reserve(length: number): number {
    if (length === 0) return 0;
    const { clusterSize } = this.layout;
    return this.#take(alignUp(length, clusterSize) / clusterSize).first * clusterSize;
  }

  /**
   * What `put` wrote to `offset` will have `references` references. Once for each. With a home it moves there in the end. Throws
   * `qcow2/refcount-overflow`.
   */
  count(offset: number, length: number, references = 1, home: Home | null = null): void {
    if (length === 0) return;
    const { clusterSize, refcountMax } = this.layout;
    if (home !== null) {
      this.#homecomings.push({
        from: offset,
        length,
        home: home.offset,
        references,
        content: home.content ?? null,
      });
    } else this.#end = Math.max(this.#end, alignUp(offset + length, clusterSize));
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
    for (; found < count; cluster++) {
      found = refcounts.get(cluster) === 0 && !this.#spokenFor.has(cluster) ? found + 1 : 0;
    }
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
    if (index === this.#lastIndex) return this.#last;
    const kept = this.#kept.get(index);
    if (kept !== undefined) {
      this.#lastIndex = index;
      this.#last = kept;
      return kept;
    }
    const { storage } = this.#state;
    const moved = this.#moved.get(index);
    let bytes: Uint8Array | null;
    if (moved !== undefined) {
      bytes = new Uint8Array(this.layout.clusterSize);
      storage.readAt(bytes, moved);
    } else {
      bytes = this.#sameWidth ? (this.#metadata.refcounts.blocks.block(index)?.slice() ?? null) : null;
    }
    return bytes === null ? null : this.#keep(index, { bytes, changed: false, placed: moved !== undefined });
  }

  #blockForChange(index: number): Block {
    let block = this.#block(index);
    if (block === null || !block.placed) {
      const before = this.#sameWidth ? this.#metadata.refcounts.blocks.blockOffset(index) : 0;
      const { clusterSize } = this.layout;
      const home = this.#homes?.blocks.get(index);
      const run = home === undefined ? this.#take(1) : { first: home / clusterSize, count: 1 };
      this.#moved.set(index, run.first * clusterSize);
      if (before !== 0) this.#blockHomes.set(index, before);
      this.#owed.push({ run, change: 1 });
      if (before !== 0) this.#owed.push({ run: { first: before / clusterSize, count: 1 }, change: -1 });
      block ??= this.#keep(index, { bytes: new Uint8Array(clusterSize), changed: true, placed: true });
      block.placed = true;
    }
    block.changed = true;
    return block;
  }

  /** Keeps `block` in memory; the one that came first goes, written to its place if it changed: nobody reads that yet. */
  #keep(index: number, block: Block): Block {
    this.#kept.set(index, block);
    this.#lastIndex = index;
    this.#last = block;
    if (this.#kept.size * this.layout.clusterSize > keptBlocks) {
      for (const [oldest, old] of this.#kept) {
        if (oldest === index) continue;
        this.#write(oldest, old);
        this.#kept.delete(oldest);
        if (oldest === this.#lastIndex) this.#lastIndex = -1;
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
    this.#tableBefore = { first: oldOffset / clusterSize, count: oldClusters };
    this.#owed.push({ run: this.#tableBefore, change: -1 });
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

  /**
   * Once it is in force: moves what has a home there, refcounts included, in the same way, and gives the end of the file back. `fields`
   * are the header's that name places (of the successor: they are translated). Throws as `enact` does; the image is sound then too.
   */
  settle(fields: Partial<HeaderV3> = {}): void {
    const { fields: now } = this.#state.header;
    const { clusterSize } = this.layout;
    const homes = new Map(this.#homecomings.map(({ from, home }) => [from, home]));
    const homeOf = (offset: number): number => homes.get(offset) ?? offset;
    const { storage } = this.#state;
    const last = new Successor(this.#metadata);
    last.#homes = { blocks: this.#blockHomes, table: this.#tableBefore };
    last.#speakFor([...this.#blockHomes.values()], clusterSize);
    last.#speakFor([this.#tableBefore.first * clusterSize], this.#tableBefore.count * clusterSize);
    for (const { home, length } of this.#homecomings) last.#speakFor([home], length);
    let end = Math.max(this.#lengthBefore, this.#end);
    try {
      end = Math.max(end, last.#bringHome(this.#homecomings, homeOf));
      for (const index of this.#moved.keys()) last.#blockForChange(index);
      last.enact({
        ...(fields.l1_table_offset === undefined ? {} : { l1_table_offset: homeOf(now.l1_table_offset) }),
        ...(fields.snapshots_offset === undefined ? {} : { snapshots_offset: homeOf(now.snapshots_offset) }),
      });
    } catch (error) {
      last.abandon();
      throw error;
    }
    for (const offset of last.#moved.values()) end = Math.max(end, offset + clusterSize);
    const { refcount_table_offset: table, refcount_table_clusters: count } = this.#state.header.fields;
    end = Math.max(end, table + count * clusterSize);
    if (storage.size > end) storage.truncate(end);
  }

  #speakFor(offsets: readonly number[], length: number): void {
    const { clusterSize } = this.layout;
    for (const offset of offsets) {
      for (let at = offset; at < offset + length; at += clusterSize) this.#spokenFor.add(at / clusterSize);
    }
  }

  /** Puts these in their homes, which are free. Returns the end of the last one. */
  #bringHome(homecomings: readonly Homecoming[], homeOf: (offset: number) => number): number {
    const { clusterSize } = this.layout;
    let end = 0;
    for (const { from, length, home, references, content } of homecomings) {
      const bytes = content?.(homeOf) ?? new Uint8Array(length);
      if (content === null) this.#state.storage.readAt(bytes, from);
      this.#writeWhole(bytes, home);
      this.count(home, length, references);
      this.addReferences(from / clusterSize, alignUp(length, clusterSize) / clusterSize, -references);
      end = Math.max(end, home + alignUp(length, clusterSize));
    }
    return end;
  }

  /** The successor does not come: the file gets the length back that it had. Does nothing once it is in force. */
  abandon(): void {
    const { storage } = this.#state;
    if (!this.#inForce && storage.size > this.#lengthBefore) storage.truncate(this.#lengthBefore);
  }

  /** Counts what the successor itself takes; that may need further blocks. */
  #countOwn(): void {
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
      this.#countOwn();
      let last = this.#sameWidth ? old.lastBlock() : -1;
      for (const index of this.#moved.keys()) last = Math.max(last, index);
      const count = Math.max(1, Math.ceil(((last + 1) * 8) / clusterSize));
      if (count * clusterSize > limit.refcountTableBytes) {
        const detail = { allowed: limit.refcountTableBytes };
        throw new ImageError('qcow2/refcount-table-full', detail, { file: this.#state.storage.name });
      }
      const home = this.#homes?.table;
      const run = home !== undefined && home.count >= count ? home : this.#take(count);
      this.#owed.push({ run, change: 1 });
      this.#countOwn();
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

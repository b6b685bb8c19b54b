// The metadata of an image opened for writing: allocated, changed in memory, and written in the order that survives a power cut.
import { alignUp } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { writeHeader, writeHeaderFields } from './header-write.ts';
import { l2OffsetAt } from './l2.ts';
import { l1EntriesFor, packedLength, packedOffset, entryOffset } from './layout.ts';
import { OverlapGuard } from './overlap.ts';
import { Promises } from './promises.ts';
import { Refcounts } from './refcount.ts';
import type { ClusterRun } from './refcount-blocks.ts';
import { autoclear, compatible, entry, incompatible, knownAutoclear, limit, type HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { loadTable, tableBytes } from './tables.ts';

/** Changed tables are written out at the latest when they take this many bytes. */
const dirtyTableLimit = 16 * 1024 * 1024;
const dirtyBlockLimit = 8 * 1024 * 1024;
const pendingFreeLimit = 65536;

export interface MetadataOptions {
  /** What the opener says in place of the header; null: what the header says. */
  readonly lazyRefcounts: boolean | null;
  /** The room of what only a deleted snapshot held goes back to the host. */
  readonly givesSnapshotsBack: boolean;
  /** False: no step waits for the disk. For a file that nobody knows yet. */
  readonly waits: boolean;
}

/**
 * What a writer does to an image beside guest data. References that are given up are counted down only after the tables that held
 * them are on disk; until then nobody else gets the clusters.
 */
export class Qcow2Metadata {
  readonly state: Qcow2State;
  refcounts: Refcounts;
  /** Clusters that subclusters in flight keep in their place. */
  readonly promises = new Promises();
  #guard: OverlapGuard;
  /** Clusters to be given up, once per reference. */
  #pendingFree: ClusterRun[] = [];
  /** L1 entries that are not on disk: from, to. */
  #l1From = Number.MAX_SAFE_INTEGER;
  #l1To = 0;
  /** Where the next compressed cluster may start, in a cluster that is begun; 0: none is. */
  #packedEnd = 0;
  /** Compressed clusters were written through this object. */
  #packs = false;
  /** Clusters that became free, where their space is to be given back; null: it stays. */
  #givenUp: ClusterCounts | null = null;
  #lazy: boolean;
  #changing = false;
  readonly #waits: boolean;
  readonly givesSnapshotsBack: boolean;

  /** Throws `qcow2/table-beyond-file` and what reading the snapshot table throws. */
  constructor(state: Qcow2State, options: MetadataOptions) {
    this.state = state;
    this.#waits = options.waits;
    this.givesSnapshotsBack = options.givesSnapshotsBack;
    this.#lazy = (options.lazyRefcounts ?? state.lazyRefcounts) && state.version >= 3;
    this.refcounts = this.#newRefcounts();
    this.#guard = new OverlapGuard(state, () => this.refcounts.blocks.table);
    const { fields } = state.header;
    if ((fields.autoclear_features & ~knownAutoclear) !== 0n) {
      this.#changeFields({ autoclear_features: fields.autoclear_features & knownAutoclear });
    }
  }

  #newRefcounts(): Refcounts {
    return new Refcounts(this.state, (first, count, taken) => {
      if (!taken) this.#guard.remove(first, count);
      else {
        this.#guard.refuse(first, count);
        this.#guard.add(first, count);
      }
    });
  }

  /** The header points to other tables than before: reads them anew. Nothing may wait in memory to be written. */
  reload(): void {
    const { state } = this;
    const { l1_table_offset, l1_size } = state.header.fields;
    state.l1 = loadTable(state.storage, l1_table_offset, l1_size, 'Active L1 table');
    state.tables.clear();
    state.changes++;
    this.#packedEnd = 0;
    this.refcounts = this.#newRefcounts();
    this.#guard = new OverlapGuard(state, () => this.refcounts.blocks.table);
  }

  /** Changes fields that stand next to each other in the header, on disk and then here. */
  #changeFields(changed: Partial<HeaderV3>): void {
    const { header } = this.state;
    const before = header.fields;
    header.fields = { ...before, ...changed };
    try {
      writeHeaderFields(this.state, Object.keys(changed) as (keyof HeaderV3)[]);
    } catch (error) {
      header.fields = before;
      throw error;
    }
  }

  #wait(): void {
    if (this.#waits) this.state.storage.flush();
  }

  #where(offset: number): Where {
    return { file: this.state.storage.name, offset };
  }

  // --- what must be said before anything changes

  /** Before the first change of tables: the dirty bit where refcounts are lazy. */
  beforeChange(): void {
    if (this.#changing) return;
    if (this.#lazy && !this.state.dirty) {
      this.#changeFields({
        incompatible_features: this.state.header.fields.incompatible_features | incompatible.dirty,
      });
      this.#wait();
    }
    this.#changing = true;
  }

  /** Before the first change of guest data: bitmaps that nobody keeps up to date are not valid any more. */
  beforeGuestChange(): void {
    if (this.state.bitmapsValid) {
      this.#changeFields({ autoclear_features: this.state.header.fields.autoclear_features & ~autoclear.bitmaps });
      this.#wait();
    }
    this.beforeChange();
  }

  /** All is on disk and nobody writes any more: takes the dirty bit away. */
  close(): void {
    const clean =
      !this.refcounts.blocks.blocksDirty && this.state.tables.dirty.size === 0 && this.#l1From >= this.#l1To;
    if (!clean || this.#pendingFree.length > 0) return;
    if (this.#changing) {
      this.#wait();
      this.markClean();
    }
    this.#giveSpaceBack();
  }

  /** From now on the space of clusters that become free goes back to the host, when all is done. */
  willGiveSpaceBack(): void {
    const { storage, layout } = this.state;
    this.#givenUp ??= new ClusterCounts(Math.ceil(storage.size / layout.clusterSize), storage.name);
  }

  /** Nothing refers to this cluster any more, or will not once everything is on disk. */
  noteFree(cluster: number): void {
    if (this.#givenUp !== null && cluster < this.#givenUp.size) this.#givenUp.mark(cluster);
  }

  /** Everything is on disk. What was taken again meanwhile is left alone. */
  #giveSpaceBack(): void {
    const { storage, layout } = this.state;
    const { clusterSize } = layout;
    let first = 0;
    let end = 0;
    const give = (): void => {
      if (end > first) storage.discard?.(first * clusterSize, (end - first) * clusterSize);
    };
    for (const [cluster] of this.#givenUp?.counted() ?? []) {
      if (cluster * clusterSize >= storage.size || this.refcounts.get(cluster) !== 0) continue;
      if (cluster !== end) {
        give();
        first = cluster;
      }
      end = cluster + 1;
    }
    give();
    this.#givenUp = null;
  }

  /** Takes the dirty bit away: everything is on disk. */
  markClean(): void {
    if (!this.state.dirty) return;
    this.#changeFields({ incompatible_features: this.state.header.fields.incompatible_features & ~incompatible.dirty });
    this.#wait();
  }

  /** Before guest data is written over clusters that the tables call its own. Throws `qcow2/overlap`. */
  checkData(offset: number, length: number): void {
    if (this.state.dataFile !== null) return;
    const { clusterSize } = this.state.layout;
    const first = Math.floor(offset / clusterSize);
    this.#guard.refuse(first, Math.ceil((offset + length) / clusterSize) - first);
  }

  /** Before free clusters are written to. Throws `qcow2/overlap` if the tables call one of them their own. */
  refuseMetadata(first: number, count: number): void {
    this.#guard.refuse(first, count);
  }

  // --- clusters

  /** 1 to `want` clusters for guest data; all of them if `whole`. Throws `qcow2/overlap`, `qcow2/refcount-table-full`. */
  allocate(want: number, whole = false): ClusterRun {
    this.relieve();
    const run = this.refcounts.allocate(want, whole);
    this.#guard.refuse(run.first, run.count);
    return run;
  }

  /** Clusters for metadata, in one run. Returns their offset. */
  allocateMetadata(count: number): number {
    const run = this.refcounts.allocate(count, true);
    this.#guard.refuse(run.first, run.count);
    this.#guard.add(run.first, run.count);
    return run.first * this.state.layout.clusterSize;
  }

  /** Room for `length` bytes (less than a cluster) of compressed data, back to back with the last. Returns the offset. */
  allocatePacked(length: number): number {
    this.relieve();
    const { clusterSize, refcountMax } = this.state.layout;
    const end = this.#packedEnd;
    let offset = 0;
    if (end !== 0 && this.refcounts.get(Math.floor(end / clusterSize)) < refcountMax) {
      const cluster = Math.floor(end / clusterSize);
      const room = (cluster + 1) * clusterSize - end;
      const next = cluster + 1;
      if (length <= room) {
        this.refcounts.addReference(cluster);
        offset = end;
      } else if (this.refcounts.allocateAt(next)) {
        this.#guard.refuse(next, 1);
        this.refcounts.addReference(cluster);
        offset = end;
      }
    }
    if (offset === 0) {
      const run = this.refcounts.allocate(1);
      this.#guard.refuse(run.first, 1);
      offset = run.first * clusterSize;
    }
    this.#packs = true;
    this.#packedEnd = (offset + length) % clusterSize === 0 ? 0 : offset + length;
    return offset;
  }

  /** One reference less to each of these clusters, as soon as nothing on disk refers to them. */
  free(first: number, count: number): void {
    const last = this.#pendingFree.at(-1);
    if (last !== undefined && last.first + last.count === first) {
      this.#pendingFree[this.#pendingFree.length - 1] = { first: last.first, count: last.count + count };
    } else {
      this.#pendingFree.push({ first, count });
    }
  }

  /** The same for what an L2 entry points to. */
  freeEntry(high: number, low: number): void {
    const { layout } = this.state;
    if (this.state.dataFile !== null) return;
    if ((high & entry.compressed) !== 0) {
      const offset = packedOffset(layout, high, low);
      const first = Math.floor(offset / layout.clusterSize);
      const last = Math.floor((offset + packedLength(layout, high, low) - 1) / layout.clusterSize);
      this.free(first, last - first + 1);
      return;
    }
    const offset = entryOffset(high, low);
    if (offset !== 0) this.free(offset / layout.clusterSize, 1);
  }

  /** Writes everything out if what waits in memory has become too much. */
  relieve(): void {
    const { layout, tables } = this.state;
    if (
      tables.dirty.size * layout.clusterSize > dirtyTableLimit ||
      this.refcounts.blocks.dirtyBytes > dirtyBlockLimit ||
      this.#pendingFree.length > pendingFreeLimit
    ) {
      this.flush();
    }
  }

  // --- tables

  /** The L2 table of L1 entry `index` for changes: made if there is none, copied if a snapshot shares it. */
  tableForChange(index: number): Uint32Array {
    const { state } = this;
    const { l1, tables, layout } = state;
    state.changes++;
    const old = l2OffsetAt(state, l1, index);
    if (old !== 0 && ((l1[index * 2] ?? 0) & entry.copied) !== 0) {
      const table = tables.get(old);
      tables.change(old, table);
      return table;
    }
    const table = old === 0 ? new Uint32Array(layout.clusterSize / 4) : tables.get(old).slice();
    const offset = this.allocateMetadata(1);
    tables.change(offset, table);
    l1[index * 2] = (Math.floor(offset / 0x1_0000_0000) | entry.copied) >>> 0;
    l1[index * 2 + 1] = offset % 0x1_0000_0000;
    this.#l1From = Math.min(this.#l1From, index);
    this.#l1To = Math.max(this.#l1To, index + 1);
    if (old !== 0) this.free(old / layout.clusterSize, 1);
    return table;
  }

  /** Sets or clears the copied bit of an L1 entry. */
  setL1Copied(index: number, copied: boolean): void {
    const { l1 } = this.state;
    const high = l1[index * 2] ?? 0;
    if (((high & entry.copied) !== 0) === copied) return;
    l1[index * 2] = (high ^ entry.copied) >>> 0;
    this.#l1From = Math.min(this.#l1From, index);
    this.#l1To = Math.max(this.#l1To, index + 1);
  }

  /** Makes the L1 table hold a disk of `size` bytes; what it pointed to stays. Flushes. Throws `qcow2/l1-full`. */
  growL1(size: number): void {
    const { state } = this;
    const { fields } = state.header;
    const entries = l1EntriesFor(state.layout, size);
    if (entries <= fields.l1_size) return;
    if (entries * 8 > limit.l1Bytes) {
      throw new ImageError('qcow2/l1-full', { needed: entries * 8, allowed: limit.l1Bytes }, this.#where(36));
    }
    this.flush();
    const { clusterSize } = state.layout;
    const clusters = (length: number): number => alignUp(length, clusterSize) / clusterSize;
    const larger = new Uint32Array(entries * 2);
    larger.set(state.l1);
    const offset = this.allocateMetadata(clusters(entries * 8));
    state.storage.writeAt(tableBytes(larger), offset);
    this.flush();
    const old = { first: fields.l1_table_offset / clusterSize, count: clusters(fields.l1_size * 8) };
    this.#changeFields({ l1_size: entries, l1_table_offset: offset });
    state.l1 = larger;
    if (old.count > 0) {
      this.free(old.first, old.count);
      this.flush();
    }
  }

  /** L1 entry `index` of the active disk points nowhere any more; what it pointed to is the caller's to give up. */
  dropL1(index: number): void {
    const { state } = this;
    state.changes++;
    state.l1[index * 2] = 0;
    state.l1[index * 2 + 1] = 0;
    this.#l1From = Math.min(this.#l1From, index);
    this.#l1To = Math.max(this.#l1To, index + 1);
  }

  /** Gives the free end of the file back, with refcount blocks that count nothing but themselves. Everything is on disk before. */
  trimEnd(): void {
    const { storage, layout } = this.state;
    this.flush();
    const { blocks } = this.refcounts;
    for (;;) {
      const dropped = blocks.dropEmpty();
      if (dropped.length === 0) break;
      for (const cluster of dropped) this.#guard.remove(cluster);
      this.flush();
      for (const cluster of dropped) {
        this.noteFree(cluster);
        // Counted in another block, it is free now that no table points to it; that block may be empty by it.
        if (blocks.block(Math.floor(cluster / layout.refcountBlockEntries)) !== null) this.refcounts.set(cluster, 0);
      }
    }
    this.flush();
    const end = (blocks.lastUsed() + 1) * layout.clusterSize;
    if (end > 0 && end < storage.size) storage.truncate(end);
    this.#wait();
  }

  /** From now on refcounts are kept lazily, or not; off: everything is on disk, and the image is clean before it says so. */
  setLazyRefcounts(lazy: boolean): void {
    if (!lazy) this.markClean();
    const others = this.state.header.fields.compatible_features & ~compatible.lazyRefcounts;
    this.#changeFields({ compatible_features: others | (lazy ? compatible.lazyRefcounts : 0n) });
    this.#wait();
    this.#lazy = lazy;
  }

  /** Changes the size in the header. */
  setSize(size: number): void {
    this.#changeFields({ size });
  }

  /** Writes the whole header anew, with its extensions. Throws `qcow2/header-full`. */
  rewriteHeader(): void {
    writeHeader(this.state);
  }

  // --- to the disk

  /** In four steps, waiting for the disk after each: 1 guest data, 2 refcounts, 3 L2 tables, 4 the L1 table. */
  flush(): void {
    this.#write(this.#waits);
  }

  /** The same order without waiting. */
  writeBack(): void {
    this.#write(false);
  }

  #write(waits: boolean): void {
    const { state } = this;
    const wait = (): void => {
      if (waits) state.storage.flush();
    };
    // 1: guest data. Compressed clusters end anywhere; readers that count in sectors want the last one whole.
    const { storage } = state;
    if (this.#packs && storage.size % 512 !== 0) storage.truncate(alignUp(storage.size, 512));
    if (waits) state.dataFile?.flush();
    wait();
    // 2: every cluster is counted.
    this.#writeRefcounts(wait);
    // 3: L2 points to data.
    if (state.tables.dirty.size > 0) {
      for (const [offset, table] of state.tables.dirty) {
        state.storage.writeAt(tableBytes(table), offset);
        state.tables.written(offset);
      }
      wait();
    }
    // 4: L1 points to L2.
    if (this.#l1From < this.#l1To) {
      const from = this.#l1From;
      const bytes = tableBytes(state.l1, from, this.#l1To - from);
      state.storage.writeAt(bytes, state.header.fields.l1_table_offset + from * 8);
      this.#l1From = Number.MAX_SAFE_INTEGER;
      this.#l1To = 0;
      wait();
    }
    const fault = this.#applyFrees();
    this.#writeRefcounts(wait);
    if (fault !== null) throw fault;
  }

  #writeRefcounts(wait: () => void): void {
    const { state } = this;
    const { blocks: refcounts } = this.refcounts;
    if (!refcounts.blocksDirty && !refcounts.tableDirty) return;
    refcounts.writeBlocks();
    if (refcounts.tableDirty) {
      wait();
      const moved = refcounts.writeTable();
      if (moved) {
        wait();
        writeHeaderFields(state, ['refcount_table_offset', 'refcount_table_clusters']);
        const old = refcounts.takeOldTable();
        if (old !== null) {
          this.#guard.remove(old.first, old.count);
          this.free(old.first, old.count);
        }
      }
    }
    wait();
  }

  /** Nothing on disk refers to these clusters any more: count them down. Returns what was wrong with the first that could not be. */
  #applyFrees(): ImageError | null {
    const runs = this.#pendingFree;
    this.#pendingFree = [];
    const { clusterSize } = this.state.layout;
    let fault: ImageError | null = null;
    for (const run of runs) {
      for (let cluster = run.first; cluster < run.first + run.count; cluster++) {
        const left = this.refcounts.get(cluster) - 1;
        if (left < 0) {
          fault ??= new ImageError('qcow2/refcount-underflow', { cluster }, this.#where(cluster * clusterSize));
          continue;
        }
        this.refcounts.set(cluster, left);
        if (left > 0) continue;
        this.noteFree(cluster);
        this.#guard.remove(cluster);
        this.state.tables.forget(cluster * clusterSize);
        if (Math.floor(this.#packedEnd / clusterSize) === cluster) this.#packedEnd = 0;
      }
    }
    return fault;
  }
}

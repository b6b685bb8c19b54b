// Counting references: which host clusters the tables of an image refer to, how often, and what is wrong with the entries.
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { Finding } from '../driver.ts';
import { bitmapReferences } from './bitmap-references.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { corruption, hexEntry, internalError, mended, type EntryFixer } from './findings.ts';
import { findExtension } from './header.ts';
import { L2Count, L2Scan } from './l2-count.ts';
import { entryOffset } from './layout.ts';
import type { SnapshotTable } from './snapshots.ts';
import { encryptionHeader, entry, extensionType, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { longestFile, StoredRefcounts } from './stored-refcounts.ts';
import { isHole, TableWalk } from './table-walk.ts';
import { loadTable } from './tables.ts';

/** Host clusters that an image may have: QEMU refuses to check more. */
const mostClusters = 0x7fff_ffff;

/** Entries of an L1 table that are read at once. */
const l1Piece = 128 * 1024;

/** Entries of L2 tables that may be gone through again because several L1 entries lead to the same damaged table. */
const rescannedEntries = 4 * 1024 * 1024;

/** Memory for remembering which L2 tables were gone through. */
const tableBudget = 16 * 1024 * 1024;

/** What counting came to. */
export interface References {
  /** How often each host cluster of the file is referenced. */
  readonly counts: ClusterCounts;
  /** Clusters of the guest's disk that the active tables map, and how. */
  readonly active: L2Count;
  /** The active tables hold entries that are not as they should be, or whose copied bits do not agree with the refcounts. */
  readonly suspicious: boolean;
}

/**
 * One run over everything in an image that refers to host clusters, in the order of qemu-img's check. Iterate `run` to its end, then
 * read `references`. Memory is bounded by `ClusterCounts`.
 */
export class ReferenceCount {
  readonly #state: Qcow2State;
  readonly #stored: StoredRefcounts;
  readonly #job: Job;
  readonly #counts: ClusterCounts;
  readonly #active = new L2Count();
  readonly #others = new L2Count();
  readonly #scan: L2Scan;
  readonly #fixer: EntryFixer | null;
  readonly #walk: TableWalk;
  /** L2 tables that were gone through, and those of them that had nothing to report: how often they are referenced beside that. */
  readonly #seen: ClusterCounts;
  readonly #again: ClusterCounts;
  readonly #damaged = new Set<number>();
  readonly #fileClusters: number;
  #l1Entries = 0;
  #rescanned = 0;
  #suspicious = false;
  #progress = 0;

  /**
   * `fixer`: puts entries right as they are met. `spare`: clusters behind the end of the file that may be counted afterwards.
   * Throws `qcow2/check-failed` for a file of too many clusters.
   */
  constructor(state: Qcow2State, stored: StoredRefcounts, job: Job, fixer: EntryFixer | null = null, spare = 0) {
    const { storage, layout } = state;
    const clusters = Math.ceil(storage.size / layout.clusterSize);
    if (clusters > mostClusters) {
      const detail = { reason: 'File too large', found: clusters, allowed: mostClusters };
      throw new ImageError('qcow2/check-failed', detail, { file: storage.name });
    }
    this.#state = state;
    this.#stored = stored;
    this.#job = job;
    this.#fileClusters = clusters;
    this.#counts = new ClusterCounts(clusters, storage.name, undefined, spare);
    this.#seen = new ClusterCounts(clusters, storage.name, tableBudget);
    this.#again = new ClusterCounts(clusters, storage.name, tableBudget);
    this.#scan = new L2Scan(state, stored, this.#counts, fixer);
    this.#fixer = fixer;
    this.#walk = new TableWalk(storage, layout.clusterSize);
  }

  get references(): References {
    const suspicious = this.#suspicious || this.#scan.suspicious;
    return { counts: this.#counts, active: this.#active, suspicious };
  }

  /** Throws `storage/*`, `qcow2/check-failed`, `qcow2/check-memory`, `qcow2/check-effort`, `request/cancelled`. */
  *run(table: SnapshotTable): Generator<Finding, void, void> {
    const { header, layout } = this.#state;
    const { fields } = header;
    yield* this.#scan.region(0, layout.clusterSize);
    yield* this.#l1(fields.l1_table_offset, fields.l1_size, true);
    yield* this.#snapshots(table);
    yield* this.#scan.region(table.offset, table.length);
    const refcountTable = fields.refcount_table_clusters * layout.clusterSize;
    yield* this.#scan.region(fields.refcount_table_offset, refcountTable);
    const pointer = findExtension(header, extensionType.encryptionHeader);
    if (pointer !== null) {
      const { offset, length } = encryptionHeader.parse(pointer.data, { offset: pointer.offset });
      yield* this.#scan.region(offset, length);
    }
    yield* bitmapReferences(this.#state, (offset, length) => this.#scan.region(offset, length));
    yield* this.#repeated();
    yield* this.#blocks();
  }

  *#snapshots(table: SnapshotTable): Generator<Finding, void, void> {
    const { layout, external, storage } = this.#state;
    const { snapshots } = table;
    if (external && snapshots.length > 0) {
      const text = `ERROR ${snapshots.length} snapshots in image with data file`;
      yield corruption('snapshot-data-file', text, { file: storage.name, offset: 60, field: 'nb_snapshots' });
    }
    for (const snapshot of snapshots) {
      const where = { file: storage.name, offset: snapshot.offset, field: 'l1_table_offset' };
      const named = `ERROR snapshot ${snapshot.id} (${snapshot.name})`;
      if (snapshot.l1Offset % BigInt(layout.clusterSize) !== 0n) {
        const text = `${named} l1_offset=0x${snapshot.l1Offset.toString(16)}: L1 table is not cluster aligned; snapshot table entry corrupted`;
        yield corruption('snapshot-l1-unaligned', text, where);
        continue;
      }
      if (snapshot.l1Entries > limit.l1Bytes / 8) {
        const text = `${named} l1_size=0x${snapshot.l1Entries.toString(16)}: L1 table is too large; snapshot table entry corrupted`;
        yield corruption('snapshot-l1-size', text, { ...where, offset: snapshot.offset + 8, field: 'l1_size' });
        continue;
      }
      yield* this.#l1(Number(snapshot.l1Offset), snapshot.l1Entries, false);
    }
  }

  *#l1(offset: number, entries: number, active: boolean): Generator<Finding, void, void> {
    const { storage } = this.#state;
    if (entries === 0) return;
    yield* this.#scan.region(offset, entries * 8);
    if (offset + entries * 8 > longestFile) {
      const where = { file: storage.name, field: 'l1_table_offset' };
      yield internalError('l1-unreadable', 'ERROR: I/O error in check_refcounts_l1', where);
      throw new ImageError('qcow2/check-failed', { reason: 'Input/output error' }, where);
    }
    for (let done = 0; done < entries;) {
      this.#job.throwIfCancelled();
      const count = Math.min(l1Piece, entries - done);
      const at = offset + done * 8;
      done += count;
      if (at >= storage.size) return;
      if (!active && isHole(storage, at, count * 8)) continue;
      this.#spend(count);
      const piece = loadTable(storage, at, count, 'L1 table', 'zero');
      for (let index = 0; index < count; index++) {
        const high = piece[2 * index] ?? 0;
        const low = piece[2 * index + 1] ?? 0;
        if ((high === 0 && low === 0) || (!active && this.#sharedTable(high, low))) continue;
        yield* this.#l1Entry(piece, index, at + index * 8, active);
      }
    }
  }

  /** L1 tables of one image do not overlap; ones that do, thousands of times over, are not followed for ever. */
  #spend(entries: number): void {
    this.#l1Entries += entries;
    const allowed = Math.max(8 * 1024 * 1024, limit.l1Bytes / 8 + this.#state.storage.size / 8);
    if (this.#l1Entries > allowed) this.#giveUp('the L1 tables of the snapshots overlap');
  }

  #giveUp(reason: string): never {
    throw new ImageError('qcow2/check-effort', { reason }, { file: this.#state.storage.name });
  }

  /** Counts a sound L1 entry of a snapshot that leads to a sound table seen before; false, and nothing is done, for any other. */
  #sharedTable(high: number, low: number): boolean {
    if ((high & entry.l1ReservedHigh) !== 0 || (low & entry.l1ReservedLow) !== 0) return false;
    const cluster = entryOffset(high, low) / this.#state.layout.clusterSize;
    if (!Number.isInteger(cluster) || this.#seen.get(cluster) === 0 || this.#damaged.has(cluster)) return false;
    if (!this.#scan.sound(cluster)) return false;
    this.#again.add(cluster);
    return true;
  }

  *#l1Entry(piece: Uint32Array, index: number, at: number, active: boolean): Generator<Finding, void, void> {
    const { storage, layout } = this.#state;
    const high = piece[2 * index] ?? 0;
    const low = piece[2 * index + 1] ?? 0;
    const where = { file: storage.name, offset: at, field: 'L1 entry' };
    if ((high & entry.l1ReservedHigh) !== 0 || (low & entry.l1ReservedLow) !== 0) {
      this.#suspicious = true;
      const text = `ERROR found L1 entry with reserved bits set: ${hexEntry(high, low)}`;
      yield corruption('l1-reserved', text, where);
    }
    const offset = entryOffset(high, low);
    const cluster = offset / layout.clusterSize;
    if (!this.#scan.sound(cluster)) yield* this.#scan.region(offset, layout.clusterSize);
    if (!Number.isInteger(cluster)) {
      this.#suspicious = true;
      const text = `ERROR l2_offset=${offset.toString(16)}: Table is not cluster aligned; L1 entry corrupted`;
      yield corruption('l2-unaligned', text, where);
      this.#rescanned += layout.l2Entries;
      if (this.#rescanned > rescannedEntries) this.#giveUp('many L1 entries are not aligned to clusters');
      yield* this.#l2(offset, piece, index, active);
      return;
    }
    if (cluster >= this.#fileClusters) {
      if (offset !== 0) this.#suspicious = true;
      return;
    }
    if (active && this.#stored.isOne(cluster) !== high >= entry.copied && offset !== 0) this.#suspicious = true;
    if (this.#seen.mark(cluster)) {
      const before = this.#scan.reported;
      yield* this.#l2(offset, piece, index, active);
      if (this.#scan.reported !== before) this.#damaged.add(cluster);
    } else if (this.#rescanned < rescannedEntries && (active || this.#damaged.has(cluster))) {
      this.#rescanned += layout.l2Entries;
      yield* this.#l2(offset, piece, index, active);
    } else if (this.#damaged.has(cluster)) {
      this.#giveUp('many L1 entries lead to the same damaged L2 tables');
    } else {
      this.#again.add(cluster);
    }
  }

  *#l2(offset: number, piece: Uint32Array, index: number, active: boolean): Generator<Finding, void, void> {
    const { clusterSize } = this.#state.layout;
    const count = active ? this.#active : this.#others;
    const halves = this.#walk.table(offset, piece, index);
    if (halves !== null) yield* this.#scan.table(halves, offset, count, active);
    this.#progress += clusterSize;
    if (this.#progress % (16 * 1024 * 1024) === 0) {
      this.#job.throwIfCancelled();
      const total = this.#state.header.fields.l1_size * clusterSize;
      this.#job.progress({ phase: 'check', done: Math.min(this.#progress, total), total });
    }
  }

  /** What sound L2 tables refer to counts once more for every further L1 entry that leads to them (snapshots). */
  *#repeated(): Generator<Finding, void, void> {
    const { clusterSize } = this.#state.layout;
    const none = new Uint32Array(0);
    for (const [cluster, times] of this.#again.counted()) {
      this.#job.throwIfCancelled();
      const offset = cluster * clusterSize;
      const halves = this.#walk.table(offset, none, 0);
      if (halves !== null) yield* this.#scan.repeat(halves, times);
    }
  }

  /** The refcount blocks, which must be referenced once each. */
  *#blocks(): Generator<Finding, void, void> {
    const { storage, header, layout } = this.#state;
    const { table } = this.#stored;
    const repair = 'the refcount structures would be rebuilt';
    for (let index = 0; 2 * index < table.length; index++) {
      const low = table[2 * index + 1] ?? 0;
      if (low === 0 && table[2 * index] === 0) continue;
      const at = header.fields.refcount_table_offset + index * 8;
      const where = { file: storage.name, offset: at, field: 'refcount table entry' };
      if ((low & entry.refcountReservedLow) !== 0) {
        yield corruption(
          'reftable-reserved',
          `ERROR refcount table entry ${index} has reserved bits set`,
          where,
          repair,
        );
        continue;
      }
      const offset = this.#stored.blockOffset(index);
      const cluster = offset / layout.clusterSize;
      if (!this.#stored.isAligned(index)) {
        const text = `ERROR refcount block ${index} is not cluster aligned; refcount table entry corrupted`;
        yield corruption('refblock-unaligned', text, where, repair);
      } else if (cluster >= this.#counts.size) {
        const finding = corruption('refblock-outside', `ERROR refcount block ${index} is outside image`, where, repair);
        if (this.#fixer?.reachBlock(offset) === true) {
          this.#counts.add(cluster);
          yield mended(finding);
        } else {
          // Told as it is gone about, and put right by the rebuilding.
          yield this.#fixer === null ? finding : { ...finding, text: mended(finding).text };
        }
      } else {
        yield* this.#scan.region(offset, layout.clusterSize);
        const count = this.#counts.get(cluster);
        if (count !== 1) {
          const text = `ERROR refcount block ${index} refcount=${count}`;
          yield corruption('refblock-shared', text, where, repair);
        }
      }
    }
  }
}

/**
 * The references that all tables of an image make, whatever is wrong with their entries: what the refcounts should be. Repairs and
 * the opening of an image that is marked dirty start from it. Throws as `ReferenceCount` does.
 */
export function computeReferences(state: Qcow2State, table: SnapshotTable, job: Job): References {
  const stored = new StoredRefcounts(state.storage, state.header, state.layout);
  const count = new ReferenceCount(state, stored, job);
  const findings = count.run(table);
  while (findings.next().done !== true) job.throwIfCancelled();
  return count.references;
}

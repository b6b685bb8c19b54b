// Repair of a qcow2 image: what the check finds, put right where that is certain, with the outcome of qemu-img check -r.
import { ImageError, isImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { Finding, RepairCounts } from '../driver.ts';
import { bitmapDirectory } from './bitmaps.ts';
import { checkSnapshotTable, compareRefcounts } from './check.ts';
import { checkCopiedBits } from './copied-bits.ts';
import { internalError, type EntryFixer } from './findings.ts';
import { findExtension } from './header.ts';
import { withExtension, writeHeader, writeHeaderFields } from './header-write.ts';
import { rebuildRefcounts, rebuildSpare } from './rebuild.ts';
import { ReferenceCount, type References } from './reference-count.ts';
import { readSnapshotsForRepair, rewriteSnapshotTable } from './repair-snapshots.ts';
import type { SnapshotTable } from './snapshots.ts';
import { encryptionHeader, entry, extensionType, incompatible, knownAutoclear, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/** Clusters that a file may be made longer by, for a refcount block that lies behind its end. */
const reach = 8192;

/** What was found and not put right, and what was. */
class Tally {
  corruptions = 0;
  leaks = 0;
  errors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;

  add({ severity, count, fixed }: Finding): void {
    if (severity === 'error') this.errors += count;
    else if (severity === 'leak') {
      if (fixed === true) this.leaksFixed += count;
      else this.leaks += count;
    } else if (fixed === true) this.corruptionsFixed += count;
    else this.corruptions += count;
  }
}

/** The references, with what is to be known of the structures they came from. */
interface Counted {
  readonly references: References;
  readonly stored: StoredRefcounts;
  /** The refcount table or a block is where it cannot be. */
  readonly badBlocks: boolean;
}

/**
 * Repairs an image opened with `forRepair`, in place, without a change of what the guest reads. Refcounts that are too high (`leaks`)
 * or too low are set right; where clusters in use have none at all, or blocks stand where they cannot, all refcounts are built anew
 * beside the old ones and the header is switched last. Then the copied bits, the snapshot table, the dirty and the corrupt bit. Entries
 * that point where no data can be (unaligned, past the end of the file, reserved bits) are reported and left, as qemu-img does: nobody
 * knows what they meant; only preallocated clusters, which hold no data, become plain zeroes. `tell` hears of every finding in the
 * words of qemu-img. Throws `qcow2/check-failed` (nothing but what `tell` heard of was changed), `qcow2/check-memory`,
 * `qcow2/check-effort`, `qcow2/refcount-table-full`, `storage/*`, `request/cancelled`.
 */
export function repairQcow2(
  state: Qcow2State,
  what: 'leaks' | 'all',
  job: Job,
  tell: (finding: Finding) => void = () => {},
): RepairCounts {
  return new Repair(state, what === 'all', job, tell).run();
}

class Repair {
  readonly #state: Qcow2State;
  readonly #all: boolean;
  readonly #job: Job;
  readonly #tell: (finding: Finding) => void;

  constructor(state: Qcow2State, all: boolean, job: Job, tell: (finding: Finding) => void) {
    this.#state = state;
    this.#all = all;
    this.#job = job;
    this.#tell = (finding) => tell(asWriter(finding));
  }

  run(): RepairCounts {
    const state = this.#state;
    this.#dropStale();
    const snapshotTally = new Tally();
    const { table, rewrite } = this.#snapshots(snapshotTally);
    const tally = new Tally();
    const counted = this.#count(table, this.#all, tally);
    const compared = new Tally();
    const { stored, references } = counted;
    const comparison = this.#take(compareRefcounts(state, stored, references.counts, this.#job), compared);
    const rebuild = comparison.rebuild || counted.badBlocks;
    if (rebuild && this.#all) {
      this.#rebuild(counted, table, tally, compared);
    } else if (rebuild) {
      this.#say('rebuild-needed', 'ERROR need to rebuild refcount structures');
      throw new ImageError('qcow2/check-failed', { reason: 'Input/output error' }, { file: state.storage.name });
    } else if (tally.corruptions + compared.corruptions + compared.leaks > 0) {
      // The first comparison only told what there is; this one counts.
      const fixes = { leaks: true, errors: this.#all };
      this.#take(compareRefcounts(state, stored, references.counts, this.#job, fixes), tally);
    } else {
      tally.errors += compared.errors;
    }
    state.storage.flush();
    this.#copiedBits(table, tally);
    state.storage.flush();
    if (rewrite) rewriteSnapshotTable(state, table);
    if (tally.corruptions + tally.errors + snapshotTally.corruptions + snapshotTally.errors === 0) this.#markClean();
    return {
      corruptions: tally.corruptionsFixed + snapshotTally.corruptionsFixed,
      leaks: tally.leaksFixed + snapshotTally.leaksFixed,
    };
  }

  #say(code: string, text: string): void {
    this.#tell(internalError(code, text, { file: this.#state.storage.name }, 0));
  }

  /** All findings of `steps`, told and added up. */
  #take<Result>(steps: Generator<Finding, Result, void>, tally: Tally): Result {
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      tally.add(step.value);
      this.#tell(step.value);
    }
  }

  /**
   * Bits of features that this program does not know, and bitmaps that somebody who does not know bitmaps left behind, go as soon as
   * anybody writes (specification: "autoclear features").
   */
  #dropStale(): void {
    const state = this.#state;
    const { header } = state;
    if ((header.fields.autoclear_features & ~knownAutoclear) !== 0n && state.version >= 3) {
      header.fields = { ...header.fields, autoclear_features: header.fields.autoclear_features & knownAutoclear };
      writeHeaderFields(state, ['autoclear_features']);
    }
    if (findExtension(header, extensionType.bitmaps) === null || state.bitmapsValid) return;
    header.extensions = withExtension(header.extensions, extensionType.bitmaps, null);
    writeHeader(state);
    state.storage.flush();
  }

  #snapshots(tally: Tally): { table: SnapshotTable; rewrite: boolean } {
    const { state, all } = { state: this.#state, all: this.#all };
    const tell = (finding: Finding): void => {
      tally.add(finding);
      this.#tell(finding);
    };
    if (!all) return { table: this.#take(checkSnapshotTable(state), tally), rewrite: false };
    try {
      const { table, pending } = readSnapshotsForRepair(state, tell);
      return { table, rewrite: pending.length > 0 };
    } catch (error) {
      // What cannot be read at all is told in the words of the check.
      if (!isImageError(error) || !error.code.startsWith('qcow2/')) throw error;
      this.#take(checkSnapshotTable(state), tally);
      throw error;
    }
  }

  #count(table: SnapshotTable, fix: boolean, tally: Tally): Counted {
    const state = this.#state;
    const stored = new StoredRefcounts(state.storage, state.header, state.layout);
    const clusters = Math.ceil(state.storage.size / state.layout.clusterSize);
    const fixer = fix ? this.#entryFixer(stored, table) : null;
    const count = new ReferenceCount(state, stored, this.#job, fixer, rebuildSpare(state.layout, clusters));
    let badBlocks = false;
    const steps = count.run(table);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return { references: count.references, stored, badBlocks };
      const finding = step.value;
      if (blockFaults.has(finding.code) && finding.fixed !== true) badBlocks = true;
      tally.add(finding);
      this.#tell(finding);
      if (fix && finding.code === 'qcow2/refblock-outside' && finding.fixed !== true) {
        this.#say('resize', 'ERROR could not resize image: Invalid argument');
      }
    }
  }

  #rebuild(counted: Counted, table: SnapshotTable, tally: Tally, compared: Tally): void {
    const state = this.#state;
    this.#say('rebuild', 'Rebuilding refcount structure');
    rebuildRefcounts(state, counted.references.counts, this.#job);
    const before = { corruptions: tally.corruptions + compared.corruptions, leaks: compared.leaks };
    // What could not be read were the old structures.
    tally.corruptions = 0;
    tally.leaks = 0;
    tally.errors = 0;
    const again = this.#count(table, false, tally);
    const freed = new Tally();
    const fixes = { leaks: true, errors: false };
    this.#take(compareRefcounts(state, again.stored, again.references.counts, this.#job, fixes), freed);
    tally.corruptionsFixed += Math.max(0, before.corruptions - tally.corruptions);
    tally.leaksFixed += Math.max(0, before.leaks - tally.leaks);
    tally.leaks += freed.leaks;
    tally.corruptions += freed.corruptions;
  }

  #copiedBits(table: SnapshotTable, tally: Tally): void {
    const state = this.#state;
    const certain = this.#all || tally.errors + tally.corruptions + tally.leaks === 0;
    const stored = new StoredRefcounts(state.storage, state.header, state.layout);
    const forbidden = fixedAreas(state, stored, table);
    const writable = (offset: number): boolean => this.#isFree(forbidden, offset);
    this.#take(checkCopiedBits(state, stored, this.#job, certain ? writable : null), tally);
  }

  /** A table may be written at `offset`: it is that of a cluster in the file, and no other structure is there. */
  #isFree(forbidden: (first: number) => boolean, offset: number): boolean {
    const { clusterSize } = this.#state.layout;
    const inside = offset % clusterSize === 0 && offset + clusterSize <= this.#state.storage.size;
    return inside && !forbidden(offset / clusterSize);
  }

  #entryFixer(stored: StoredRefcounts, table: SnapshotTable): EntryFixer {
    const state = this.#state;
    const forbidden = fixedAreas(state, stored, table);
    const { clusterSize, extendedL2, l2EntrySize } = state.layout;
    return {
      zeroEntry: (at, zeroParts, allocatedParts) => {
        if (!this.#isFree(forbidden, at - (at % clusterSize))) {
          this.#say('overlap', 'ERROR: Overlap check failed');
          const where = { file: state.storage.name, offset: at };
          throw new ImageError('qcow2/check-failed', { reason: 'Input/output error' }, where);
        }
        const bytes = new DataView(new ArrayBuffer(l2EntrySize));
        bytes.setUint32(4, extendedL2 ? 0 : entry.zero);
        if (extendedL2) bytes.setUint32(8, (zeroParts | allocatedParts) >>> 0);
        state.storage.writeAt(new Uint8Array(bytes.buffer), at);
      },
      reachBlock: (offset) => {
        // Not further than a writer would have come since the file had its size; a block far away is rather a wrong number.
        if (offset > state.storage.size + reach * clusterSize) return false;
        state.storage.truncate(Math.max(state.storage.size, offset + clusterSize));
        return true;
      },
    };
  }

  /** Nothing is wrong any more: neither the dirty nor the corrupt bit is true. */
  #markClean(): void {
    const state = this.#state;
    if (!state.dirty && !state.corrupt) return;
    const { header } = state;
    const bits = header.fields.incompatible_features & ~(incompatible.dirty | incompatible.corrupt);
    header.fields = { ...header.fields, incompatible_features: bits };
    writeHeaderFields(state, ['incompatible_features']);
    state.storage.flush();
  }
}

/** QEMU says it in other words when it may write. */
function asWriter(finding: Finding): Finding {
  if (finding.code !== 'qcow2/refblock-unaligned' || finding.severity !== 'error') return finding;
  const text = finding.text.replace('Image is corrupt', 'Marking image as corrupt').replace('non-fatal ', '');
  return { ...finding, text };
}

const blockFaults = new Set([
  'qcow2/reftable-reserved',
  'qcow2/refblock-unaligned',
  'qcow2/refblock-outside',
  'qcow2/refblock-shared',
]);

/** Says of a cluster whether a structure other than an L2 table stands there that is not found through a table of the guest's disk. */
function fixedAreas(state: Qcow2State, stored: StoredRefcounts, table: SnapshotTable): (cluster: number) => boolean {
  const { layout, header } = state;
  const { fields } = header;
  const { clusterSize } = layout;
  const areas: [offset: number, length: number][] = [
    [0, clusterSize],
    [fields.l1_table_offset, fields.l1_size * 8],
    [fields.refcount_table_offset, fields.refcount_table_clusters * clusterSize],
    [table.offset, table.length],
  ];
  for (const snapshot of table.snapshots) {
    if (snapshot.l1Entries <= limit.l1Bytes / 8) areas.push([Number(snapshot.l1Offset), snapshot.l1Entries * 8]);
  }
  const directory = bitmapDirectory(state);
  if (directory !== null) areas.push([directory.offset, directory.length]);
  const encryption = findExtension(header, extensionType.encryptionHeader);
  if (encryption !== null) {
    const { offset, length } = encryptionHeader.parse(encryption.data, { offset: encryption.offset });
    areas.push([offset, length]);
  }
  const blocks = new Set<number>();
  for (let index = 0; 2 * index < stored.table.length; index++) {
    const offset = stored.blockOffset(index);
    if (offset !== 0) blocks.add(Math.floor(offset / clusterSize));
  }
  return (cluster) => {
    if (blocks.has(cluster)) return true;
    const start = cluster * clusterSize;
    return areas.some(([offset, length]) => offset < start + clusterSize && offset + length > start);
  };
}

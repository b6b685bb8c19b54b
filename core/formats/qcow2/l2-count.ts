// Counting what one L2 table refers to: sound entries in a plain loop, the others one by one in the words of qemu-img.
import type { Storage } from '../../block/storage.ts';
import type { Where } from '../../errors/image-error.ts';
import type { Finding } from '../driver.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import { corruption, hexEntry, mended, type EntryFixer, type Repair } from './findings.ts';
import { entryOffset, packedLength, packedOffset, type Layout } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** Clusters of the guest's disk that the tables counted so far map. */
export class L2Count {
  allocated = 0;
  compressed = 0;
  /** Clusters that do not follow the one before them in the file; compressed ones always. */
  fragmented = 0;
}

/** The one entry that a repair changes: it has no data. All others are left: nobody knows what they meant. */
const repairPreallocated = 'the entry would become plain zeroes: it holds no data';
const overflowHint =
  'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing';

/** Adds references to `counts`. One for all tables of a check. */
export class L2Scan {
  /** Findings given so far. */
  reported = 0;
  /** An active table has an entry that is not sound, or whose copied bit does not agree with the stored refcount. */
  suspicious = false;
  readonly #storage: Storage;
  readonly #layout: Layout;
  readonly #external: boolean;
  readonly #stored: StoredRefcounts;
  readonly #counts: ClusterCounts;
  readonly #fixer: EntryFixer | null;
  readonly #fileSize: number;
  /** Clusters that begin within the file. */
  readonly #fileClusters: number;
  /** Of the table at hand: where the cluster after the last one would be in the file, in clusters; 0: none yet. */
  #next = 0;

  constructor(state: Qcow2State, stored: StoredRefcounts, counts: ClusterCounts, fixer: EntryFixer | null = null) {
    this.#storage = state.storage;
    this.#layout = state.layout;
    this.#external = state.external;
    this.#stored = stored;
    this.#counts = counts;
    this.#fixer = fixer;
    this.#fileSize = state.storage.size;
    this.#fileClusters = Math.ceil(this.#fileSize / this.#layout.clusterSize);
  }

  /**
   * One reference to every cluster of a stretch of the file. The last cluster may reach over the end of the file, no more. `shown`:
   * the offset in hexadecimal digits, where a number may not hold it exactly.
   */
  *region(offset: number, length: number, shown = hexNumber(offset)): Generator<Finding, void, void> {
    const { clusterSize } = this.#layout;
    if (length <= 0) return;
    const where: Where = { file: this.#storage.name, offset };
    if (offset + length - this.#fileSize >= clusterSize) {
      const place = `offset 0x${shown} size 0x${length.toString(16)}`;
      const text = `ERROR: counting reference for region exceeding the end of the file by one cluster or more: ${place}`;
      this.reported++;
      yield corruption('beyond-file', text, where);
      return;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) yield* this.#reference(cluster);
  }

  /** One reference to a cluster in the file that can have one more; false, and nothing is done, when there is more to it. */
  sound(cluster: number): boolean {
    if (!Number.isInteger(cluster) || cluster >= this.#fileClusters) return false;
    if (this.#counts.mark(cluster)) return true;
    if (this.#counts.get(cluster) >= this.#layout.refcountMax) return false;
    this.#counts.add(cluster);
    return true;
  }

  *#reference(cluster: number): Generator<Finding, void, void> {
    if (this.#counts.get(cluster) < this.#layout.refcountMax) {
      this.#counts.add(cluster);
      return;
    }
    const offset = cluster * this.#layout.clusterSize;
    this.reported++;
    const text = `ERROR: overflow cluster offset=0x${hexNumber(offset)}\n${overflowHint}`;
    yield corruption('refcount-overflow', text, { file: this.#storage.name, offset });
  }

  /** Counts what the L2 table `halves` at `offset` of the file refers to, and what it maps in `count`. */
  *table(halves: Uint32Array, offset: number, count: L2Count, active: boolean): Generator<Finding, void, void> {
    this.#next = 0;
    const entries = this.#layout.l2Entries;
    let index = this.#sound(halves, 0, count, active);
    while (index < entries) {
      if (active) this.suspicious = true;
      yield* this.#entry(halves, index, offset + index * this.#layout.l2EntrySize, count);
      index = this.#sound(halves, index + 1, count, active);
    }
  }

  /** Counts sound entries from `from` on; the index of the first that is not, or of the end. */
  #sound(halves: Uint32Array, from: number, count: L2Count, active: boolean): number {
    const { clusterBits, clusterSize, l2Entries: entries, extendedL2, refcountMax } = this.#layout;
    const counts = this.#counts;
    const stored = this.#stored;
    const external = this.#external;
    const clusters = this.#fileClusters;
    const stride = extendedL2 ? 4 : 2;
    const highClusters = 2 ** (32 - clusterBits);
    const oddBits = (2 ** clusterBits - 1) & ~entry.zero;
    let { allocated, fragmented } = count;
    let next = this.#next;
    let suspicious = this.suspicious;
    let index = from;
    for (; index < entries; index++) {
      const at = index * stride;
      const high = halves[at] ?? 0;
      const low = halves[at + 1] ?? 0;
      const allocatedParts = extendedL2 ? (halves[at + 3] ?? 0) : 0;
      if (high === 0 && low === 0 && allocatedParts === 0) continue;
      if ((high & entry.compressed) !== 0) {
        const zeroParts = extendedL2 ? (halves[at + 2] ?? 0) : 0;
        if (high >= entry.copied || external || allocatedParts !== 0 || zeroParts !== 0) break;
        if (!this.#soundPacked(high, low)) break;
        allocated++;
        fragmented++;
        count.compressed++;
        continue;
      }
      if ((high & entry.l2ReservedHigh) !== 0 || (low & oddBits) !== 0) break;
      const cluster = (high & entry.offsetHigh) * highClusters + (low >>> clusterBits);
      if (cluster === 0) {
        if (!extendedL2 && (low & entry.zero) !== 0) continue;
        if (!external || high < entry.copied) {
          if (allocatedParts !== 0) break;
          continue;
        }
      }
      if (extendedL2 && (allocatedParts & (halves[at + 2] ?? 0)) !== 0) break;
      if (external) {
        if (high < entry.copied) suspicious = true;
      } else {
        if (cluster >= clusters) break;
        if (!counts.mark(cluster)) {
          if (counts.get(cluster) >= refcountMax) break;
          counts.add(cluster);
        }
        if (active && stored.isOne(cluster) !== high >= entry.copied) suspicious = true;
      }
      allocated++;
      if (next !== 0 && cluster !== next) fragmented++;
      next = cluster + 1;
      if (extendedL2 || external || next >= clusters) continue;
      // The rest of a run that lies in one piece in the file.
      const more = Math.min(runLength(halves, at, entries, clusterSize), clusters - next);
      if (more === 0) continue;
      const marked = counts.markRun(next, more);
      if (active && high < entry.copied && !suspicious) suspicious = this.#anyOnes(next, marked);
      else if (active && !suspicious) suspicious = !stored.areOnes(next, marked);
      allocated += marked;
      next += marked;
      index += marked;
    }
    count.allocated = allocated;
    count.fragmented = fragmented;
    this.#next = next;
    this.suspicious = suspicious;
    return index;
  }

  #anyOnes(first: number, length: number): boolean {
    for (let cluster = first; cluster < first + length; cluster++) if (this.#stored.isOne(cluster)) return true;
    return false;
  }

  /** Counts a compressed cluster; false, and nothing is done, when there is something to say about it. */
  #soundPacked(high: number, low: number): boolean {
    const { clusterSize, refcountMax } = this.#layout;
    const offset = packedOffset(this.#layout, high, low);
    const length = packedLength(this.#layout, high, low);
    if (offset + length - this.#fileSize >= clusterSize) return false;
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = first; cluster <= last; cluster++) {
      if (this.#counts.get(cluster) >= refcountMax) return false;
    }
    for (let cluster = first; cluster <= last; cluster++) this.#counts.add(cluster);
    return true;
  }

  /** Any entry, as qemu-img goes about it. */
  *#entry(halves: Uint32Array, index: number, at: number, count: L2Count): Generator<Finding, void, void> {
    const { extendedL2, clusterSize } = this.#layout;
    const stride = extendedL2 ? 4 : 2;
    const high = halves[index * stride] ?? 0;
    const low = halves[index * stride + 1] ?? 0;
    const zeroParts = extendedL2 ? (halves[index * stride + 2] ?? 0) : 0;
    const allocatedParts = extendedL2 ? (halves[index * stride + 3] ?? 0) : 0;
    const where: Where = { file: this.#storage.name, offset: at, field: 'L2 entry' };
    const report = (code: string, text: string, repair: Repair = null): Finding => {
      this.reported++;
      return corruption(code, text, where, repair);
    };
    if ((high & entry.compressed) !== 0) {
      yield* this.#packedEntry(high, low, index, (zeroParts | allocatedParts) !== 0, report, count);
      return;
    }
    if ((high & entry.l2ReservedHigh) !== 0 || (low & entry.l2ReservedLow) !== 0) {
      yield report('l2-reserved', `ERROR found l2 entry with reserved bits set: ${hexEntry(high, low)}`);
    }
    const offset = entryOffset(high, low);
    const zero = !extendedL2 && (low & entry.zero) !== 0;
    if (offset === 0 && zero) return;
    if (offset === 0 && !(this.#external && high >= entry.copied)) {
      if (allocatedParts !== 0) {
        yield report('subclusters-unallocated', 'ERROR: Unallocated cluster has non-zero subcluster allocation map');
      }
      return;
    }
    if ((zeroParts & allocatedParts) !== 0) {
      const text = `ERROR offset=${hexNumber(offset)}: Allocated cluster has corrupted subcluster allocation bitmap`;
      yield report('subclusters-both', text);
    }
    if (offset % clusterSize !== 0) {
      const data = extendedL2 ? allocatedParts !== 0 : !zero;
      const what = data ? 'Data cluster' : 'Preallocated cluster';
      const finding = report(
        'data-unaligned',
        `ERROR offset=${hexNumber(offset)}: ${what} is not properly aligned; L2 entry corrupted.`,
        data ? null : repairPreallocated,
      );
      if (!data && this.#fixer !== null) {
        yield mended(finding);
        this.#fixer.zeroEntry(at, zeroParts, allocatedParts);
        halves.set(extendedL2 ? [0, 0, zeroParts, 0] : [0, entry.zero], index * stride);
        return;
      }
      yield finding;
    }
    const place = offset / clusterSize;
    count.allocated++;
    if (this.#next !== 0 && place !== this.#next) count.fragmented++;
    this.#next = place + 1;
    if (!this.#external) yield* this.region(offset, clusterSize);
  }

  *#packedEntry(
    high: number,
    low: number,
    index: number,
    parts: boolean,
    report: (code: string, text: string) => Finding,
    count: L2Count,
  ): Generator<Finding, void, void> {
    const place = hexEntry(high & (2 ** this.#layout.packedHighBits - 1), low);
    if (high >= entry.copied) {
      yield report('packed-copied', `ERROR: coffset=0x${place}: copied flag must never be set for compressed clusters`);
    }
    const shown = hexEntry(high & ~entry.copied, low);
    if (this.#external) {
      yield report('packed-data-file', `ERROR compressed cluster ${index} with data file, entry=0x${shown}`);
      return;
    }
    if (parts) {
      const what = 'with non-zero subcluster allocation bitmap';
      yield report('packed-subclusters', `ERROR compressed cluster ${index} ${what}, entry=0x${shown}`);
      return;
    }
    yield* this.region(packedOffset(this.#layout, high, low), packedLength(this.#layout, high, low), place);
    count.allocated++;
    count.compressed++;
    count.fragmented++;
  }

  /** References again, `times` times, what a table without findings refers to. */
  *repeat(halves: Uint32Array, times: number): Generator<Finding, void, void> {
    const { l2Entries, extendedL2, clusterSize } = this.#layout;
    if (this.#external) return;
    const stride = extendedL2 ? 4 : 2;
    for (let index = 0; index < l2Entries; index++) {
      const high = halves[index * stride] ?? 0;
      const low = halves[index * stride + 1] ?? 0;
      const packed = (high & entry.compressed) !== 0;
      const offset = packed ? packedOffset(this.#layout, high, low) : entryOffset(high, low);
      if (offset === 0 && !packed) continue;
      const length = packed ? packedLength(this.#layout, high, low) : clusterSize;
      const last = Math.floor((offset + length - 1) / clusterSize);
      for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) {
        const room = Math.max(0, this.#layout.refcountMax - this.#counts.get(cluster));
        if (room > 0) this.#counts.add(cluster, Math.min(room, times));
        for (let over = room; over < times; over++) yield* this.#reference(cluster);
      }
    }
  }
}

/** How many of the entries behind the one at `at` of `halves` continue it: same flags, each a cluster further in the file. */
function runLength(halves: Uint32Array, at: number, entries: number, clusterSize: number): number {
  const high = halves[at] ?? 0;
  let low = halves[at + 1] ?? 0;
  let index = at + 2;
  while (index < 2 * entries && halves[index] === high) {
    low += clusterSize;
    if (halves[index + 1] !== low) break;
    index += 2;
  }
  return (index - at) / 2 - 1;
}

/** A byte offset in hexadecimal digits; exact for what an entry can hold as long as its last bits are zero. */
function hexNumber(value: number): string {
  return Number.isSafeInteger(value) ? value.toString(16) : BigInt(value).toString(16);
}

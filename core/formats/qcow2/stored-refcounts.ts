// The refcounts that an image keeps, as a check reads them: page by page, in any order, never all at once.
import type { Storage } from '../../block/storage.ts';
import { pageBits, pageClusters } from './cluster-counts.ts';
import { hexEntry } from './findings.ts';
import type { Qcow2Header } from './header.ts';
import { getRefcount, join, type Layout } from './layout.ts';
import { entry } from './spec.ts';
import { loadTable } from './tables.ts';

/** Pages of "exactly one" bits kept at most (2 KiB each). */
const pagesKept = 16384;

/** Reads from here on fail in QEMU, whatever the file. */
export const longestFile = 2 ** 63 - 2 ** 30;

/** Fills `into` from `offset`; what lies past the end of the file reads as zeroes, as it does in QEMU. */
export function readPadded(storage: Storage, into: Uint8Array, offset: number): void {
  const there = Math.max(0, Math.min(into.length, storage.size - offset));
  if (there > 0) storage.readAt(into.subarray(0, there), offset);
  into.fill(0, there);
}

/** The refcounts of a page, one after the other as on disk. */
interface StoredPage {
  readonly raw: Uint8Array;
  /** Some of their blocks cannot be read. */
  readonly unreadable: boolean;
}

/** The refcount table and blocks of an open image (specification: "Host cluster management"). */
export class StoredRefcounts {
  /** The refcount table in halves, as it stands in the file. */
  readonly table: Uint32Array;
  readonly #storage: Storage;
  readonly #layout: Layout;
  readonly #ones = new Map<number, Uint32Array>();
  readonly #raw: Uint8Array;
  readonly #rawOnes: Uint8Array;
  readonly #unit = new Uint8Array(8);
  #loadedPage = -1;
  #loaded: StoredPage | null = null;
  #lastPage = -1;
  #complained = false;
  #lastOnes: Uint32Array = nothing;

  /** Reads the table: what lies past the end of the file counts as zero. Throws `storage/*`. */
  constructor(storage: Storage, header: Qcow2Header, layout: Layout) {
    const { refcount_table_offset, refcount_table_clusters } = header.fields;
    const entries = (refcount_table_clusters * layout.clusterSize) / 8;
    this.table = loadTable(storage, refcount_table_offset, entries, 'Reference count table', 'zero');
    this.#storage = storage;
    this.#layout = layout;
    this.#raw = new Uint8Array((pageClusters * layout.refcountBits) / 8);
    this.#rawOnes = new Uint8Array(this.#raw.length);
    if (layout.refcountBits < 8) this.#rawOnes.fill(0xff / (2 ** layout.refcountBits - 1));
    else
      for (let at = layout.refcountBits / 8 - 1; at < this.#rawOnes.length; at += layout.refcountBits / 8)
        this.#rawOnes[at] = 1;
  }

  /** Host offset of the refcount block that an entry of the table names; 0: none. Beyond 2^53 only in a damaged image. */
  blockOffset(index: number): number {
    const high = this.table[2 * index] ?? 0;
    const low = this.table[2 * index + 1] ?? 0;
    return join(high, low & ~entry.refcountReservedLow);
  }

  /** The offset of a refcount block is that of a cluster. */
  isAligned(index: number): boolean {
    const low = this.table[2 * index + 1] ?? 0;
    return (low & ~entry.refcountReservedLow & (this.#layout.clusterSize - 1)) === 0;
  }

  /** The number of the refcount block that counts a cluster, which is that of its entry in the table. */
  blockIndex(cluster: number): number {
    return Math.floor(cluster / this.#layout.refcountBlockEntries);
  }

  /** The refcount block of a cluster cannot be read: its offset is not that of a cluster, or beyond all files. */
  unreadable(cluster: number): boolean {
    return !this.#isReadable(this.blockIndex(cluster));
  }

  /** What QEMU says, once, when it meets the first refcount block that is not aligned; null: nothing (more) to say. */
  complaint(cluster: number): string | null {
    const index = this.blockIndex(cluster);
    if (this.#complained || this.isAligned(index)) return null;
    this.#complained = true;
    const low = this.table[2 * index + 1] ?? 0;
    const offset = hexEntry(this.table[2 * index] ?? 0, low & ~entry.refcountReservedLow);
    const shown = `Refblock offset 0x${offset} unaligned (reftable index: ${index === 0 ? '' : '0x'}${index.toString(16)})`;
    return `qcow2: Image is corrupt: ${shown}; further non-fatal corruption events will be suppressed`;
  }

  #isReadable(index: number): boolean {
    return this.isAligned(index) && this.blockOffset(index) < longestFile;
  }

  /**
   * The refcounts of a page as they stand on disk, one after the other (`getRefcount` takes them apart), and whether some of their
   * blocks have bad offsets: those, and missing blocks, read as zeroes. The buffer is used again for the next page.
   * Null: there is no block at all.
   */
  page(page: number): StoredPage | null {
    if (page !== this.#loadedPage) {
      this.#loaded = this.#load(page);
      this.#loadedPage = page;
    }
    return this.#loaded;
  }

  #load(page: number): StoredPage | null {
    const { refcountBlockEntries, refcountBits } = this.#layout;
    const first = page * pageClusters;
    let unreadable = false;
    let present = false;
    for (let done = 0; done < pageClusters;) {
      const within = (first + done) % refcountBlockEntries;
      const count = Math.min(pageClusters - done, refcountBlockEntries - within);
      const into = this.#raw.subarray((done * refcountBits) / 8, ((done + count) * refcountBits) / 8);
      const index = this.blockIndex(first + done);
      const offset = this.blockOffset(index);
      present ||= offset !== 0;
      unreadable ||= !this.#isReadable(index);
      if (offset === 0 || !this.#isReadable(index)) into.fill(0);
      else readPadded(this.#storage, into, offset + (within * refcountBits) / 8);
      done += count;
    }
    return present ? { raw: this.#raw, unreadable } : null;
  }

  /** Writes the refcounts of a page back where they stand; those of missing blocks, which must be zero, are not written. */
  writePage(page: number, raw: Uint8Array): void {
    const { refcountBlockEntries, refcountBits } = this.#layout;
    const first = page * pageClusters;
    for (let done = 0; done < pageClusters;) {
      const within = (first + done) % refcountBlockEntries;
      const count = Math.min(pageClusters - done, refcountBlockEntries - within);
      const index = this.blockIndex(first + done);
      const offset = this.blockOffset(index);
      if (offset !== 0 && this.#isReadable(index)) {
        const piece = raw.subarray((done * refcountBits) / 8, ((done + count) * refcountBits) / 8);
        const at = offset + (within * refcountBits) / 8;
        const before = new Uint8Array(piece.length);
        readPadded(this.#storage, before, at);
        if (Buffer.compare(before, piece) !== 0) this.#storage.writeAt(piece, at);
      }
      done += count;
    }
    this.#ones.delete(page);
    this.#lastPage = -1;
    this.#loadedPage = -1;
  }

  /** True when every refcount of what `page` gave is `value` (0 or 1). */
  allAre(raw: Uint8Array, value: number): boolean {
    if (value === 1) return Buffer.compare(raw, this.#rawOnes) === 0;
    return value === 0 && raw[0] === 0 && Buffer.compare(raw.subarray(1), raw.subarray(0, raw.length - 1)) === 0;
  }

  /** The refcount of a cluster is exactly one. */
  isOne(cluster: number): boolean {
    if (cluster > 0x7fff_ffff) return this.get(cluster) === 1;
    const page = cluster >>> pageBits;
    const ones = page === this.#lastPage ? this.#lastOnes : this.ones(page);
    return (((ones[(cluster & (pageClusters - 1)) >>> 5] ?? 0) >>> (cluster & 31)) & 1) === 1;
  }

  /** The refcounts of `length` clusters from `first` are all exactly one. */
  areOnes(first: number, length: number): boolean {
    for (let done = 0; done < length;) {
      const cluster = first + done;
      const page = cluster >>> pageBits;
      const ones = page === this.#lastPage ? this.#lastOnes : this.ones(page);
      const inPage = Math.min(length - done, pageClusters - (cluster & (pageClusters - 1)));
      if (ones !== everything) {
        for (let at = cluster; at < cluster + inPage; at++) if (!this.isOne(at)) return false;
      }
      done += inPage;
    }
    return true;
  }

  /** A bit per cluster of a page: its refcount is exactly one. */
  ones(page: number): Uint32Array {
    let ones = this.#ones.get(page);
    if (ones === undefined) {
      if (this.#ones.size >= pagesKept) this.#ones.clear();
      ones = this.#buildOnes(page);
      this.#ones.set(page, ones);
    }
    this.#lastPage = page;
    this.#lastOnes = ones;
    return ones;
  }

  #buildOnes(page: number): Uint32Array {
    const raw = this.page(page)?.raw;
    if (raw === undefined || this.allAre(raw, 0)) return nothing;
    if (this.allAre(raw, 1)) return everything;
    const ones = new Uint32Array(pageClusters / 32);
    const order = this.#layout.refcountOrder;
    for (let at = 0; at < pageClusters; at++) {
      if (getRefcount(raw, order, at) === 1) ones[at >>> 5] = (ones[at >>> 5] ?? 0) | (1 << (at & 31));
    }
    return ones;
  }

  /** The refcount of one cluster; one of 64 bits may be beyond 2^53. 0 where there is no block, or none that can be read. */
  get(cluster: number): number {
    const { refcountOrder, refcountBits } = this.#layout;
    const unit = this.#readUnit(cluster);
    return unit === null ? 0 : getRefcount(unit, refcountOrder, refcountBits < 8 ? cluster % (8 / refcountBits) : 0);
  }

  /** The refcount of a cluster is zero. */
  isZero(cluster: number): boolean {
    const refcount = this.page(cluster >>> pageBits);
    return (
      refcount === null || getRefcount(refcount.raw, this.#layout.refcountOrder, cluster & (pageClusters - 1)) === 0
    );
  }

  /** How many clusters from `first` on, at most `limit`, have a refcount of zero (or, `zero` false, another one). */
  sameUse(first: number, limit: number, zero: boolean): number {
    const { refcountOrder } = this.#layout;
    let length = 0;
    while (length < limit) {
      const cluster = first + length;
      const from = cluster & (pageClusters - 1);
      const found = this.page(cluster >>> pageBits);
      if (found === null || this.allAre(found.raw, 0)) {
        if (!zero) break;
        length += pageClusters - from;
        continue;
      }
      let at = from;
      while (at < pageClusters && (getRefcount(found.raw, refcountOrder, at) === 0) === zero) at++;
      length += at - from;
      if (at < pageClusters) break;
    }
    return Math.min(length, limit);
  }

  /** The same in decimal digits, exact for 64 bits too. */
  exact(cluster: number): string {
    if (this.#layout.refcountOrder < 6) return String(this.get(cluster));
    const unit = this.#readUnit(cluster);
    return unit === null ? '0' : new DataView(unit.buffer, unit.byteOffset, 8).getBigUint64(0).toString();
  }

  #readUnit(cluster: number): Uint8Array | null {
    const { refcountBits, refcountBlockEntries } = this.#layout;
    const index = this.blockIndex(cluster);
    const offset = this.blockOffset(index);
    if (offset === 0 || !this.#isReadable(index)) return null;
    const unit = this.#unit.subarray(0, Math.max(1, refcountBits / 8));
    readPadded(this.#storage, unit, offset + Math.floor(((cluster % refcountBlockEntries) * refcountBits) / 8));
    return unit;
  }
}

const nothing = new Uint32Array(pageClusters / 32);
const everything = new Uint32Array(pageClusters / 32).fill(0xffff_ffff);

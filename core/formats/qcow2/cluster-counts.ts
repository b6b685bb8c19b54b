// How often each host cluster is referenced: a counter per cluster in pages that are only as wide as their highest count.
import { ImageError } from '../../errors/image-error.ts';

/** Clusters of one page. */
export const pageClusters = 16384;
export const pageBits = 14;

/** Bytes that the pages may take together before counting gives up: only an image made for it comes near. */
const usualBudget = 96 * 1024 * 1024;

const none = 0;
const bits = 1;
const bytes = 2;
const words = 3;

/** Bytes that must be taken anew before pages are looked through again for such a value. */
const compactStep = 16 * 1024 * 1024;

/**
 * Counters for cluster numbers below 2^31. A page that holds one value throughout (nothing yet, or every cluster counted once, as in
 * a disk that was written from end to end) takes no memory; the others have 1, 8 or 32 bits per cluster.
 */
export class ClusterCounts {
  /** Clusters that the file has, or that were counted: the higher of the two. At most the size given plus one page. */
  size: number;
  readonly #file: string;
  readonly #budget: number;
  readonly #level: Uint8Array;
  readonly #uniform: Uint8Array;
  readonly #bitsSet: Uint16Array;
  readonly #bitPages: (Uint32Array | null)[];
  readonly #bytePages: (Uint8Array | null)[];
  readonly #wordPages: (Uint32Array | null)[];
  #held = 0;
  #compactedAt = 0;

  /** `size` clusters, none counted yet. `file` names the image in the error; `budget`: bytes of memory at most. */
  constructor(size: number, file: string, budget = usualBudget) {
    this.#budget = budget;
    this.size = size;
    this.#file = file;
    const pages = Math.ceil(size / pageClusters) + 1;
    this.#level = new Uint8Array(pages);
    this.#uniform = new Uint8Array(pages);
    this.#bitsSet = new Uint16Array(pages);
    this.#bitPages = new Array<Uint32Array | null>(pages).fill(null);
    this.#bytePages = new Array<Uint8Array | null>(pages).fill(null);
    this.#wordPages = new Array<Uint32Array | null>(pages).fill(null);
  }

  get(cluster: number): number {
    const page = cluster >>> pageBits;
    const at = cluster & (pageClusters - 1);
    switch (this.#level[page] ?? none) {
      case bits:
        return ((this.#bitPages[page]?.[at >>> 5] ?? 0) >>> (at & 31)) & 1;
      case bytes:
        return this.#bytePages[page]?.[at] ?? 0;
      case words:
        return this.#wordPages[page]?.[at] ?? 0;
      default:
        return this.#uniform[page] ?? 0;
    }
  }

  /** The value that all clusters of a page have, or null when they may differ. */
  uniform(page: number): number | null {
    return this.#level[page] === none ? (this.#uniform[page] ?? 0) : null;
  }

  /**
   * Adds `by` (1 or more) to the counter of a cluster; counters end at 2^32-1. Throws `qcow2/check-memory` when the counters of
   * this image take more memory than is allowed.
   */
  add(cluster: number, by = 1): void {
    if (by === 1 && this.mark(cluster)) return;
    const page = cluster >>> pageBits;
    const at = cluster & (pageClusters - 1);
    if (cluster >= this.size) this.size = cluster + 1;
    const level = this.#level[page] ?? none;
    if (level === none || level === bits) this.#widenToBytes(page);
    const bytePage = this.#bytePages[page] ?? null;
    if (bytePage !== null) {
      const count = (bytePage[at] ?? 0) + by;
      if (count <= 0xff) {
        bytePage[at] = count;
        return;
      }
      this.#widenToWords(page, bytePage);
    }
    const wordPage = this.#wordPages[page] ?? null;
    if (wordPage !== null) wordPage[at] = Math.min((wordPage[at] ?? 0) + by, 0xffff_ffff);
  }

  /** Counts a cluster that nothing refers to yet; false, and nothing is done, when it was counted or its page is wide already. */
  mark(cluster: number): boolean {
    const page = cluster >>> pageBits;
    const at = cluster & (pageClusters - 1);
    const bitPage = this.#bitPages[page] ?? this.#newBitPage(page);
    if (bitPage === null) return false;
    const word = bitPage[at >>> 5] ?? 0;
    const bit = 1 << (at & 31);
    if ((word & bit) !== 0) return false;
    bitPage[at >>> 5] = word | bit;
    if (cluster >= this.size) this.size = cluster + 1;
    this.#countBits(page, 1);
    return true;
  }

  /**
   * Counts `length` clusters from `first` that nothing refers to yet, until one comes that was counted (or may have been) already;
   * returns how many it did, possibly none.
   */
  markRun(first: number, length: number): number {
    let done = 0;
    while (done < length) {
      const cluster = first + done;
      const page = cluster >>> pageBits;
      const at = cluster & (pageClusters - 1);
      const bitPage = this.#bitPages[page] ?? this.#newBitPage(page);
      if (bitPage === null) break;
      const inWord = Math.min(length - done, 32 - (at & 31));
      const mask = inWord === 32 ? 0xffff_ffff : ((1 << inWord) - 1) << (at & 31);
      const word = bitPage[at >>> 5] ?? 0;
      if ((word & mask) !== 0) break;
      bitPage[at >>> 5] = word | mask;
      this.#countBits(page, inWord);
      done += inWord;
    }
    if (first + done > this.size) this.size = first + done;
    return done;
  }

  /** A page on which nothing was counted gets bits; null: it has other counters. */
  #newBitPage(page: number): Uint32Array | null {
    if (this.#level[page] !== none || this.#uniform[page] !== 0) return null;
    this.#take(pageClusters / 8);
    const bitPage = new Uint32Array(pageClusters / 32);
    this.#bitPages[page] = bitPage;
    this.#level[page] = bits;
    return bitPage;
  }

  #countBits(page: number, more: number): void {
    const set = (this.#bitsSet[page] ?? 0) + more;
    this.#bitsSet[page] = set;
    if (set < pageClusters) return;
    this.#bitPages[page] = null;
    this.#held -= pageClusters / 8;
    this.#level[page] = none;
    this.#uniform[page] = 1;
  }

  /** The clusters that were counted, in their order, with their counts. */
  *counted(): Generator<[cluster: number, count: number], void, void> {
    for (let page = 0; page < this.#level.length; page++) {
      if (this.uniform(page) === 0) continue;
      const start = page * pageClusters;
      for (let cluster = start; cluster < start + pageClusters; cluster++) {
        const count = this.get(cluster);
        if (count > 0) yield [cluster, count];
      }
    }
  }

  #widenToBytes(page: number): void {
    this.#take(pageClusters);
    const wide = new Uint8Array(pageClusters);
    const narrow = this.#bitPages[page] ?? null;
    if (narrow === null) {
      wide.fill(this.#uniform[page] ?? 0);
    } else {
      for (let at = 0; at < pageClusters; at++) wide[at] = ((narrow[at >>> 5] ?? 0) >>> (at & 31)) & 1;
      this.#bitPages[page] = null;
      this.#held -= pageClusters / 8;
    }
    this.#bytePages[page] = wide;
    this.#level[page] = bytes;
  }

  #widenToWords(page: number, narrow: Uint8Array): void {
    this.#take(pageClusters * 4);
    this.#wordPages[page] = Uint32Array.from(narrow);
    this.#bytePages[page] = null;
    this.#held -= pageClusters;
    this.#level[page] = words;
  }

  #take(length: number): void {
    if (this.#held + length > this.#budget && this.#held >= this.#compactedAt + compactStep) this.#compact();
    if (this.#held + length > this.#budget) {
      throw new ImageError('qcow2/check-memory', { allowed: this.#budget }, { file: this.#file });
    }
    this.#held += length;
  }

  /** Pages that hold one value throughout are given back (a snapshot of a whole disk makes all of them 2). */
  #compact(): void {
    this.#bytePages.forEach((page, index) => {
      const first = page?.[0] ?? 0;
      if (page === null || !page.every((count) => count === first)) return;
      this.#bytePages[index] = null;
      this.#held -= pageClusters;
      this.#level[index] = none;
      this.#uniform[index] = first;
    });
    this.#compactedAt = this.#held;
  }
}

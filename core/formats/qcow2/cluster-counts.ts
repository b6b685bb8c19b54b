// How often each host cluster is referenced: a counter per cluster in pages that are only as wide as their highest count.
import { ImageError } from '../../errors/image-error.ts';

/** Clusters of one page. */
export const pageClusters = 16384;
export const pageBits = 14;

/** Bytes that the pages may take together before counting gives up: only an image made for it comes near. */
const usualBudget = 96 * 1024 * 1024;

const none = 0;
const bits = 1;
const nibbles = 2;
const bytes = 3;
const words = 4;

/** The highest count that a page of each width holds, and the bytes it takes. */
const highest = [0, 1, 15, 0xff, 0xffff_ffff] as const;
const pageBytes = [0, pageClusters / 8, pageClusters / 2, pageClusters, pageClusters * 4] as const;

/**
 * Counters for cluster numbers below 2^31. A page that holds one value throughout (nothing yet, or every cluster counted once, as in
 * a disk that was written from end to end) takes no memory; the others have 1, 4, 8 or 32 bits per cluster.
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
  /** Pages of 4 and of 8 bits per cluster. */
  readonly #bytePages: (Uint8Array | null)[];
  readonly #wordPages: (Uint32Array | null)[];
  #held = 0;
  /** Bytes held when pages were last looked through for one value; not again before much more is taken. */
  #compactedAt = 0;

  /**
   * `size` clusters, none counted yet. `file` names the image in the error; `budget`: bytes of memory at most; `spare`: clusters
   * behind the last that may be counted too (a page of them always).
   */
  constructor(size: number, file: string, budget = usualBudget, spare = 0) {
    this.#budget = budget;
    this.size = size;
    this.#file = file;
    const pages = Math.ceil((size + spare) / pageClusters) + 1;
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
      case nibbles:
        return ((this.#bytePages[page]?.[at >>> 1] ?? 0) >>> ((at & 1) * 4)) & 15;
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
    const count = Math.min(this.get(cluster) + by, 0xffff_ffff);
    while (count > (highest[this.#level[page] ?? none] ?? 0)) this.#widen(page);
    this.#put(page, at, count);
  }

  /** Sets a counter of a page that is wide enough and not one of bits. */
  #put(page: number, at: number, count: number): void {
    const bytePage = this.#bytePages[page] ?? null;
    if (this.#level[page] === nibbles && bytePage !== null) {
      const shift = (at & 1) * 4;
      bytePage[at >>> 1] = ((bytePage[at >>> 1] ?? 0) & (0xf0 >>> shift)) | (count << shift);
    } else if (bytePage !== null) {
      bytePage[at] = count;
    } else {
      const wordPage = this.#wordPages[page] ?? null;
      if (wordPage !== null) wordPage[at] = count;
    }
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

  /** Gives a page the next width (at least nibbles, or what its one value needs). */
  #widen(page: number): void {
    const level = this.#level[page] ?? none;
    const start = page * pageClusters;
    const uniform = level === none ? (this.#uniform[page] ?? 0) : null;
    let wider = Math.max(nibbles, level + 1);
    while (uniform !== null && uniform > (highest[wider] ?? 0)) wider++;
    this.#take(pageBytes[wider] ?? 0);
    const room = wider === words ? new Uint32Array(pageClusters) : new Uint8Array(pageBytes[wider] ?? 0);
    if (wider === nibbles) {
      for (let at = 0; at < room.length; at++)
        room[at] = this.get(start + 2 * at) | (this.get(start + 2 * at + 1) << 4);
    } else {
      for (let at = 0; at < pageClusters; at++) room[at] = this.get(start + at);
    }
    this.#bitPages[page] = null;
    this.#bytePages[page] = room instanceof Uint8Array ? room : null;
    this.#wordPages[page] = room instanceof Uint8Array ? null : room;
    // Making room may have given this very page back.
    this.#held -= pageBytes[this.#level[page] ?? none] ?? 0;
    this.#level[page] = wider;
  }

  #take(length: number): void {
    if (this.#held + length > this.#budget && this.#held >= this.#compactedAt + this.#budget / 8) this.#compact();
    if (this.#held + length > this.#budget) {
      throw new ImageError('qcow2/check-memory', { allowed: this.#budget }, { file: this.#file });
    }
    this.#held += length;
  }

  /** Pages that hold one value throughout are given back (a snapshot of a whole disk makes all of them 2). */
  #compact(): void {
    this.#bytePages.forEach((page, index) => {
      const first = page?.[0] ?? 0;
      const level = this.#level[index] ?? none;
      if (page === null || !page.every((count) => count === first)) return;
      if (level === nibbles && (first & 15) !== first >>> 4) return;
      this.#bytePages[index] = null;
      this.#held -= pageBytes[level] ?? 0;
      this.#level[index] = none;
      this.#uniform[index] = level === nibbles ? first & 15 : first;
    });
    this.#compactedAt = this.#held;
  }
}

// What each host cluster is for: a byte per cluster in small pages, one value for a page that is all alike.
import { ImageError } from '../../errors/image-error.ts';

/** Clusters of one page. */
export const ownerPage = 1024;

/** Bytes that the pages may take together. */
const budget = 96 * 1024 * 1024;

/** Clusters of a file at most: QEMU does not check larger ones either. */
export const mostClusters = 0x7fff_ffff;

/** What a cluster is for. Where two claim it, the lower number has it. `none`: nothing refers to it. */
export const owner = {
  none: 0,
  header: 1,
  /** Part of a table that has a place of its own in the list of regions: L1, refcount table, snapshot table, … */
  stretch: 2,
  refcountBlock: 3,
  l2: 4,
  bitmapData: 5,
  data: 6,
  packed: 7,
  /** Set aside, reads as zeroes. */
  reserved: 8,
  /** Data that only snapshots refer to. */
  snapshotData: 9,
  snapshotPacked: 10,
  snapshotReserved: 11,
} as const;

/** Owners for the clusters of one file. Clusters outside it are ignored. */
export class ClusterOwners {
  readonly clusters: number;
  readonly #file: string;
  readonly #pages: (Uint8Array | null)[];
  /** The owner of a page without bytes. */
  readonly #uniform: Uint8Array;
  /** Clusters of the page that are not `none`. */
  readonly #taken: Uint16Array;
  #held = 0;

  /** Throws `qcow2/check-memory` for a file of 2^31 clusters and more. */
  constructor(clusters: number, file: string) {
    if (clusters > mostClusters) throw new ImageError('qcow2/check-memory', { allowed: budget }, { file });
    const pages = Math.ceil(clusters / ownerPage);
    this.clusters = clusters;
    this.#file = file;
    this.#pages = new Array<Uint8Array | null>(pages).fill(null);
    this.#uniform = new Uint8Array(pages);
    this.#taken = new Uint16Array(pages);
  }

  get(cluster: number): number {
    const page = Math.floor(cluster / ownerPage);
    return this.#pages[page]?.[cluster % ownerPage] ?? this.#uniform[page] ?? owner.none;
  }

  /** Gives `length` clusters from `first` to `kind` where nobody with a better claim has them. Throws `qcow2/check-memory`. */
  set(first: number, length: number, kind: number): void {
    const end = Math.min(first + length, this.clusters);
    for (let cluster = first; cluster < end;) {
      const page = Math.floor(cluster / ownerPage);
      const from = cluster - page * ownerPage;
      const to = Math.min(ownerPage, end - page * ownerPage);
      this.#setInPage(page, from, to, kind);
      cluster += to - from;
    }
  }

  #setInPage(page: number, from: number, to: number, kind: number): void {
    let bytes = this.#pages[page] ?? null;
    if (bytes === null) {
      const uniform = this.#uniform[page] ?? owner.none;
      if (uniform !== owner.none && uniform <= kind) return;
      if (to - from === ownerPage) {
        this.#uniform[page] = kind;
        this.#taken[page] = ownerPage;
        return;
      }
      if (this.#held + ownerPage > budget) {
        throw new ImageError('qcow2/check-memory', { allowed: budget }, { file: this.#file });
      }
      this.#held += ownerPage;
      bytes = new Uint8Array(ownerPage).fill(uniform);
      this.#pages[page] = bytes;
    }
    let taken = this.#taken[page] ?? 0;
    for (let at = from; at < to; at++) {
      const now = bytes[at] ?? owner.none;
      if (now !== owner.none && now <= kind) continue;
      if (now === owner.none) taken++;
      bytes[at] = kind;
    }
    this.#taken[page] = taken;
    if (taken === ownerPage && bytes.every((one) => one === kind)) {
      this.#pages[page] = null;
      this.#uniform[page] = kind;
      this.#held -= ownerPage;
    }
  }

  /** How many clusters from `first` on, at most `limit`, have the owner that `first` has. */
  run(first: number, limit: number): number {
    const kind = this.get(first);
    let length = 0;
    while (length < limit) {
      const cluster = first + length;
      const page = Math.floor(cluster / ownerPage);
      const from = cluster - page * ownerPage;
      const bytes = this.#pages[page] ?? null;
      if (bytes === null) {
        if (this.#uniform[page] !== kind) break;
        length += ownerPage - from;
        continue;
      }
      let at = from;
      while (at < ownerPage && bytes[at] === kind) at++;
      length += at - from;
      if (at < ownerPage) break;
    }
    return Math.min(length, limit);
  }
}

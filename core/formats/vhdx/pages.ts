// Pages of the file that hold tables and bitmaps: read once, changed in memory, handed out by dirty 4 KiB sectors.
import type { Storage } from '../../block/storage.ts';
import { KiB } from '../../block/units.ts';
import { logSectorLength } from './spec.ts';

export const pageLength = 64 * KiB;
/** Clean pages kept at most: 16 MiB. */
const maxClean = 256;
const sectorsPerPage = pageLength / logSectorLength;

export interface Page {
  readonly start: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Bit n: sector n of the page differs from the file. */
  dirty: number;
}

/** A changed sector of the file and where it belongs. */
export interface DirtySector {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A cache of pages over `storage`. Dirty pages stay until they are marked clean. */
export class Pages {
  readonly #storage: Storage;
  readonly #pages = new Map<number, Page>();
  #last: Page | null = null;
  #dirtyPages = 0;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** The page that `offset` lies in; what lies behind the end of the file is zero. Throws `storage/*`. */
  at(offset: number): Page {
    const start = offset - (offset % pageLength);
    if (this.#last?.start === start) return this.#last;
    let page = this.#pages.get(start);
    if (page === undefined) {
      this.#evict();
      page = this.#read(start);
    } else {
      this.#pages.delete(start);
    }
    this.#pages.set(start, page);
    this.#last = page;
    return page;
  }

  /** Overwrites bytes of one page in memory. */
  patch(offset: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const page = this.at(offset + done);
      const within = offset + done - page.start;
      const length = Math.min(bytes.length - done, pageLength - within);
      page.bytes.set(bytes.subarray(done, done + length), within);
      this.markDirty(page, within, length);
      done += length;
    }
  }

  /** Says that `length` bytes of the page from `within` were changed. */
  markDirty(page: Page, within: number, length: number): void {
    if (page.dirty === 0) this.#dirtyPages++;
    const first = Math.floor(within / logSectorLength);
    const last = Math.floor((within + length - 1) / logSectorLength);
    for (let sector = first; sector <= last; sector++) page.dirty |= 1 << sector;
  }

  get hasDirty(): boolean {
    return this.#dirtyPages > 0;
  }

  /** Changed sectors by rising offset. The bytes are the cache's own: write them before anything else changes. */
  dirtySectors(): DirtySector[] {
    const sectors: DirtySector[] = [];
    const pages = [...this.#pages.values()].filter((page) => page.dirty !== 0).sort((a, b) => a.start - b.start);
    for (const page of pages) {
      for (let sector = 0; sector < sectorsPerPage; sector++) {
        if ((page.dirty & (1 << sector)) === 0) continue;
        const within = sector * logSectorLength;
        sectors.push({
          offset: page.start + within,
          bytes: page.bytes.subarray(within, within + logSectorLength),
        });
      }
    }
    return sectors;
  }

  /** These sectors stand in the file now. */
  markClean(sectors: readonly DirtySector[]): void {
    for (const { offset } of sectors) {
      const page = this.#pages.get(offset - (offset % pageLength));
      if (page === undefined || page.dirty === 0) continue;
      page.dirty &= ~(1 << ((offset % pageLength) / logSectorLength));
      if (page.dirty === 0) this.#dirtyPages--;
    }
  }

  /** Forgets what is cached of a stretch of the file, dirty or not: it no longer holds tables, or is new. */
  forget(offset: number, length: number): void {
    for (let start = offset - (offset % pageLength); start < offset + length; start += pageLength) {
      const page = this.#pages.get(start);
      if (page === undefined) continue;
      if (page.dirty !== 0) this.#dirtyPages--;
      this.#pages.delete(start);
      if (this.#last === page) this.#last = null;
    }
  }

  #read(start: number): Page {
    const bytes = new Uint8Array(pageLength);
    const length = Math.max(0, Math.min(pageLength, this.#storage.size - start));
    if (length > 0) this.#storage.readAt(bytes.subarray(0, length), start);
    return { start, bytes, view: new DataView(bytes.buffer), dirty: 0 };
  }

  #evict(): void {
    if (this.#pages.size - this.#dirtyPages < maxClean) return;
    for (const [start, page] of this.#pages) {
      if (page.dirty !== 0) continue;
      this.#pages.delete(start);
      return;
    }
  }
}

/** Writes sectors to their places, neighbours in one piece. */
export function writeSectors(storage: Storage, sectors: readonly DirtySector[]): void {
  let first = 0;
  while (first < sectors.length) {
    let end = first + 1;
    while (end < sectors.length && sectors[end]?.offset === (sectors[end - 1]?.offset ?? 0) + logSectorLength) end++;
    const run = sectors.slice(first, end);
    const at = run[0]?.offset ?? 0;
    const joined = new Uint8Array(run.length * logSectorLength);
    run.forEach((sector, index) => joined.set(sector.bytes, index * logSectorLength));
    storage.writeAt(joined, at);
    first = end;
  }
}

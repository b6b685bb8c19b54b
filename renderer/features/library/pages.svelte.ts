// The images that a list shows, fetched in pages as they come into sight: ten thousand rows are never here at once.
import type { ImageEntry, ImagePlace } from '../../../core/workbench/contract.ts';
import { client, faultOf, type Fault } from '../../bridge.ts';
import { baseName } from '../../text/paths.ts';

export type Order = 'path' | 'format' | 'virtualSize' | 'allocated' | 'changed';

export type Health = 'ok' | 'problem' | 'dirty' | 'gone';

export interface Filter {
  readonly datastore: string | null;
  readonly format: string | null;
  readonly tag: string | null;
  readonly text: string | null;
  readonly problems: boolean;
  readonly hasChildren: boolean;
  readonly health: Health | null;
  readonly order: Order;
  readonly descending: boolean;
}

const pageSize = 200;
/** Images that one call lists at most. */
const mostAtOnce = 1000;

export class ImagePages {
  total = $state(0);
  loaded = $state(false);
  fault = $state<Fault | null>(null);
  /** Replaced, never changed: nobody needs to watch each field of thousands of images. */
  #kept = $state.raw<Readonly<Record<number, readonly ImageEntry[]>>>({});
  /** Goes up when the list is another one, or was asked for anew. */
  answers = $state(0);
  #filter: Filter | null = null;
  #asked = new Set<number>();
  #turn = 0;
  #inSight: readonly [number, number] = [0, 0];

  /** Another filter, or the same once more: what is shown stays until the answer is there. */
  show(filter: Filter): void {
    this.#filter = filter;
    this.#turn += 1;
    this.#asked = new Set();
    const [first, last] = this.#inSight;
    const wanted = [...new Set([Math.floor(first / pageSize), Math.floor(last / pageSize)])];
    void this.#fetch(wanted, true);
  }

  at(index: number): ImageEntry | null {
    return this.#kept[Math.floor(index / pageSize)]?.[index % pageSize] ?? null;
  }

  /** The row of an image that is here; -1: it is not. */
  indexOf(id: string): number {
    for (const [page, images] of Object.entries(this.#kept)) {
      const at = images.findIndex((image) => image.id === id);
      if (at >= 0) return Number(page) * pageSize + at;
    }
    return -1;
  }

  /** All images that are here. */
  known(): readonly ImageEntry[] {
    return Object.values(this.#kept).flat();
  }

  /** The images of these rows, fetched as far as they are not here. Throws what the call throws. */
  async entries(first: number, last: number): Promise<ImageEntry[]> {
    const filter = this.#filter;
    const found: ImageEntry[] = [];
    for (let at = first; at <= last;) {
      const here = this.at(at);
      if (here !== null || filter === null) {
        if (here !== null) found.push(here);
        at += 1;
        continue;
      }
      const limit = Math.min(mostAtOnce, last - at + 1);
      const { images } = await client.images.list({ ...filter, offset: at, limit });
      found.push(...images);
      at += limit;
    }
    return found;
  }

  /** Those of the images (as many as one call places) that are in the list, and where. Throws what the call throws. */
  async places(ids: readonly string[]): Promise<readonly ImagePlace[]> {
    return this.#filter === null ? [] : client.images.places({ ...this.#filter, ids: [...ids] });
  }

  /**
   * The next image after the row `from` whose name, or that of its file, begins with `text`; from the start again behind the last. Null: there
   * is none. Throws what the call throws.
   */
  async startingWith(text: string, from: number): Promise<number | null> {
    const filter = this.#filter;
    if (filter === null) return null;
    const wanted = text.toLowerCase();
    const begins = (name: string): boolean => name.toLowerCase().startsWith(wanted);
    let first: number | null = null;
    for (let offset = 0, total = 1; offset < total; offset += mostAtOnce) {
      // Where nothing is searched for, the catalogue narrows the list to what could be meant.
      const asked = { ...filter, text: filter.text ?? text, offset, limit: mostAtOnce };
      const page = await client.images.list(asked);
      ({ total } = page);
      const met = page.images.filter(({ name, path }) => begins(name ?? path) || begins(baseName(path)));
      for (const { place } of met.length === 0 ? [] : await this.places(met.map(({ id }) => id))) {
        if (place > from) return place;
        first ??= place;
      }
    }
    return first;
  }

  /** Makes sure that these rows are here. */
  want(first: number, last: number): void {
    this.#inSight = [first, last];
    const missing = [...new Set([Math.floor(first / pageSize), Math.floor(last / pageSize)])].filter(
      (page) => !this.#asked.has(page),
    );
    if (missing.length > 0 && this.#filter !== null) void this.#fetch(missing, false);
  }

  async #fetch(pages: readonly number[], anew: boolean): Promise<void> {
    const filter = this.#filter;
    const turn = this.#turn;
    if (filter === null) return;
    for (const page of pages) this.#asked.add(page);
    try {
      const answers = await Promise.all(
        pages.map((page) => client.images.list({ ...filter, offset: page * pageSize, limit: pageSize })),
      );
      if (turn !== this.#turn) return;
      const kept: Record<number, readonly ImageEntry[]> = anew ? {} : { ...this.#kept };
      answers.forEach(({ images, total }, index) => {
        kept[pages[index] ?? 0] = images;
        this.total = total;
      });
      this.#kept = kept;
      if (anew) this.answers += 1;
      this.loaded = true;
      this.fault = null;
    } catch (error) {
      if (turn === this.#turn) this.fault = faultOf(error);
    }
  }
}

// Which images of the list are selected, and on which the keys stand: kept by the image, wherever it stands after another order, filter or scan.
import { SvelteMap } from 'svelte/reactivity';
import type { ImageEntry } from '../../../core/workbench/contract.ts';
import type { ImagePages } from './pages.svelte.ts';

/** Images that one call places at most. */
const atOnce = 1000;

export class ListSelection {
  /** The row that the keys stand on; -1: none. */
  current = $state(-1);
  readonly #pages: ImagePages;
  readonly #chosen = new SvelteMap<string, ImageEntry>();
  /** A row that was selected before its image was here. */
  #awaited = $state<number | null>(null);
  #currentId: string | null = null;
  /** Where a range begins. */
  #anchor = -1;
  #anchorId: string | null = null;
  /** The last question that was sent; older answers are dropped. */
  #asked = 0;

  constructor(pages: ImagePages) {
    this.#pages = pages;
  }

  get images(): readonly ImageEntry[] {
    return [...this.#chosen.values()];
  }

  has(index: number): boolean {
    const image = this.#pages.at(index);
    return image === null ? index === this.#awaited : this.#chosen.has(image.id);
  }

  /** The keys stand on that row now; nothing is selected by that. */
  stand(index: number): void {
    this.current = index;
    this.#currentId = this.#pages.at(index)?.id ?? null;
  }

  one(index: number): void {
    const image = this.#pages.at(index);
    this.#chosen.clear();
    this.#setAnchor(index);
    this.#awaited = image === null ? index : null;
    if (image !== null) this.#chosen.set(image.id, image);
  }

  toggle(index: number): void {
    const image = this.#pages.at(index);
    this.#setAnchor(index);
    this.#awaited = null;
    if (image === null) return;
    if (!this.#chosen.delete(image.id)) this.#chosen.set(image.id, image);
  }

  /** All from where the last selection began to `index`. Throws what the call throws. */
  async rangeTo(index: number): Promise<void> {
    if (this.#anchor < 0) this.#setAnchor(index);
    await this.range(this.#anchor, index);
  }

  async range(from: number, to: number): Promise<void> {
    this.#awaited = null;
    const number = ++this.#asked;
    const images = await this.#pages.entries(Math.min(from, to), Math.max(from, to));
    if (number !== this.#asked) return;
    this.#chosen.clear();
    for (const image of images) this.#chosen.set(image.id, image);
  }

  /** Rows came into sight: what was waited for may be among them. */
  settle(): void {
    const wanted = this.#awaited === null ? null : this.#pages.at(this.#awaited);
    if (wanted !== null) {
      this.#awaited = null;
      this.#chosen.set(wanted.id, wanted);
    }
    this.#currentId ??= this.#pages.at(this.current)?.id ?? null;
    this.#anchorId ??= this.#pages.at(this.#anchor)?.id ?? null;
  }

  /**
   * The list is another one, or was asked for anew: what is not in it any more is not selected any more, the rest is as the list says now.
   * True: the row of the keys has moved. Throws what the call throws.
   */
  async follow(): Promise<boolean> {
    const number = ++this.#asked;
    const { current } = this;
    const here = this.#currentId === null ? -1 : this.#pages.indexOf(this.#currentId);
    if (here >= 0) this.current = here;
    const wanted = new Set([...this.#chosen.keys(), this.#currentId, this.#anchorId].filter((id) => id !== null));
    const found = new Map<string, { readonly place: number; readonly image: ImageEntry }>();
    const ids = [...wanted];
    for (let at = 0; at < ids.length; at += atOnce) {
      for (const one of await this.#pages.places(ids.slice(at, at + atOnce))) found.set(one.image.id, one);
      // Somebody has selected something else meanwhile: that is what the list said last.
      if (number !== this.#asked) return false;
    }
    for (const id of [...this.#chosen.keys()]) {
      const now = found.get(id);
      if (now === undefined) this.#chosen.delete(id);
      else this.#chosen.set(id, now.image);
    }
    this.#anchor = found.get(this.#anchorId ?? '')?.place ?? -1;
    if (this.#anchor < 0) this.#anchorId = null;
    if (this.#currentId === null) return false;
    const place = found.get(this.#currentId)?.place;
    // What went leaves the keys where it stood.
    if (place === undefined) this.stand(Math.min(current, this.#pages.total - 1));
    else this.current = place;
    return place !== undefined && place !== current;
  }

  #setAnchor(index: number): void {
    this.#asked += 1;
    this.#anchor = index;
    this.#anchorId = this.#pages.at(index)?.id ?? null;
  }
}

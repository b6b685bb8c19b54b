// The regions of one file, or of the guest's disk, found step by step and kept, so that a window asks for any place again and again.
import type { Region } from '../../formats/driver.ts';

/** Regions kept with their annotations; of a file that has more, only those around the place looked at last are. */
const mostKept = 200_000;
/** Regions kept around a place beyond those. */
const aroundFar = 4096;

/** Where a walk got to: everything before `reached` is known. */
export class RegionIndex {
  readonly #open: () => Iterable<Region>;
  readonly #kept: Region[] = [];
  #walk: Iterator<Region> | null;
  /** What a second walk found beyond the kept ones, and where it stands. */
  #far: { walk: Iterator<Region>; readonly regions: Region[]; skip: number } | null = null;
  #complete = false;

  constructor(open: () => Iterable<Region>) {
    this.#open = open;
    this.#walk = open()[Symbol.iterator]();
  }

  /** Everything before this offset is known; beyond the kept ones a further walk is needed. */
  get reached(): number {
    const last = this.#kept.at(-1);
    return last === undefined ? 0 : last.start + last.length;
  }

  /**
   * The regions that touch `start` to `start + length`, at most `limit`; null: not found in the time allowed (`until`, by
   * `performance.now()`), ask again. Throws what finding regions throws.
   */
  touching(start: number, length: number, limit: number, until: number): Region[] | null {
    const end = start + length;
    while (!this.#complete && this.#walk !== null && this.reached < end) {
      if (!this.#step()) break;
      if (performance.now() > until && this.reached < end) return null;
    }
    if (this.#complete || this.reached >= end) return slice(this.#kept, start, end, limit);
    return this.#beyond(start, end, limit, until);
  }

  /** Takes one more region; false: there is none, or enough are kept. */
  #step(): boolean {
    if (this.#walk === null || this.#kept.length >= mostKept) return false;
    const next = this.#walk.next();
    if (next.done === true) {
      this.#complete = true;
      this.#walk = null;
      return false;
    }
    this.#kept.push(next.value);
    return true;
  }

  /** Walks to a place behind the kept regions, forgetting what lies well before it. */
  #beyond(start: number, end: number, limit: number, until: number): Region[] | null {
    const first = this.#far?.regions[0];
    if (this.#far === null || (first !== undefined && start < first.start)) {
      this.#far = { walk: this.#open()[Symbol.iterator](), regions: [], skip: this.#kept.length };
    }
    const far = this.#far;
    for (;;) {
      const last = far.regions.at(-1);
      if (last !== undefined && last.start + last.length >= end) break;
      const next = far.walk.next();
      if (next.done === true) break;
      if (far.skip > 0) {
        far.skip--;
      } else {
        far.regions.push(next.value);
        if (far.regions.length > 2 * aroundFar) far.regions.splice(0, aroundFar);
      }
      if (performance.now() > until) return null;
    }
    const before = this.reached > start ? slice(this.#kept, start, end, limit) : [];
    return [...before, ...slice(far.regions, start, end, limit - before.length)];
  }
}

/** The ones of `regions` (in order) that touch the range. */
function slice(regions: readonly Region[], start: number, end: number, limit: number): Region[] {
  let low = 0;
  let high = regions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const region = regions[middle];
    if (region !== undefined && region.start + region.length <= start) low = middle + 1;
    else high = middle;
  }
  const found: Region[] = [];
  for (let at = low; at < regions.length && found.length < limit; at++) {
    const region = regions[at];
    if (region === undefined || region.start >= end) break;
    found.push(region);
  }
  return found;
}

// The regions of one file, or of the guest's disk, found step by step and kept, so that the map and the hex view ask for any place.
import type { BlockNode } from '../../block/node.ts';
import { isImageError, type ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, Region } from '../../formats/driver.ts';
import { kindClasses, kindOfRegion } from './classes.ts';
import { RegionColumns } from './region-columns.ts';

/** Regions kept with their annotations; of a file that has more, only those around the place looked at last are. */
const mostKept = 100_000;
/** Regions kept around a place beyond those. */
const aroundFar = 4096;
const regionsPerLook = 64;
const unreadable = kindClasses.indexOf('unreadable');

/** Regions one after the other; null: a pause, after which the search for the next one goes on. */
export type RegionWalk = Iterable<Region | null>;

/** The walk over the regions of a file of an image. */
export function regionWalk(driver: FormatDriver, node: BlockNode, role: string): RegionWalk {
  return driver.regionSteps?.(node, role) ?? driver.regions(node, role);
}

/** A second walk, behind the kept regions. */
interface Far {
  readonly walk: Iterator<Region | null>;
  readonly regions: Region[];
  skip: number;
  /** What stands before this was forgotten. */
  from: number;
  done: boolean;
}

/** What is known of the regions from the start to `at`; what cannot be told is a last region that says why. */
export class RegionIndex {
  /** Starts, classes and labels of all regions so far. */
  readonly columns = new RegionColumns();
  readonly size: number;
  finished: boolean;
  fault: ImageError | null = null;
  readonly #open: () => RegionWalk;
  readonly #walk: Iterator<Region | null>;
  readonly #kept: Region[] = [];
  #far: Far | null = null;

  /** `size`: of what the regions cover. */
  constructor(open: () => RegionWalk, size: number) {
    this.#open = open;
    this.#walk = open()[Symbol.iterator]();
    this.size = size;
    this.finished = size === 0;
  }

  /** Everything before this offset is known. */
  get at(): number {
    return this.columns.at;
  }

  /** Goes on until `deadline` (of `performance.now`). */
  advance(deadline: number): void {
    for (let count = 1; !this.finished; count++) {
      const isPause = this.#step() === null;
      if ((isPause || count % regionsPerLook === 0) && performance.now() > deadline) return;
    }
  }

  /** The regions that are kept and touch the range, at most `limit`; those that are not known yet are missing. */
  known(start: number, end: number, limit: number): Region[] {
    return slice(this.#kept, start, end, limit);
  }

  /**
   * The first `limit` regions that touch `start` to `end`; null: not found in the time allowed (`until`, by `performance.now()`), ask
   * again.
   */
  touching(start: number, end: number, limit: number, until: number): Region[] | null {
    for (let count = 1; !this.finished && this.at < end && this.#kept.length < mostKept; count++) {
      const isPause = this.#step() === null;
      if (!isPause && count % regionsPerLook !== 0) continue;
      if (this.at > start && this.#kept.length - firstTouching(this.#kept, start) >= limit) break;
      if (performance.now() > until && this.at < end) return null;
    }
    const found = this.known(start, end, limit);
    const keptEnd = endOf(this.#kept);
    if (found.length >= limit || keptEnd >= end || keptEnd >= this.size) return found;
    if (this.finished && this.#kept.length < mostKept) return found;
    const beyond = this.#beyond(Math.max(start, keptEnd), end, limit - found.length, until);
    return beyond === null ? null : [...found, ...beyond];
  }

  /** Takes one step; null: it was a pause. What is no `ImageError` is thrown. */
  #step(): Region | null | undefined {
    let region: Region | null;
    try {
      const next = this.#walk.next();
      if (next.done === true) {
        this.finished = true;
        return undefined;
      }
      region = next.value;
    } catch (error) {
      if (!isImageError(error)) throw error;
      this.fault = error;
      this.finished = true;
      region = restOf(this.at, this.size, error);
      if (region.length <= 0) return undefined;
    }
    if (region === null) return null;
    const kind = this.fault === null ? kindClasses.indexOf(kindOfRegion(region)) : unreadable;
    this.columns.add(region.length, kind, region.label);
    if (this.#kept.length < mostKept) this.#kept.push(region);
    return region;
  }

  /** Walks to a place behind the kept regions, forgetting what lies well before it. */
  #beyond(start: number, end: number, limit: number, until: number): Region[] | null {
    if (this.#far === null || start < this.#far.from) {
      const walk = this.#open()[Symbol.iterator]();
      this.#far = { walk, regions: [], skip: this.#kept.length, from: endOf(this.#kept), done: false };
    }
    const far = this.#far;
    for (let count = 1; !far.done && endOf(far.regions) < end; count++) {
      const isPause = this.#stepFar(far, start);
      if (!isPause && count % regionsPerLook !== 0) continue;
      if (far.regions.length - firstTouching(far.regions, start) >= limit) break;
      if (performance.now() > until) return null;
    }
    return slice(far.regions, start, end, limit);
  }

  /** One step of the second walk; true: it was a pause. */
  #stepFar(far: Far, start: number): boolean {
    try {
      const next = far.walk.next();
      if (next.done === true) far.done = true;
      else if (next.value === null) return true;
      else if (far.skip > 0) far.skip--;
      else far.regions.push(next.value);
    } catch (error) {
      if (!isImageError(error)) throw error;
      far.done = true;
      const at = Math.max(far.from, endOf(far.regions));
      if (at < this.size) far.regions.push(restOf(at, this.size, error));
    }
    if (far.regions.length > 2 * aroundFar) {
      far.regions.splice(0, Math.min(aroundFar, firstTouching(far.regions, start)));
      far.from = far.regions[0]?.start ?? far.from;
    }
    return false;
  }
}

function restOf(at: number, size: number, { message }: ImageError): Region {
  return { start: at, length: size - at, label: `cannot be told: ${message}`, kind: 'lost', annotate: () => [] };
}

function endOf(regions: readonly Region[]): number {
  const last = regions.at(-1);
  return last === undefined ? 0 : last.start + last.length;
}

/** The index of the first of `regions` (in order) that ends after `start`. */
function firstTouching(regions: readonly Region[], start: number): number {
  let low = 0;
  let high = regions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const region = regions[middle];
    if (region !== undefined && region.start + region.length <= start) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The ones of `regions` (in order) that touch the range. */
function slice(regions: readonly Region[], start: number, end: number, limit: number): Region[] {
  const found: Region[] = [];
  for (let at = firstTouching(regions, start); at < regions.length && found.length < limit; at++) {
    const region = regions[at];
    if (region === undefined || region.start >= end) break;
    found.push(region);
  }
  return found;
}

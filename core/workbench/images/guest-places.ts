// What of the guest's disk lies at places of a file, or hangs on entries of tables there: many places at once, step by step.
import type { BlockNode } from '../../block/node.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import { isImageError } from '../../errors/image-error.ts';
import type { FormatDriver, TableEntry } from '../../formats/driver.ts';

/** Milliseconds that one question goes on. */
const walkTime = 150;
const stepsPerLook = 64;
/** Steps towards an entry of a table whose entries are not all of one kind. */
const mostSteps = 12;

/** A stretch of the disk that belongs to the place number `index` of those asked about. */
export interface GuestStretch {
  readonly index: number;
  readonly start: number;
  readonly length: number;
}

/** What was found from `from` on; `next`: ask again from there, null: that was all. */
export interface GuestPlaces {
  readonly found: readonly GuestStretch[];
  readonly next: number | null;
}

interface Place {
  readonly host: number;
  readonly index: number;
}

/**
 * The stretches of the disk of `node`, from `from` on, that are stored at one of the places `at` (bytes of its file `role`), or that an
 * entry of a table at such a place decides over. What comes from layers below is not meant; what cannot be read is passed over.
 */
export function guestPlaces(
  { node, driver }: { readonly node: BlockNode; readonly driver: FormatDriver },
  role: string,
  at: readonly number[],
  from: number,
): GuestPlaces {
  const places = at.map((host, index) => ({ host, index })).sort((a, b) => a.host - b.host);
  const until = performance.now() + walkTime;
  const file = node.files.find((one) => one.role === role)?.storage;
  const entries = new EntryPlaces(node, driver, role);
  const found: GuestStretch[] = [];
  let disk = from;
  // Where the next stretch begins that one entry of the outermost table decides over.
  let border = from === 0 ? 0 : entries.endOf(from - 1);
  for (let count = 1; disk < node.size && places.length > 0; count++) {
    if (disk >= border) {
      border = entries.endOf(disk);
      found.push(...entries.within(places, disk, border));
    }
    const run = runAt(node, disk, Math.min(border, node.size));
    if (file !== undefined && run.file === file && run.depth === 0) {
      for (const { host, index } of between(places, run.offset, run.offset + run.stored)) {
        const start = run.packed ? disk : disk + host - run.offset;
        const most = disk + run.length - start;
        found.push({ index, start, length: run.packed ? run.length : Math.min(unitOf(node), most) });
      }
    }
    disk += run.length;
    if (count % stepsPerLook === 0 && performance.now() > until) break;
  }
  return { found, next: disk < node.size && places.length > 0 ? disk : null };
}

const unitOf = (node: BlockNode): number => Math.max(512, node.granularity);

/** Those of `places` (in order) from `start` to `end`. */
function between(places: readonly Place[], start: number, end: number): readonly Place[] {
  const first = places.findIndex(({ host }) => host >= start);
  if (first < 0 || (places[first]?.host ?? end) >= end) return [];
  const last = places.findIndex(({ host }) => host >= end);
  return places.slice(first, last < 0 ? places.length : last);
}

interface StoredRun {
  /** Null: in none, or it cannot be read. */
  readonly file: unknown;
  readonly depth: number;
  /** In the file: where, and how many bytes. */
  readonly offset: number;
  readonly stored: number;
  /** Of the disk. */
  readonly length: number;
  readonly packed: boolean;
}

function runAt(node: BlockNode, start: number, end: number): StoredRun {
  const run = surveyOne(node, { start, length: end - start });
  const { length } = run;
  if (isUnread(run)) return { file: null, depth: 0, offset: 0, stored: 0, length, packed: false };
  const { depth, mapping } = run;
  const stored = mapping.kind === 'zero' ? mapping.reserved : mapping;
  const packed = mapping.kind === 'packed';
  return {
    file: stored?.storage ?? null,
    depth,
    offset: stored?.offset ?? 0,
    stored: packed ? mapping.storedLength : length,
    length,
    packed,
  };
}

/** What of the disk hangs on entries of tables, by what the format says of where its entries stand. */
class EntryPlaces {
  readonly #node: BlockNode;
  readonly #driver: FormatDriver;
  readonly #role: string;
  readonly #unit: number;
  /** Tables of tables: an outer entry decides over many inner ones. */
  readonly #isNested: boolean;
  /** Bytes of the disk that the entry before this one decided over: the next one probably does too. */
  readonly #reach: [outer: number, inner: number];

  constructor(node: BlockNode, driver: FormatDriver, role: string) {
    this.#node = node;
    this.#driver = driver;
    this.#role = role;
    this.#unit = unitOf(node);
    this.#isNested = driver.entries?.names.some((name) => /\]\[/.test(name)) === true;
    this.#reach = [this.#unit, this.#unit];
  }

  /** The end of the stretch around `guest` that is looked at as one: of an outer entry, or all of it where there is one table. */
  endOf(guest: number): number {
    return this.#isNested ? this.#endOf(guest, 0) : this.#node.size;
  }

  /** What hangs on those of `places` that are entries for the stretch from `guest` to `end`. */
  within(places: readonly Place[], guest: number, end: number): GuestStretch[] {
    const [outer, inner] = this.#entries(guest);
    if (outer === undefined) return [];
    const found: GuestStretch[] = [];
    if (this.#isNested && outer.role === this.#role) {
      for (const { index } of between(places, outer.offset, outer.offset + outer.length)) {
        found.push({ index, start: guest, length: end - guest });
      }
    }
    const first = this.#isNested ? inner : outer;
    const last = this.#entries(end - 1).at(-1);
    if (first === undefined || last === undefined || first.role !== this.#role) return found;
    for (const { host, index } of between(places, first.offset, last.offset + last.length)) {
      const place = this.#stretchOf(host, guest, end);
      if (place !== null) found.push({ index, ...place });
    }
    return found;
  }

  #entries(guest: number): readonly TableEntry[] {
    try {
      return this.#driver.entriesOf?.(this.#node, { guest }) ?? [];
    } catch (error) {
      if (isImageError(error)) return [];
      throw error;
    }
  }

  /** The entry of the level (0: the outermost) that decides over a byte, as far as it tells itself from its neighbours. */
  #nameAt(guest: number, level: 0 | 1): string {
    const found = this.#entries(guest);
    const entry = level === 0 ? found[0] : found.at(-1);
    return entry === undefined ? '' : `${entry.role} ${entry.offset}`;
  }

  /** The end of what the same entry of the level decides over, from `guest` on. */
  #endOf(guest: number, level: 0 | 1): number {
    const unit = this.#unit;
    const { size } = this.#node;
    const name = this.#nameAt(guest, level);
    const guess = guest + this.#reach[level];
    if (guess < size && this.#nameAt(guess, level) !== name && this.#nameAt(guess - 1, level) === name) return guess;
    const start = guest - (guest % unit);
    let low = start;
    let step = unit;
    while (low + step < size && this.#nameAt(low + step, level) === name) {
      low += step;
      step *= 2;
    }
    let high = Math.min(low + step, Math.ceil(size / unit) * unit);
    while (high - low > unit) {
      const middle = low + Math.floor((high - low) / 2 / unit) * unit;
      if (middle < size && this.#nameAt(middle, level) === name) low = middle;
      else high = middle;
    }
    const end = Math.min(high, size);
    if (guest % unit === 0 && end < size) this.#reach[level] = end - guest;
    return end;
  }

  /** The stretch that the entry at `host` decides over, in the table of the entries from `guest` to `end`; null: it is none of those. */
  #stretchOf(host: number, guest: number, end: number): { start: number; length: number } | null {
    const reach = this.#endOf(guest, 1) - guest;
    let at = guest;
    for (let step = 0; step < mostSteps && reach > 0; step++) {
      const entry = this.#entries(at).at(-1);
      if (entry === undefined || entry.role !== this.#role || entry.length <= 0) return null;
      if (host >= entry.offset && host < entry.offset + entry.length) {
        return { start: at, length: Math.min(reach, end - at) };
      }
      const next = at + Math.floor((host - entry.offset) / entry.length) * reach;
      if (next < guest || next >= end || next === at) return null;
      at = next;
    }
    return null;
  }
}

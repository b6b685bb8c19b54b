// Which parts of a sparse file its grains take: for the check, and for the regions of the file.
import type { HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { sectorSize } from './spec.ts';

/** Units and stretches that are remembered at most: 128 MiB and 64 MiB of memory. */
const unitLimit = 2 ** 30;
const looseLimit = 2 ** 22;

/** A stretch of the file, in bytes. */
export interface Stretch {
  readonly start: HostOffset;
  readonly end: HostOffset;
}

interface Sectors {
  readonly start: number;
  readonly end: number;
}

/**
 * What is taken of a file, in units of `unit` sectors that start at `phase`: a bit each. Stretches that do not fit that grid are kept
 * in a list.
 */
export class GrainUse {
  readonly #unit: number;
  readonly #phase: number;
  readonly #bits: Uint8Array;
  readonly #loose: Sectors[] = [];
  #sorted = true;

  /** Throws `vmdk/too-many-grains` for a file with too many units. `size`: bytes. */
  constructor(file: { readonly name: string; readonly size: number }, unit: number, phase: number) {
    this.#unit = unit;
    this.#phase = phase % unit;
    const units = Math.ceil(file.size / (unit * sectorSize)) + 2;
    if (units > unitLimit) throw new ImageError('vmdk/too-many-grains', { allowed: unitLimit }, { file: file.name });
    this.#bits = new Uint8Array(Math.ceil(units / 8));
  }

  /** Takes `count` sectors from `sector` on; false: (a part of) them is taken already, as far as the grid shows it. */
  take(sector: number, count: number): boolean {
    const first = (sector - this.#phase) / this.#unit;
    const units = count / this.#unit;
    if (!Number.isInteger(first) || !Number.isInteger(units)) {
      if (this.#loose.length >= looseLimit) throw new ImageError('vmdk/too-many-grains', { allowed: looseLimit });
      this.#loose.push({ start: sector, end: sector + count });
      this.#sorted = false;
      return true;
    }
    let free = true;
    for (let unit = first; unit < first + units; unit++) {
      if (this.#isTaken(unit)) free = false;
      this.#bits[unit >>> 3] = (this.#bits[unit >>> 3] ?? 0) | (1 << (unit & 7));
    }
    return free;
  }

  /** Stretches off the grid that share sectors with others: asked when all are in. Their first sectors. */
  overlapping(): number[] {
    const found: number[] = [];
    let end = -1;
    for (const stretch of this.#looseSorted()) {
      if (stretch.start < end || this.#gridMeets(stretch)) found.push(stretch.start);
      end = Math.max(end, stretch.end);
    }
    return found;
  }

  /** Is anything in these bytes taken? */
  meets({ start, end }: Stretch): boolean {
    const sectors = { start: Math.floor(start / sectorSize), end: Math.ceil(end / sectorSize) };
    if (this.#gridMeets(sectors)) return true;
    return (
      this.#loose.length > 0 && this.#loose.some((other) => sectors.start < other.end && other.start < sectors.end)
    );
  }

  #gridMeets({ start, end }: Sectors): boolean {
    const first = Math.max(0, Math.floor((start - this.#phase) / this.#unit));
    const last = Math.ceil((end - this.#phase) / this.#unit);
    for (let unit = first; unit < last; unit++) if (this.#isTaken(unit)) return true;
    return false;
  }

  #looseSorted(): readonly Sectors[] {
    if (!this.#sorted) this.#loose.sort((a, b) => a.start - b.start);
    this.#sorted = true;
    return this.#loose;
  }

  #isTaken(unit: number): boolean {
    return ((this.#bits[unit >>> 3] ?? 0) & (1 << (unit & 7))) !== 0;
  }

  /** What is taken, in the order of the file, neighbours joined. */
  *stretches(): Generator<Stretch, void, void> {
    let open: Sectors | null = null;
    for (const next of this.#inOrder()) {
      if (open === null) open = next;
      else if (next.start <= open.end) open = { start: open.start, end: Math.max(open.end, next.end) };
      else {
        yield inBytes(open);
        open = next;
      }
    }
    if (open !== null) yield inBytes(open);
  }

  *#inOrder(): Generator<Sectors, void, void> {
    const loose = this.#looseSorted();
    let at = 0;
    for (const stretch of this.#onGrid()) {
      for (let next = loose[at]; next !== undefined && next.start < stretch.start; next = loose[++at]) yield next;
      yield stretch;
    }
    for (let next = loose[at]; next !== undefined; next = loose[++at]) yield next;
  }

  *#onGrid(): Generator<Sectors, void, void> {
    const units = this.#bits.length * 8;
    let unit = 0;
    while (unit < units) {
      if ((unit & 7) === 0 && this.#bits[unit >>> 3] === 0) {
        unit += 8;
        continue;
      }
      if (!this.#isTaken(unit)) {
        unit++;
        continue;
      }
      const first = unit;
      while (unit < units && this.#isTaken(unit)) unit++;
      yield { start: this.#phase + first * this.#unit, end: this.#phase + unit * this.#unit };
    }
  }
}

function inBytes({ start, end }: Sectors): Stretch {
  return { start: start * sectorSize, end: end * sectorSize };
}

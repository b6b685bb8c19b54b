// A map of a file by a walk that is told stretch by stretch: over all of it at a bounded number of cells, and over details.
import { isImageError, type ImageError } from '../../errors/image-error.ts';
import { Grid } from './grid.ts';
import { detailsKept, levelFor, scanTime, wholeCells, type Tile, type TileRequest } from './tile.ts';

/** Steps between two looks at the clock. */
const stepsPerLook = 64;

/** Where a walk puts what it finds: `length` bytes of the file from `start`, which may reach beyond what is looked at. */
export type Put = (kind: number, start: number, length: number) => void;

/** A walk that puts what it finds in a stretch of a file; yields how far it has come, from 0 to 1. Throws the format's codes. */
export type StretchWalk = (
  range: { readonly start: number; readonly end: number },
  put: Put,
) => Generator<number, void, void>;

/** One walk under way. */
class Scan {
  readonly grid: Grid;
  finished = false;
  part = 0;
  fault: ImageError | null = null;
  readonly #walk: Generator<number, void, void>;

  constructor(walk: StretchWalk, range: { start: number; end: number; cellBytes: number }, classes: number) {
    const { start, end, cellBytes } = range;
    const grid = new Grid(start, cellBytes, Math.ceil((end - start) / cellBytes), classes);
    this.grid = grid;
    this.#walk = walk(range, (kind, at, length) => {
      const from = Math.max(start, at);
      const to = Math.min(end, at + length);
      if (to > from) grid.add(kind, from, to - from);
    });
  }

  /** Goes on until `deadline` (of `performance.now`). What cannot be read ends it. */
  advance(deadline: number): void {
    try {
      for (let count = 1; !this.finished; count++) {
        if (count % stepsPerLook === 0 && performance.now() > deadline) return;
        const step = this.#walk.next();
        if (step.done === true) this.finished = true;
        else this.part = step.value;
      }
    } catch (error) {
      if (!isImageError(error)) throw error;
      this.fault = error;
      this.finished = true;
    }
  }
}

/** A file seen as cells of `unit << level` bytes. What no walk puts anywhere is of the class `rest`. */
export class StretchMap {
  readonly #size: number;
  readonly #unit: number;
  readonly #classes: readonly string[];
  readonly #rest: number | null;
  readonly #walk: StretchWalk;
  readonly #wholeLevel: number;
  #whole: Scan | null = null;
  /** Walks over details, the one used last at the end. */
  readonly #details = new Map<string, Scan>();

  constructor(
    file: { readonly size: number; readonly unit: number },
    classes: readonly string[],
    rest: string | null,
    walk: StretchWalk,
  ) {
    this.#size = file.size;
    this.#unit = file.unit;
    this.#classes = classes;
    this.#rest = rest === null ? null : classes.indexOf(rest);
    this.#walk = walk;
    this.#wholeLevel = levelFor(file.size, file.unit, wholeCells);
  }

  /** Cells of the map. Takes a bounded time: what is not known then is missing, and `refined` false. */
  tile({ level, first, cells }: TileRequest): Tile {
    const cellBytes = this.#unit * 2 ** level;
    const start = first * cellBytes;
    const end = Math.min(this.#size, start + cells * cellBytes);
    const whole = (this.#whole ??= this.#scan({
      start: 0,
      end: this.#size,
      cellBytes: this.#unit * 2 ** this.#wholeLevel,
    }));
    const isWhole = level >= this.#wholeLevel;
    const scan =
      isWhole || end <= start ? whole : this.#detail(`${level} ${first} ${cells}`, { start, end, cellBytes });
    scan.advance(performance.now() + scanTime);
    const shares = new Uint8Array(this.#classes.length * cells);
    if (end > start) {
      const factor = isWhole ? 2 ** (level - this.#wholeLevel) : 1;
      scan.grid.shares(shares, isWhole ? first : 0, factor, cells, end);
      if (this.#rest !== null && scan.finished && scan.fault === null)
        this.#addRest(shares, this.#rest, cells, end - start, cellBytes);
    }
    return {
      classes: this.#classes,
      shares,
      refined: scan.finished,
      surveyed: whole.finished ? this.#size : Math.floor(whole.part * this.#size),
      totals: this.#totals(whole),
      fault: scan.fault ?? whole.fault,
    };
  }

  #detail(key: string, range: { start: number; end: number; cellBytes: number }): Scan {
    const scan = this.#details.get(key) ?? this.#scan(range);
    this.#details.delete(key);
    this.#details.set(key, scan);
    for (const [oldest] of this.#details) {
      if (this.#details.size <= detailsKept) break;
      this.#details.delete(oldest);
    }
    return scan;
  }

  #scan(range: { start: number; end: number; cellBytes: number }): Scan {
    return new Scan(this.#walk, range, this.#classes.length);
  }

  /** What of each cell no walk has put anywhere. */
  #addRest(shares: Uint8Array, rest: number, cells: number, length: number, cellBytes: number): void {
    for (let cell = 0; cell < cells && cell * cellBytes < length; cell++) {
      let known = 0;
      for (let kind = 0; kind < this.#classes.length; kind++) known += shares[kind * cells + cell] ?? 0;
      if (known < 255) shares[rest * cells + cell] = 255 - known;
    }
  }

  #totals(whole: Scan): number[] {
    const { totals } = whole.grid;
    if (this.#rest === null || !whole.finished || whole.fault !== null) return totals;
    const rest = this.#size - totals.reduce((sum, bytes) => sum + bytes, 0);
    return totals.map((bytes, kind) => (kind === this.#rest ? Math.max(0, rest) : bytes));
  }
}

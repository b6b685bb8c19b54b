// The map of the guest's disk: a walk over all of it at a bounded number of cells, walks over details, samples while they last.
import type { ImageError } from '../../errors/image-error.ts';
import { classesOf, snapshotSharedClasses, type GuestLayer } from './classes.ts';
import { GuestScan, type GuestDisk } from './guest-scan.ts';
import { Samples } from './samples.ts';
import { detailsKept, levelFor, scanTime, sampleTime, wholeCells, type Tile, type TileRequest } from './tile.ts';

/** The guest's disk seen as cells of `unit << level` bytes. */
export class GuestMap {
  /** Bytes of the smallest cell. */
  readonly unit: number;
  readonly #disk: GuestDisk;
  readonly #wholeLevel: number;
  readonly #whole: GuestScan;
  readonly #samples: Samples;
  /** Walks over details, the one used last at the end. */
  readonly #details = new Map<string, GuestScan>();

  constructor(disk: GuestDisk) {
    const { node, unit } = disk;
    this.unit = unit;
    this.#disk = disk;
    this.#wholeLevel = levelFor(node.size, unit, wholeCells);
    const cellBytes = unit * 2 ** this.#wholeLevel;
    this.#whole = new GuestScan(disk, { start: 0, end: node.size, cellBytes });
    this.#samples = new Samples(disk);
  }

  /** Cells of a layer. Takes a bounded time: what is not known then is estimated, and `refined` false. */
  tile(layer: GuestLayer, { level, first, cells }: TileRequest): Tile {
    const { depth, isSnapshot } = this.#disk;
    const classes = layer === 'shared' && isSnapshot ? snapshotSharedClasses : classesOf(layer, depth);
    const shares = new Uint8Array(classes.length * cells);
    const { fault, finished } =
      level >= this.#wholeLevel
        ? this.#fromWhole(layer, level, first, cells, shares)
        : this.#fromDetail(layer, level, first, cells, shares);
    const whole = this.#whole;
    return {
      classes,
      shares,
      refined: finished,
      surveyed: whole.at,
      totals: whole.grid(layer).totals,
      fault,
    };
  }

  #fromWhole(
    layer: GuestLayer,
    level: number,
    first: number,
    cells: number,
    shares: Uint8Array,
  ): { finished: boolean; fault: ImageError | null } {
    const whole = this.#whole;
    if (!whole.finished) {
      whole.advance(performance.now() + scanTime);
      if (!whole.finished) this.#samples.advance(whole.at, performance.now() + sampleTime);
    }
    const { size } = this.#disk.node;
    whole.grid(layer).shares(shares, first, 2 ** (level - this.#wholeLevel), cells, size);
    if (!whole.finished) {
      const cellBytes = this.unit * 2 ** level;
      for (let cell = 0; cell < cells; cell++) {
        const at = (first + cell) * cellBytes;
        if (at + cellBytes <= whole.at || at >= size) continue;
        const kind = this.#samples.classAt(layer, at);
        if (kind !== null) shares[kind * cells + cell] = 255;
      }
    }
    return { finished: whole.finished, fault: whole.fault };
  }

  #fromDetail(
    layer: GuestLayer,
    level: number,
    first: number,
    cells: number,
    shares: Uint8Array,
  ): { finished: boolean; fault: ImageError | null } {
    const { size } = this.#disk.node;
    const cellBytes = this.unit * 2 ** level;
    const start = first * cellBytes;
    const end = Math.min(size, start + cells * cellBytes);
    if (end <= start) return { finished: true, fault: null };
    const key = `${level} ${first} ${cells}`;
    const scan = this.#details.get(key) ?? new GuestScan(this.#disk, { start, end, cellBytes });
    this.#details.delete(key);
    this.#details.set(key, scan);
    for (const [oldest] of this.#details) {
      if (this.#details.size <= detailsKept) break;
      this.#details.delete(oldest);
    }
    scan.advance(performance.now() + scanTime);
    scan.grid(layer).shares(shares, 0, 1, cells, end);
    return { finished: scan.finished, fault: scan.fault };
  }
}

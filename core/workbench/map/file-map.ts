// The map of a file of an image: the regions that the format tells, at the resolution that is asked for.
import type { Region } from '../../formats/driver.ts';
import { kindClasses } from './classes.ts';
import { Grid } from './grid.ts';
import { RegionIndex } from './region-index.ts';
import { scanTime, type Tile, type TileRequest } from './tile.ts';

/** A file seen as cells of `unit << level` bytes. */
export class FileMap {
  /** Bytes of the smallest cell. */
  readonly unit: number;
  readonly index: RegionIndex;

  constructor(regions: Iterable<Region>, size: number, unit: number) {
    this.unit = unit;
    this.index = new RegionIndex(regions, size);
  }

  /** Cells by what they are for. Takes a bounded time once the format has begun to tell; what is not known then is missing. */
  tile({ level, first, cells }: TileRequest): Tile {
    const { index } = this;
    index.advance(performance.now() + scanTime);
    const cellBytes = this.unit * 2 ** level;
    const start = first * cellBytes;
    const end = Math.min(index.at, start + cells * cellBytes);
    const shares = new Uint8Array(kindClasses.length * cells);
    if (end > start) {
      const grid = new Grid(start, cellBytes, cells, kindClasses.length);
      for (let region = index.find(start); region < index.count && index.startOf(region) < end; region++) {
        const from = Math.max(start, index.startOf(region));
        const to = Math.min(end, index.endOf(region));
        if (to > from) grid.add(index.kindOf(region), from, to - from);
      }
      grid.shares(shares, 0, 1, cells, Math.min(index.size, start + cells * cellBytes));
    }
    return {
      classes: kindClasses,
      shares,
      refined: index.finished,
      surveyed: index.at,
      totals: index.totals,
      fault: index.fault,
    };
  }
}

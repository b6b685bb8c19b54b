// The map of a file of an image: the regions that the format tells, at the resolution that is asked for.
import { kindClasses } from './classes.ts';
import { Grid } from './grid.ts';
import type { RegionIndex } from './region-index.ts';
import { scanTime, type Tile, type TileRequest } from './tile.ts';

/** A file seen as cells of `unit << level` bytes. */
export class FileMap {
  /** Bytes of the smallest cell. */
  readonly unit: number;
  readonly index: RegionIndex;

  constructor(index: RegionIndex, unit: number) {
    this.unit = unit;
    this.index = index;
  }

  /** Cells by what they are for. Takes a bounded time once the format has begun to tell; what is not known then is missing. */
  tile({ level, first, cells }: TileRequest): Tile {
    const { index } = this;
    const { columns } = index;
    index.advance(performance.now() + scanTime);
    const cellBytes = this.unit * 2 ** level;
    const start = first * cellBytes;
    const end = Math.min(index.at, start + cells * cellBytes);
    const shares = new Uint8Array(kindClasses.length * cells);
    if (end > start) {
      const grid = new Grid(start, cellBytes, cells, kindClasses.length);
      for (let region = columns.find(start); region < columns.count && columns.startOf(region) < end; region++) {
        const from = Math.max(start, columns.startOf(region));
        const to = Math.min(end, columns.endOf(region));
        if (to > from) grid.add(columns.kindOf(region), from, to - from);
      }
      grid.shares(shares, 0, 1, cells, Math.min(index.size, start + cells * cellBytes));
    }
    return {
      classes: kindClasses,
      shares,
      refined: index.finished,
      surveyed: index.at,
      totals: columns.totals,
      fault: index.fault,
    };
  }
}

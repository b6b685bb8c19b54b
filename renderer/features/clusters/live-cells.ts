// Cells of a disk that is being written: one answer of the program has them all, and what is seen is made of them here.
import type { MapTile } from '../../../core/workbench/contract.ts';

/** The finest cells, class by class. */
export interface LiveCells {
  readonly tile: MapTile;
  readonly shares: Uint8Array;
}

/** Gives cells of any degree out of the finest ones: `cells` cells of `level` from number `first` on. */
export function askLive({ tile, shares }: LiveCells) {
  return ({
    level,
    first,
    cells,
  }: {
    readonly level: number;
    readonly first: number;
    readonly cells: number;
  }): Promise<MapTile> =>
    Promise.resolve({ ...tile, shares: new Blob([coarser(shares, tile.classes.length, level, first, cells)]) });
}

/** `cells` cells from number `first` on, each of 2^`level` of the finest; of each class the mean, and at least 1 where there is any. */
export function coarser(
  shares: Uint8Array,
  classes: number,
  level: number,
  first: number,
  cells: number,
): Uint8Array<ArrayBuffer> {
  const all = shares.length / classes;
  const factor = 2 ** level;
  const made = new Uint8Array(classes * cells);
  for (let row = 0; row < classes; row++) {
    for (let cell = 0; cell < cells; cell++) {
      const from = (first + cell) * factor;
      const to = Math.min(all, from + factor);
      if (from >= to) break;
      let sum = 0;
      for (let at = from; at < to; at++) sum += shares[row * all + at] ?? 0;
      if (sum > 0) made[row * cells + cell] = Math.max(1, Math.round(sum / (to - from)));
    }
  }
  return made;
}

// Cells of the cluster map as they are asked for and answered.
import type { ImageError } from '../../errors/image-error.ts';

/** Milliseconds that one question walks on, and that it looks at samples, before it answers with what there is. */
export const scanTime = 200;
export const sampleTime = 150;
/** Cells of the walk over all of a view at most: what memory it takes does not grow with the disk. */
export const wholeCells = 2 ** 17;
/** Walks over details that are kept. */
export const detailsKept = 24;

/** Cells of `unit << level` bytes from number `first` on. */
export interface TileRequest {
  readonly level: number;
  readonly first: number;
  readonly cells: number;
}

/** The answer: for each class, a byte per cell. */
export interface Tile {
  readonly classes: readonly string[];
  /** Class by class, cell by cell: how much of the cell is of the class, 0 to 255; more than 0 wherever there is any. */
  readonly shares: Uint8Array<ArrayBuffer>;
  /** False: ask again, some of it is estimated or missing. */
  readonly refined: boolean;
  /** Bytes from the start of the view that `totals` count: when all of it, they are exact. */
  readonly surveyed: number;
  /** Bytes per class. */
  readonly totals: readonly number[];
  /** The first thing that could not be read; null: nothing so far. */
  readonly fault: ImageError | null;
}

/** The smallest level at which `size` bytes are at most `cells` cells. */
export function levelFor(size: number, unit: number, cells: number): number {
  let level = 0;
  while (Math.ceil(size / (unit * 2 ** level)) > cells) level++;
  return level;
}

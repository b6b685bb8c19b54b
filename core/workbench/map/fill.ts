// How far a new image is filled: bytes per cell of its disk by what became of them, counted in one thread and read in another.
import { fillKinds, type Fill } from '../../job.ts';

/** Cells at most: more than a screen has room for, and as many as one tile hands over. */
const mostCells = 16_384;
/** What is counted; a cell of 32 bits can count 2 TiB of them. */
const sector = 512;
const plainUnit = 4096;

/** Counts in memory that threads share: for each kind a number per cell. */
export interface FillMap {
  /** Bytes of the disk, and of a cell. */
  readonly size: number;
  readonly unit: number;
  readonly sectors: Uint32Array<SharedArrayBuffer>;
}

/** What a cell may hold; the last one is what is not written yet. */
export const fillClasses = [...fillKinds, 'pending'] as const;

export interface FillTile {
  readonly classes: readonly string[];
  /** Class by class, cell by cell, 0 to 255; at least 1 where there is any. */
  readonly shares: Uint8Array<ArrayBuffer>;
  /** Bytes per class. */
  readonly totals: readonly number[];
}

/** Nothing is written of a disk of `size` bytes. Cells are `granularity` or the smallest double of it that gives few enough. */
export function newFill(size: number, granularity: number): FillMap {
  let unit = granularity < sector ? plainUnit : granularity;
  while (Math.ceil(size / unit) > mostCells) unit *= 2;
  const cells = Math.max(1, Math.ceil(size / unit));
  return { size, unit, sectors: new Uint32Array(new SharedArrayBuffer(cells * fillKinds.length * 4)) };
}

/** Counts what it is told of. Only one thread may. */
export function fillRecorder({ size, unit, sectors }: FillMap): Fill {
  const cells = sectors.length / fillKinds.length;
  return (kind, start, length) => {
    const row = fillKinds.indexOf(kind) * cells;
    const end = Math.min(size, start + length);
    for (let at = start; at < end;) {
      const cell = Math.floor(at / unit);
      const next = Math.min(end, (cell + 1) * unit);
      sectors[row + cell] = (sectors[row + cell] ?? 0) + Math.ceil((next - at) / sector);
      at = next;
    }
  };
}

/** All cells as they are now. Work and answer are bounded by their number, whatever the disk is. */
export function fillTile({ size, unit, sectors }: FillMap): FillTile {
  const cells = sectors.length / fillKinds.length;
  const pending = fillKinds.length;
  const shares = new Uint8Array(fillClasses.length * cells);
  const totals = fillClasses.map(() => 0);
  for (let cell = 0; cell < cells; cell++) {
    const whole = Math.min(unit, size - cell * unit);
    let left = whole;
    for (let row = 0; row < pending; row++) {
      const bytes = Math.min(left, (sectors[row * cells + cell] ?? 0) * sector);
      left -= bytes;
      totals[row] = (totals[row] ?? 0) + bytes;
      shares[row * cells + cell] = shareOf(bytes, whole);
    }
    totals[pending] = (totals[pending] ?? 0) + left;
    shares[pending * cells + cell] = shareOf(left, whole);
  }
  return { classes: fillClasses, shares, totals };
}

function shareOf(bytes: number, whole: number): number {
  return bytes <= 0 ? 0 : Math.max(1, Math.min(255, Math.round((255 * bytes) / whole)));
}

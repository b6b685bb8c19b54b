// Cells on a canvas: how large, how many in a row, which one lies where. Lengths in device pixels, offsets in bytes.

/** A degree of zoom: cells of `unit << level` bytes, drawn as squares of `size` pixels (gap included). */
export interface Step {
  readonly level: number;
  readonly size: number;
}

/** Sizes of squares, in CSS pixels: of runs of units, and of single units, which may grow large. */
const runSizes = [8, 10];
const unitSizes = [8, 10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 56];

/** Cells of `level` that `size` bytes are. */
export function cellsOf(size: number, unit: number, level: number): number {
  return Math.ceil(size / (unit * 2 ** level));
}

/** The degrees from the one that shows all of it to the one that shows single units largest. */
export function stepsFor(size: number, unit: number, width: number, height: number, scale: number): Step[] {
  const all: Step[] = [];
  const highest = Math.max(0, Math.ceil(Math.log2(Math.max(1, size / unit))));
  for (let level = highest; level >= 0; level--) {
    for (const pixels of level === 0 ? unitSizes : runSizes) all.push({ level, size: Math.round(pixels * scale) });
  }
  const fitting = all.findLastIndex(
    ({ level, size: square }) => Math.floor(width / square) * Math.floor(height / square) >= cellsOf(size, unit, level),
  );
  return all.slice(Math.max(0, fitting));
}

/** What a canvas shows: from cell `first` on, row by row. */
export interface Viewport {
  readonly step: Step;
  readonly columns: number;
  readonly rows: number;
  readonly cells: number;
  readonly first: number;
  readonly cellBytes: number;
}

/** The viewport at a degree that begins at cell `first` as nearly as possible without leaving the disk. */
export function viewportAt(
  step: Step,
  first: number,
  view: { readonly size: number; readonly unit: number; readonly width: number; readonly height: number },
): Viewport {
  const columns = Math.max(1, Math.floor(view.width / step.size));
  const rows = Math.max(1, Math.floor(view.height / step.size));
  const cells = cellsOf(view.size, view.unit, step.level);
  // The last row may be begun only: nothing is out of reach.
  const most = Math.max(0, cells - columns * rows);
  const last = most === 0 ? 0 : most + ((columns - (most % columns)) % columns);
  return {
    step,
    columns,
    rows,
    cells,
    first: Math.max(0, Math.min(last, Math.round(first))),
    cellBytes: view.unit * 2 ** step.level,
  };
}

/** What a map on the screen can be told and asked from outside. */
export interface MapHandle {
  zoom(by: number): void;
  showAll(): void;
  goTo(at: number, level?: number | null): void;
  picture(): { canvas: HTMLCanvasElement | null; viewport: Viewport | null; classes: readonly string[] };
  shownShares(): readonly (readonly (readonly number[])[] | null)[];
}

/** The cell under a pixel; null: none. */
export function cellAt({ step, columns, rows, cells, first }: Viewport, x: number, y: number): number | null {
  const column = Math.floor(x / step.size);
  const row = Math.floor(y / step.size);
  if (column < 0 || column >= columns || row < 0 || row >= rows) return null;
  const cell = first + row * columns + column;
  return cell < cells ? cell : null;
}

/** The first cell of another degree such that the byte at the middle of `cell` stays under the pixel. */
export function firstAround(from: Viewport, to: Step, unit: number, width: number, x: number, y: number): number {
  const inRow = Math.floor(x / from.step.size);
  const cell = from.first + Math.floor(y / from.step.size) * from.columns + Math.min(inRow, from.columns - 1);
  const byte = (Math.min(cell, from.cells - 1) + 0.5) * from.cellBytes;
  const columns = Math.max(1, Math.floor(width / to.size));
  const target = Math.floor(byte / (unit * 2 ** to.level));
  return target - (Math.floor(y / to.size) * columns + Math.min(Math.floor(x / to.size), columns - 1));
}

// Cells into pixels: each a square filled from below by what it holds, in the colours and patterns of its classes.
import type { Pattern } from './classes.ts';
import type { Ink } from './colours.ts';
import type { Viewport } from './geometry.ts';

/** What a class is painted with. */
export interface Brush {
  readonly ink: Ink;
  readonly pattern: Pattern;
  readonly empty: boolean;
  /** Filtered out: shown as ground. */
  readonly hidden: boolean;
}

/** The shares of a cell: `shares[kind * stride + cell]`; null: not known yet. */
export interface CellSource {
  readonly shares: Uint8Array;
  readonly stride: number;
  readonly cell: number;
}

export interface Canvas {
  readonly pixels: Uint32Array;
  readonly width: number;
  readonly height: number;
}

/** Squares from this size on show patterns. */
export const patternedFrom = 11;

function patterned(pattern: Pattern, x: number, y: number, size: number): boolean {
  switch (pattern) {
    case 'plain':
      return false;
    case 'rising':
      return (x + y) % 5 === 0;
    case 'falling':
      return (x - y + 4096) % 5 === 0;
    case 'dots':
      return x % 4 === 1 && y % 4 === 1;
    case 'lines':
      return y % 4 === 2;
    case 'hollow':
      return x === 0 || y === 0 || x === size - 1 || y === size - 1;
    case 'cross':
      return x === y || x === size - 1 - y;
  }
}

/** Paints all cells of a viewport over `ground`. `scale`: device pixels per CSS pixel. */
export function paintCells(
  canvas: Canvas,
  viewport: Viewport,
  brushes: readonly Brush[],
  colours: { readonly ground: Ink; readonly unknown: Ink; readonly dim: Ink },
  sourceOf: (cell: number) => CellSource | null,
  scale: number,
): void {
  const { pixels, width } = canvas;
  pixels.fill(colours.ground.pixel);
  const { step, columns, rows, first, cells } = viewport;
  const square = step.size - Math.max(1, Math.round(scale));
  const withPatterns = step.size >= patternedFrom * scale;
  const heights = new Int32Array(brushes.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const cell = first + row * columns + column;
      if (cell >= cells) return;
      const left = column * step.size;
      const top = row * step.size;
      const source = sourceOf(cell);
      if (source === null) {
        fill(pixels, width, left, top, square, square, colours.unknown.pixel);
        continue;
      }
      share(source, brushes, square, heights);
      let bottom = top + square;
      for (let kind = 0; kind < brushes.length; kind++) {
        const height = heights[kind] ?? 0;
        const brush = brushes[kind];
        if (height === 0 || brush === undefined) continue;
        bottom -= height;
        const ink = brush.hidden ? colours.dim : brush.ink;
        fill(pixels, width, left, bottom, square, height, ink.pixel);
        if (withPatterns && !brush.hidden && brush.pattern !== 'plain') {
          shade(pixels, width, { left, top, from: bottom, height, square }, brush.pattern, ink.shade, scale);
        }
      }
    }
  }
}

/** How many rows of pixels each class has of a square: all that is there has one at least, the largest has the rest. */
function share(
  { shares, stride, cell }: CellSource,
  brushes: readonly Brush[],
  square: number,
  heights: Int32Array,
): void {
  let most = -1;
  let largest = 0;
  let left = square;
  for (let kind = 0; kind < brushes.length; kind++) {
    const part = shares[kind * stride + cell] ?? 0;
    if (part === 255) {
      heights.fill(0);
      heights[kind] = square;
      return;
    }
    const height = part === 0 ? 0 : Math.max(1, Math.round((part * square) / 255));
    heights[kind] = height;
    left -= height;
    if (part > largest) {
      largest = part;
      most = kind;
    }
  }
  if (most >= 0) heights[most] = Math.max(0, (heights[most] ?? 0) + left);
}

function fill(
  pixels: Uint32Array,
  width: number,
  left: number,
  top: number,
  w: number,
  h: number,
  pixel: number,
): void {
  for (let y = top; y < top + h; y++) pixels.fill(pixel, y * width + left, y * width + left + w);
}

function shade(
  pixels: Uint32Array,
  width: number,
  { left, top, from, height, square }: { left: number; top: number; from: number; height: number; square: number },
  pattern: Pattern,
  pixel: number,
  scale: number,
): void {
  const size = Math.floor(square / scale);
  for (let y = from; y < from + height; y++) {
    for (let x = left; x < left + square; x++) {
      if (patterned(pattern, Math.floor((x - left) / scale), Math.floor((y - top) / scale), size)) {
        pixels[y * width + x] = pixel;
      }
    }
  }
}

/** A strip from the start of the view to its end: a row of pixels each, in the colour of what is most of it. */
export function paintStrip(
  canvas: Canvas,
  brushes: readonly Brush[],
  ground: Ink,
  sourceOf: (at: number) => CellSource | null,
): void {
  const { pixels, width, height } = canvas;
  for (let y = 0; y < height; y++) {
    const source = sourceOf(y / height);
    let pixel = ground.pixel;
    let most = 0;
    brushes.forEach(({ ink, empty, hidden }, kind) => {
      const part = source?.shares[kind * source.stride + source.cell] ?? 0;
      // What is stored is seen, however little of it there is.
      const weight = hidden ? 0 : empty ? part / 64 : part;
      if (weight > most) {
        most = weight;
        pixel = ink.pixel;
      }
    });
    pixels.fill(pixel, y * width, (y + 1) * width);
  }
}

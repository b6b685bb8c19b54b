// The strip beside a map: all of the view from top to bottom, and a frame around what the map shows of it.
import type { Colours } from './colours.ts';
import { cellsOf, type Viewport } from './geometry.ts';
import type { Extent } from './map-view.svelte.ts';
import { paintStrip, type Brush, type CellSource } from './paint.ts';
import { bufferOf } from './picture.ts';

/** Its width in CSS pixels. */
export const stripWidth = 22;

/** Draws the strip over the cells of the level `whole`; `of`: what its cells depend on. `height` and `scale` are those of the map beside it. */
export function drawMinimap(
  strip: HTMLCanvasElement,
  shown: Viewport,
  {
    size,
    unit,
    whole,
    height,
    scale,
  }: Extent & { readonly whole: number; readonly height: number; readonly scale: number },
  sourceOf: (cell: number) => CellSource | null,
  brushes: readonly Brush[],
  ink: Colours,
  of: readonly unknown[],
): void {
  const wide = Math.round(stripWidth * scale);
  if (strip.width !== wide || strip.height !== height) {
    strip.width = wide;
    strip.height = height;
  }
  const context = strip.getContext('2d');
  if (context === null || height === 0) return;
  const { image, isNew } = bufferOf(strip, context, [...of, size, unit, whole]);
  const cells = cellsOf(size, unit, whole);
  if (isNew) {
    const canvas = { pixels: new Uint32Array(image.data.buffer), width: wide, height };
    paintStrip(canvas, brushes, ink.ink('--map-ground'), (at) => sourceOf(Math.min(cells - 1, Math.floor(at * cells))));
  }
  context.putImageData(image, 0, 0);
  const top = ((shown.first * shown.cellBytes) / size) * height;
  const reach = ((shown.rows * shown.columns * shown.cellBytes) / size) * height;
  const tall = Math.max(4 * scale, Math.min(height - top, reach));
  const frame = [scale, Math.min(top, height - tall) + scale, wide - 2 * scale, tall - 2 * scale] as const;
  context.strokeStyle = ink.ink('--map-ground').css;
  context.lineWidth = 4 * scale;
  context.strokeRect(...frame);
  context.strokeStyle = ink.ink('--text').css;
  context.lineWidth = 2 * scale;
  context.strokeRect(...frame);
}

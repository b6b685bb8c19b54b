// The picture of a viewport on its canvas: cells, the letters of large ones, findings, and what is selected or under the pointer.
import type { ClassLook } from './classes.ts';
import type { Colours } from './colours.ts';
import type { Viewport } from './geometry.ts';
import { cornerIn } from './map-view.svelte.ts';
import { paintCells, type Brush, type CellSource } from './paint.ts';

/** Squares from this size on, in CSS pixels, bear the letter of what is most of them. */
const letteredFrom = 28;

/** A class of the layer that is shown. */
export interface ShownClass {
  readonly name: string;
  readonly look: ClassLook;
}

/** A place with a finding of the last check. */
export interface Mark {
  readonly at: number;
  readonly severity: string;
  /** Bytes from there that it is about; absent: the cell that holds `at`. */
  readonly length?: number;
}

/** What a picture is of. */
export interface Scene {
  readonly shown: Viewport;
  readonly layer: string;
  /** Another one with other cells or colours. */
  readonly version: number;
  readonly classes: readonly ShownClass[];
  readonly hidden: ReadonlySet<string>;
  readonly sourceOf: (cell: number) => CellSource | null;
  readonly marks: readonly Mark[];
  /** Places, in bytes. */
  readonly selected: number | null;
  readonly hovered: number | null;
  /** Device pixels, and how many of them a CSS pixel is. */
  readonly width: number;
  readonly height: number;
  readonly scale: number;
}

/** The pixels of the cells as they were painted last on a canvas, and what they were painted of. */
interface Painted {
  readonly image: ImageData;
  of: readonly unknown[];
}
const painted = new WeakMap<HTMLCanvasElement, Painted>();

/** The buffer of a canvas for a picture of `of`; `isNew`: it has to be painted, what is in it is of something else. */
export function bufferOf(
  canvas: HTMLCanvasElement,
  context: CanvasRenderingContext2D,
  of: readonly unknown[],
): { image: ImageData; isNew: boolean } {
  const { width, height } = canvas;
  let kept = painted.get(canvas);
  if (kept === undefined || kept.image.width !== width || kept.image.height !== height) {
    kept = { image: context.createImageData(width, height), of: [] };
    painted.set(canvas, kept);
  }
  const isNew = kept.of.length !== of.length || of.some((one, index) => one !== kept.of[index]);
  kept.of = of;
  return { image: kept.image, isNew };
}

/** What the classes are painted with in the theme that is shown. */
export function brushesOf(classes: readonly ShownClass[], hidden: ReadonlySet<string>, ink: Colours): Brush[] {
  return classes.map(({ name, look }) => ({
    ink: ink.of(look),
    pattern: look.pattern,
    empty: look.empty,
    hidden: hidden.has(name),
  }));
}

/** Draws all of it. */
export function drawPicture(canvas: HTMLCanvasElement, scene: Scene, brushes: readonly Brush[], ink: Colours): void {
  const { shown, width, height, scale, sourceOf } = scene;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext('2d');
  if (context === null || width === 0 || height === 0) return;
  const { step, first, cells } = shown;
  const of = [scene.version, scene.layer, scene.hidden, scene.classes, step.level, step.size, first, cells, scale];
  const { image, isNew } = bufferOf(canvas, context, of);
  if (isNew) {
    const pixels = new Uint32Array(image.data.buffer);
    const grounds = { ground: ink.ink('--map-ground'), unknown: ink.ink('--raised'), dim: ink.ink('--map-empty') };
    paintCells({ pixels, width, height }, shown, brushes, grounds, sourceOf, scale);
  }
  context.putImageData(image, 0, 0);
  if (shown.step.size >= letteredFrom * scale) {
    const { fontFamily } = getComputedStyle(canvas);
    drawLetters(context, scene, brushes, ink, fontFamily);
  }
  drawMarks(context, scene, ink);
}

function drawLetters(
  context: CanvasRenderingContext2D,
  { shown, classes, hidden, sourceOf, scale }: Scene,
  brushes: readonly Brush[],
  ink: Colours,
  face: string,
): void {
  const { step, columns, rows, cells, first } = shown;
  context.font = `600 ${Math.round(step.size * 0.36)}px ${face}`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (let index = 0; index < rows * columns && first + index < cells; index++) {
    const source = sourceOf(first + index);
    if (source === null) continue;
    const kind = mostOf(source, classes.length);
    const entry = classes[kind];
    if (entry === undefined || hidden.has(entry.name)) continue;
    context.fillStyle = entry.look.empty ? ink.ink('--muted').css : (brushes[kind]?.ink.letter ?? '');
    const x = (index % columns) * step.size + step.size / 2 - scale / 2;
    const y = Math.floor(index / columns) * step.size + step.size / 2;
    if (entry.look.pattern !== 'plain') {
      // A plate under the letter: patterns stay out of it.
      context.save();
      context.fillStyle = brushes[kind]?.ink.css ?? '';
      context.fillRect(x - step.size * 0.2, y - step.size * 0.24, step.size * 0.4, step.size * 0.46);
      context.restore();
    }
    context.fillText(entry.look.letter, x, y);
  }
}

/** The class that most of a cell is of. */
function mostOf({ shares, stride, cell }: CellSource, classes: number): number {
  let most = 0;
  for (let kind = 1; kind < classes; kind++) {
    if ((shares[kind * stride + cell] ?? 0) > (shares[most * stride + cell] ?? 0)) most = kind;
  }
  return most;
}

function drawMarks(
  context: CanvasRenderingContext2D,
  { shown, marks, hovered, selected, scale }: Scene,
  ink: Colours,
): void {
  const square = shown.step.size - scale;
  const outline = (at: number, colour: string, thick: number): void => {
    const corner = cornerIn(shown, at);
    if (corner === null) return;
    context.strokeStyle = ink.ink(colour).css;
    context.lineWidth = thick * scale;
    context.strokeRect(corner.x - scale / 2, corner.y - scale / 2, square + scale, square + scale);
  };
  for (const { at, severity } of marksOnScreen(marks, shown)) {
    const corner = cornerIn(shown, at);
    if (corner === null) continue;
    outline(at, severity === 'leak' ? '--map-warn' : '--map-bad', 2);
    context.fillStyle = ink.ink(severity === 'leak' ? '--map-warn' : '--map-bad').css;
    context.beginPath();
    context.moveTo(corner.x + square, corner.y);
    context.lineTo(corner.x + square, corner.y + square * 0.6);
    context.lineTo(corner.x + square * 0.4, corner.y);
    context.fill();
  }
  if (hovered !== null) outline(hovered, '--muted', 1);
  if (selected !== null) {
    outline(selected, '--map-ground', 4);
    outline(selected, '--text', 2);
  }
}

/** The marks as one for each cell that is seen of it; of several on a cell the gravest. */
function marksOnScreen(marks: readonly Mark[], { first, rows, columns, cells, cellBytes }: Viewport): Iterable<Mark> {
  const seen = new Map<number, Mark>();
  const end = Math.min(cells, first + rows * columns);
  for (const mark of marks) {
    const from = Math.max(first, Math.floor(mark.at / cellBytes));
    const last = Math.min(end - 1, Math.floor((mark.at + (mark.length ?? 1) - 1) / cellBytes));
    for (let cell = from; cell <= last; cell++) {
      const known = seen.get(cell);
      if (known === undefined || known.severity === 'leak')
        seen.set(cell, { at: cell * cellBytes, severity: mark.severity });
    }
  }
  return seen.values();
}

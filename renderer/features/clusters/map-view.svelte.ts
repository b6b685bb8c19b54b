// Where a view of the map is: how large its canvas, how far zoomed in, which cell comes first. Lengths in device pixels.
import { firstAround, stepsFor, viewportAt, type Step, type Viewport } from './geometry.ts';

/** Bytes of what is looked at, and of its smallest cell. */
export interface Extent {
  readonly size: number;
  readonly unit: number;
}

export class MapView {
  width = $state(0);
  height = $state(0);
  /** Device pixels per CSS pixel. */
  scale = $state(1);
  #stepIndex = $state(0);
  #first = $state(0);
  readonly #extent: () => Extent;

  readonly steps = $derived.by<readonly Step[]>(() => {
    const { size, unit } = this.#extent();
    return this.width > 0 && size > 0 ? stepsFor(size, unit, this.width, this.height, this.scale) : [];
  });
  readonly step = $derived.by<Step | null>(() => this.steps[Math.min(this.#stepIndex, this.steps.length - 1)] ?? null);
  /** What is seen; null: there is no canvas yet. */
  readonly viewport = $derived.by<Viewport | null>(() =>
    this.step === null ? null : viewportAt(this.step, this.#first, this.#room),
  );
  /** The level at which all of it is on the canvas. */
  readonly whole = $derived.by<number>(() => this.steps[0]?.level ?? 0);

  constructor(extent: () => Extent) {
    this.#extent = extent;
  }

  get #room(): Extent & { readonly width: number; readonly height: number } {
    return { ...this.#extent(), width: this.width, height: this.height };
  }

  /** By so many degrees around a pixel. */
  zoomAt(by: number, x: number, y: number): void {
    const { steps, viewport } = this;
    const index = Math.min(this.#stepIndex, steps.length - 1) + by;
    const to = steps[Math.max(0, Math.min(steps.length - 1, index))];
    if (viewport === null || to === undefined) return;
    this.moveTo(firstAround(viewport, to, this.#extent().unit, this.width, x, y), to);
    this.#stepIndex = steps.indexOf(to);
  }

  /** By so many degrees around a place, if it is seen, or the middle. */
  zoomAround(by: number, at: number | null): void {
    const corner = at === null ? null : this.cornerOf(at);
    this.zoomAt(by, corner?.x ?? this.width / 2, corner?.y ?? this.height / 2);
  }

  showAll(): void {
    this.#stepIndex = 0;
    this.#first = 0;
  }

  /** Shows a place, as large as `level` of the smallest cells asks for (null: as it is), in the middle. */
  goTo(at: number, level: number | null): void {
    if (this.viewport === null) return;
    if (level !== null) {
      this.#stepIndex = Math.max(
        0,
        this.steps.findIndex((one) => one.level === level),
      );
    }
    const to = this.steps[this.#stepIndex];
    if (to === undefined) return;
    const columns = Math.max(1, Math.floor(this.width / to.size));
    const rows = Math.max(1, Math.floor(this.height / to.size));
    const cell = Math.floor(at / (this.#extent().unit * 2 ** to.level));
    this.moveTo(cell - Math.floor(rows / 2) * columns - Math.floor(columns / 2), to);
  }

  /** Begins at cell `first`, as nearly as possible. */
  moveTo(first: number, step: Step | null = this.step): void {
    if (step !== null) this.#first = viewportAt(step, first, this.#room).first;
  }

  pan(cells: number): void {
    if (this.viewport !== null) this.moveTo(this.viewport.first + cells);
  }

  /** The corner of the cell that holds byte `at`; null: it is not seen. */
  cornerOf(at: number): { readonly x: number; readonly y: number } | null {
    return this.viewport === null ? null : cornerIn(this.viewport, at);
  }
}

/** The corner of the cell of a viewport that holds byte `at`; null: none does. */
export function cornerIn(shown: Viewport, at: number): { readonly x: number; readonly y: number } | null {
  const index = Math.floor(at / shown.cellBytes) - shown.first;
  if (index < 0 || index >= shown.rows * shown.columns) return null;
  return { x: (index % shown.columns) * shown.step.size, y: Math.floor(index / shown.columns) * shown.step.size };
}

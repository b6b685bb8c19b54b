// Equal cells over a stretch of bytes, and how many bytes of each cell are of which class.

/** Classes of one layer over the cells of a stretch; classes that never occur take no memory. */
export class Grid {
  readonly start: number;
  readonly cellBytes: number;
  readonly cells: number;
  readonly #planes: (Float32Array | null)[];
  /** Bytes per class, exact. */
  readonly totals: number[];

  constructor(start: number, cellBytes: number, cells: number, classes: number) {
    this.start = start;
    this.cellBytes = cellBytes;
    this.cells = cells;
    this.#planes = new Array<Float32Array | null>(classes).fill(null);
    this.totals = new Array<number>(classes).fill(0);
  }

  /** Counts `length` bytes from `start`, which lie within the stretch, to a class. */
  add(kind: number, start: number, length: number): void {
    let plane = this.#planes[kind] ?? null;
    if (plane === null) {
      plane = new Float32Array(this.cells);
      this.#planes[kind] = plane;
    }
    this.totals[kind] = (this.totals[kind] ?? 0) + length;
    const { cellBytes } = this;
    const from = start - this.start;
    const end = from + length;
    const first = Math.floor(from / cellBytes);
    const last = Math.min(this.cells - 1, Math.floor((end - 1) / cellBytes));
    if (first === last) {
      plane[first] = (plane[first] ?? 0) + length;
      return;
    }
    plane[first] = (plane[first] ?? 0) + (first + 1) * cellBytes - from;
    plane[last] = (plane[last] ?? 0) + end - last * cellBytes;
    if (last > first + 1) {
      // Whole cells: nothing else can be in them.
      plane.fill(cellBytes, first + 1, last);
    }
  }

  /**
   * Shares of 0 to 255 per class and cell, class by class: of `cells` cells from `first`, each `factor` cells of this grid, over the
   * first `end` bytes of the view. What occurs at all has a share of at least 1.
   */
  shares(into: Uint8Array, first: number, factor: number, cells: number, end: number): void {
    for (const [kind, plane] of this.#planes.entries()) {
      if (plane === null) continue;
      const row = into.subarray(kind * cells, (kind + 1) * cells);
      for (let cell = 0; cell < cells; cell++) {
        let bytes = 0;
        const from = (first + cell) * factor;
        const to = Math.min(from + factor, this.cells);
        for (let at = from; at < to; at++) bytes += plane[at] ?? 0;
        if (bytes <= 0) continue;
        const whole = Math.min(factor * this.cellBytes, end - this.start - from * this.cellBytes);
        row[cell] = Math.max(1, Math.min(255, Math.round((255 * bytes) / whole)));
      }
    }
  }
}

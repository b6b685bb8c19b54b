// Which stretches of a file the journal holds already: sorted ranges that neither overlap nor touch.

/** From `start` up to, not including, `end`. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

export class Coverage {
  #starts: number[] = [];
  #ends: number[] = [];

  /** The parts of `start`…`end` that are not covered, in order. */
  missing(start: number, end: number): Stretch[] {
    const found: Stretch[] = [];
    let at = start;
    for (let i = this.#firstEndingAfter(start); i < this.#starts.length && at < end; i++) {
      const from = this.#starts[i] as number;
      if (from >= end) break;
      if (from > at) found.push({ start: at, end: from });
      at = this.#ends[i] as number;
    }
    if (at < end) found.push({ start: at, end });
    return found;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    // All that touch it become one with it.
    const first = this.#firstEndingAfter(start - 1);
    let last = first;
    let from = start;
    let to = end;
    while (last < this.#starts.length && (this.#starts[last] as number) <= end) {
      from = Math.min(from, this.#starts[last] as number);
      to = Math.max(to, this.#ends[last] as number);
      last++;
    }
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
  }

  /** All of them, in order. */
  *stretches(): Generator<Stretch, void, void> {
    for (const [i, start] of this.#starts.entries()) yield { start, end: this.#ends[i] as number };
  }

  /** Index of the first range whose end lies behind `place`. */
  #firstEndingAfter(place: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) > place) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

// Keeps a copy from going faster than was asked.
import { setTimeout as pause } from 'node:timers/promises';

/** Keeps a copy below so many bytes per second. */
export class Pace {
  readonly #rate: number;
  readonly #start = performance.now();
  #bytes = 0;

  constructor(rate: number) {
    this.#rate = rate;
  }

  async wait(length: number): Promise<void> {
    if (this.#rate === 0) return;
    const due = this.#start + (this.#bytes / this.#rate) * 1000;
    this.#bytes += length;
    const early = due - performance.now();
    if (early > 1) await pause(early);
  }
}

// Keeps a copy from going faster than was asked.
import { setTimeout as pause } from 'node:timers/promises';

/** Milliseconds that a copy may make up for after it was held up; a longer wait is no leave to go faster afterwards. */
const slack = 250;

/** Keeps a copy below so many bytes per second. */
export class Pace {
  readonly #rate: number;
  /** When the next bytes may go. */
  #due = performance.now();

  constructor(rate: number) {
    this.#rate = rate;
  }

  async wait(length: number): Promise<void> {
    if (this.#rate === 0) return;
    const due = Math.max(this.#due, performance.now() - slack);
    this.#due = due + (length / this.#rate) * 1000;
    const early = due - performance.now();
    if (early > 1) await pause(early);
  }
}

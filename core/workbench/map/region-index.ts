// The regions of a file in a form that can be kept: where each begins, its class, its label; built piece by piece.
import type { Region } from '../../formats/driver.ts';
import { isImageError, type ImageError } from '../../errors/image-error.ts';
import { kindClasses, kindOfRegion } from './classes.ts';

/** Regions kept apart at most; from the first number on neighbours of one class become one, from the second on all do. */
const mostRegions = 2 ** 20;
const limit = 2 ** 21;
/** Labels kept at most; further ones are shown with the words of the last of these. */
const mostLabels = 4096;
const regionsPerLook = 256;
const unreadableLabel = 'cannot be told';
const unreadable = kindClasses.indexOf('unreadable');
/** A number in a label stands apart from it: `block 17`, so that a million blocks are one label. */
const numbered = /^(.*?)(\d+)(.*)$/;

/** What is known of the regions from the start of the file to `at`. */
export class RegionIndex {
  at = 0;
  finished = false;
  fault: ImageError | null = null;
  readonly size: number;
  /** Bytes per class up to `at`, exact. */
  readonly totals = new Array<number>(kindClasses.length).fill(0);
  readonly #regions: Iterator<Region>;
  #count = 0;
  #starts = new Float64Array(1024);
  #kinds = new Uint8Array(1024);
  #labels = new Uint16Array(1024);
  #numbers = new Float64Array(1024);
  readonly #patterns: (readonly [string, string])[] = [];
  readonly #patternIndex = new Map<string, number>();

  constructor(regions: Iterable<Region>, size: number) {
    this.#regions = regions[Symbol.iterator]();
    this.size = size;
    this.finished = size === 0;
  }

  get count(): number {
    return this.#count;
  }

  /** Goes on until `deadline` (of `performance.now`). What cannot be told of the file is `unreadable` from there on. */
  advance(deadline: number): void {
    for (let count = 1; !this.finished; count++) {
      if (count % regionsPerLook === 0 && performance.now() > deadline) return;
      try {
        const step = this.#regions.next();
        if (step.done === true) this.finished = true;
        else this.#add(step.value, kindClasses.indexOf(kindOfRegion(step.value)));
      } catch (error) {
        if (!isImageError(error)) throw error;
        this.fault = error;
        this.finished = true;
        const rest = { start: this.at, length: this.size - this.at, label: unreadableLabel };
        if (rest.length > 0) this.#add(rest, unreadable);
      }
    }
  }

  /** Number of the region that holds `at`; the regions reach that far. */
  find(at: number): number {
    let low = 0;
    let high = this.#count - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  startOf(index: number): number {
    return this.#starts[index] ?? this.at;
  }

  endOf(index: number): number {
    return index + 1 < this.#count ? (this.#starts[index + 1] ?? this.at) : this.at;
  }

  kindOf(index: number): number {
    return this.#kinds[index] ?? unreadable;
  }

  labelOf(index: number): string {
    const [before, after] = this.#patterns[this.#labels[index] ?? 0] ?? ['', ''];
    const number = this.#numbers[index] ?? Number.NaN;
    return Number.isNaN(number) ? before : `${before}${number}${after}`;
  }

  #add({ start, length, label }: Pick<Region, 'start' | 'length' | 'label'>, kind: number): void {
    this.at = start + length;
    this.totals[kind] = (this.totals[kind] ?? 0) + length;
    if (this.#count >= mostRegions && (this.#kinds[this.#count - 1] === kind || this.#count >= limit)) return;
    if (this.#count === this.#starts.length) this.#grow();
    const index = this.#count++;
    const match = numbered.exec(label);
    const number = match === null ? Number.NaN : Number(match[2]);
    const exact = match !== null && Number.isSafeInteger(number) && String(number) === match[2];
    this.#starts[index] = start;
    this.#kinds[index] = kind;
    this.#labels[index] = exact ? this.#pattern(match[1] ?? '', match[3] ?? '') : this.#pattern(label, '');
    this.#numbers[index] = exact ? number : Number.NaN;
  }

  #pattern(before: string, after: string): number {
    const key = `${before}\0${after}`;
    let index = this.#patternIndex.get(key);
    if (index === undefined) {
      if (this.#patterns.length >= mostLabels) return mostLabels - 1;
      index = this.#patterns.push([before, after]) - 1;
      this.#patternIndex.set(key, index);
    }
    return index;
  }

  #grow(): void {
    const length = this.#starts.length * 2;
    const starts = new Float64Array(length);
    const kinds = new Uint8Array(length);
    const labels = new Uint16Array(length);
    const numbers = new Float64Array(length);
    starts.set(this.#starts);
    kinds.set(this.#kinds);
    labels.set(this.#labels);
    numbers.set(this.#numbers);
    this.#starts = starts;
    this.#kinds = kinds;
    this.#labels = labels;
    this.#numbers = numbers;
  }
}

// Regions in a form of which millions can be kept: where each begins, its class, its label, in columns.
import { kindClasses } from './classes.ts';

/** Regions kept apart at most; from the first number on neighbours of one class become one, from the second on all do. */
const mostRegions = 2 ** 20;
const limit = 2 ** 21;
/** Labels kept at most; further ones are shown with the words of the last of these. */
const mostLabels = 4096;
const unreadable = kindClasses.indexOf('unreadable');
/** A number in a label stands apart from it: `block 17`, so that a million blocks are one label. */
const numbered = /^(.*?)(\d+)(.*)$/;

/** Regions one after the other from the start of the file to `at`. */
export class RegionColumns {
  at = 0;
  /** Bytes per class up to `at`, exact. */
  readonly totals = new Array<number>(kindClasses.length).fill(0);
  #count = 0;
  #starts = new Float64Array(1024);
  #kinds = new Uint8Array(1024);
  #labels = new Uint16Array(1024);
  #numbers = new Float64Array(1024);
  readonly #patterns: (readonly [string, string])[] = [];
  readonly #patternIndex = new Map<string, number>();

  get count(): number {
    return this.#count;
  }

  /** Number of the region that holds `offset`; the regions reach that far. */
  find(offset: number): number {
    let low = 0;
    let high = this.#count - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
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

  /** The next region, which begins at `at`; `kind` is the number of its class. */
  add(length: number, kind: number, label: string): void {
    const start = this.at;
    this.at += length;
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

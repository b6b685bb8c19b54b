// Places in a file or on a disk as people write them: `0x1f400`, `1G`, `s2048`, `c5`, `L2[3]`, `header.l1_size`, `+64K`, `(5 + 2) * 4K`.
import type { BlockNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver, Region } from '../formats/driver.ts';
import { pathOf } from '../bytes/struct.ts';

/** What a place is looked up in. Offsets in bytes. */
export interface Surroundings {
  readonly size: number;
  /** Where `+` and `-` at the beginning count from. */
  readonly here: number;
  /** Bytes of `lba n` and of `cluster n`. */
  readonly sector: number;
  readonly cluster: number;
  /** The place of a table entry, or of a field by its path; null: there is none. */
  readonly named: (name: string, indices: readonly number[]) => number | null;
  /** How entries are written here. */
  readonly names: readonly string[];
}

const units: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  s: 512,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  p: 2 ** 50,
};

/**
 * The offset that `text` means: numbers, names, `+ - * /` and brackets; a sign at the beginning counts from `here`. Throws `look/place`,
 * `look/beyond`, `look/before`, `look/no-table`, `look/no-entry`.
 */
export function locate(text: string, around: Surroundings): number {
  const trimmed = text.trim();
  if (trimmed === '') throw place(text, 'nothing is written');
  const sum = new Expression(text, around).value();
  if (!Number.isSafeInteger(sum)) {
    throw place(text, Number.isInteger(sum) ? 'it is too large' : 'it is not a whole number of bytes');
  }
  if (sum < 0) throw new ImageError('look/before', { text: trimmed });
  if (sum > around.size) throw new ImageError('look/beyond', { offset: sum, size: around.size });
  return sum;
}

/** Words, names with indices, numbers with their units; one sign or bracket each. */
const tokens = /\s*(?:([-+*/()])|([^-+*/()\s]+(?:\s+[^-+*/()\s]+)*))\s*/gy;

/** Brackets within brackets at most. */
const deepest = 32;

class Expression {
  readonly #text: string;
  readonly #around: Surroundings;
  readonly #tokens: string[];
  #at = 0;
  #depth = 0;

  constructor(text: string, around: Surroundings) {
    this.#text = text;
    this.#around = around;
    this.#tokens = [...text.matchAll(tokens)].map(([, sign, word]) => sign ?? word ?? '');
  }

  value(): number {
    const [first] = this.#tokens;
    const start = first === '+' || first === '-' ? this.#around.here : 0;
    const value = start + this.#sum();
    const rest = this.#tokens[this.#at];
    if (rest !== undefined) throw place(this.#text, `'${rest}' is not expected there`);
    return value;
  }

  #sum(): number {
    let value = this.#signed();
    for (let sign = this.#sign('+-'); sign !== null; sign = this.#sign('+-')) {
      const term = this.#product(sign);
      value += sign === '-' ? -term : term;
    }
    return value;
  }

  #signed(): number {
    const sign = this.#sign('+-');
    const value = this.#product(sign ?? '');
    return sign === '-' ? -value : value;
  }

  #product(before: string): number {
    let value = this.#one(before);
    for (let sign = this.#sign('*/'); sign !== null; sign = this.#sign('*/')) {
      const factor = this.#one(sign);
      if (sign === '/' && factor === 0) throw place(this.#text, 'nothing can be divided by 0');
      value = sign === '*' ? value * factor : Math.floor(value / factor);
    }
    return value;
  }

  /** `before`: the sign that it stands behind. */
  #one(before: string): number {
    const token = this.#tokens[this.#at++];
    if (token === '(' && this.#depth < deepest) {
      this.#depth += 1;
      const value = this.#sum();
      if (this.#sign(')') === null) throw place(this.#text, "a ')' is missing");
      this.#depth -= 1;
      return value;
    }
    if (token === undefined || /^[-+*/()]$/.test(token)) {
      throw place(this.#text, `a number is missing ${before === '' ? 'at the beginning' : `behind '${before}'`}`);
    }
    return termValue(token, this.#text, this.#around);
  }

  #sign(among: string): string | null {
    const token = this.#tokens[this.#at];
    if (token === undefined || token.length > 1 || !among.includes(token)) return null;
    this.#at += 1;
    return token;
  }
}

function termValue(term: string, text: string, around: Surroundings): number {
  const lower = term.toLowerCase();
  if (lower === 'start') return 0;
  if (lower === 'end') return around.size;
  if (lower === 'here') return around.here;
  const counted = /^(lba|sector|s|cluster|c|block|grain)\s*(0x[0-9a-f]+|[0-9]+)$/.exec(lower);
  if (counted !== null) {
    const isSector = counted[1] === 'lba' || counted[1]?.startsWith('s') === true;
    return Number(counted[2]) * (isSector ? around.sector : around.cluster);
  }
  const plain = lower.replaceAll(/(?<=[0-9a-f])[_,'](?=[0-9a-f])/g, '');
  if (/^0x[0-9a-f]+$/.test(plain)) return Number(plain);
  const sized = /^([0-9]+(?:\.[0-9]+)?)\s*([bskmgtp]?)(?:ib|(?<=[kmgtp])b)?$/.exec(plain);
  if (sized !== null) {
    const value = Number(sized[1]) * (units[sized[2] ?? ''] ?? 1);
    if (!Number.isInteger(value)) throw place(text, `${term} is not a whole number of bytes`);
    return value;
  }
  // As other programs write hex: 1f400h, $1f400, or digits that are no decimal ones.
  const hex = /^(?:\$([0-9a-f]+)|([0-9][0-9a-f]*)h|([0-9][0-9a-f]*))$/.exec(plain);
  if (hex !== null) return Number.parseInt(hex[1] ?? hex[2] ?? hex[3] ?? '', 16);
  const percent = /^([0-9]+(?:\.[0-9]+)?)%$/.exec(lower);
  if (percent !== null) return Math.floor((Math.min(100, Number(percent[1])) / 100) * around.size);
  return namedValue(term, text, around);
}

function namedValue(term: string, text: string, around: Surroundings): number {
  if (!/^[a-z_][\w.[\]@ ]*$/i.test(term)) throw place(text, `'${term}' is neither a number nor a name`);
  const entry = /^([a-z_][a-z_0-9]*)((?:\[[0-9]+\])+)$/i.exec(term);
  const indices = [...(entry?.[2] ?? '').matchAll(/\[([0-9]+)\]/g)].map(([, index]) => Number(index));
  const found = around.named(entry === null ? term : (entry[1] ?? ''), indices);
  if (found !== null) return found;
  const known = around.names.join(', ');
  const isKnown = around.names.some((name) => name.split('[')[0]?.toLowerCase() === (entry?.[1] ?? term).toLowerCase());
  if (isKnown) throw new ImageError('look/no-entry', { text: term });
  throw new ImageError('look/no-table', { name: term, known });
}

function place(text: string, reason: string): ImageError {
  return new ImageError('look/place', { text, reason });
}

/** Bytes that are looked through at once for a field with a given path, in one region, and in all. */
const step = 64 * 1024;
const searchedInRegion = 2 * step;
const searched = 64 * step;

/**
 * Looks up table entries of an image's file (a table without an index: its first one), its parts by what they are called, and fields of its
 * headers by their path. Throws what reading the tables throws.
 */
export function namesIn(
  driver: Pick<FormatDriver, 'entries'>,
  node: BlockNode,
  regions: () => Iterable<Region>,
): Pick<Surroundings, 'named' | 'names'> {
  const entry = (name: string, indices: readonly number[]): number | null =>
    driver.entries?.find(node, name.toLowerCase(), indices) ?? null;
  return {
    names: driver.entries?.names ?? [],
    named(name, indices) {
      const found = entry(name, indices);
      if (found !== null) return found;
      if (indices.length > 0) return fieldPlace(regions(), `${name}${indices.map((i) => `[${i}]`).join('')}`);
      const parts = partPlaces(regions(), name);
      return parts.exact ?? entry(name, [0]) ?? fieldPlace(regions(), name) ?? parts.near;
    },
  };
}

/** Parts that are looked through for a name at most. */
const mostParts = 1_000_000;

/** The first part that is called `name`, and the first whose name begins with it or is shortened to it (`rgd`). */
function partPlaces(regions: Iterable<Region>, name: string): { exact: number | null; near: number | null } {
  const wanted = words(name).join(' ');
  let near: number | null = null;
  let left = mostParts;
  for (const { label, start } of regions) {
    const parts = words(label);
    const whole = parts.join(' ');
    if (whole === wanted) return { exact: start, near };
    if (near === null && whole.startsWith(`${wanted} `)) near = start;
    if (near === null && parts.length > 1 && parts.map(([first = '']) => first).join('') === wanted) near = start;
    left -= 1;
    if (left === 0) break;
  }
  return { exact: null, near };
}

const words = (text: string): string[] =>
  text
    .toLowerCase()
    .replaceAll(/\(.*?\)/g, '')
    .split(/[\s_,]+/)
    .filter((word) => word !== '');

/** The place of the field (or the first of a structure) whose path is or begins with `path`, in the headers among `regions`. */
export function fieldPlace(regions: Iterable<Region>, path: string): number | null {
  const wanted = path.toLowerCase();
  let left = searched;
  for (const region of regions) {
    if (region.kind !== 'header' && region.kind !== 'table') continue;
    const end = region.start + Math.min(region.length, searchedInRegion);
    for (let start = region.start; start < end && left > 0; start += step) {
      const length = Math.min(step, end - start);
      left -= length;
      for (const note of region.annotate({ start, length })) {
        const found = pathOf(note).toLowerCase();
        if (found === wanted || found.startsWith(`${wanted}.`)) return note.start;
      }
    }
    if (left <= 0) break;
  }
  return null;
}

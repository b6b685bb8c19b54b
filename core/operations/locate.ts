// Places in a file or on a disk as people write them: `0x1f400`, `1G`, `lba 2048`, `cluster 5`, `L2[3]`, `header.l1_size`, `+64K`.
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
 * The offset that `text` means: a sum of numbers and names. Throws `look/place`, `look/beyond`, `look/before`, `look/no-table`,
 * `look/no-entry`.
 */
export function locate(text: string, around: Surroundings): number {
  const trimmed = text.trim();
  if (trimmed === '') throw place(text, 'nothing is written');
  const terms = [...trimmed.matchAll(/([+-]?)\s*([^+-]+|$)/g)].filter(([whole]) => whole !== '');
  let sum = 0;
  for (const [index, [, sign = '', term = '']] of terms.entries()) {
    if (term.trim() === '') throw place(text, `a number is missing behind '${sign}'`);
    if (index === 0 && sign !== '') sum = around.here;
    const value = termValue(term.trim(), text, around);
    sum += sign === '-' ? -value : value;
  }
  if (!Number.isSafeInteger(sum)) throw place(text, 'it is too large');
  if (sum < 0) throw new ImageError('look/before', { text: trimmed });
  if (sum > around.size) throw new ImageError('look/beyond', { offset: sum, size: around.size });
  return sum;
}

function termValue(term: string, text: string, around: Surroundings): number {
  const lower = term.toLowerCase();
  if (lower === 'start') return 0;
  if (lower === 'end') return around.size;
  if (lower === 'here') return around.here;
  const counted = /^(lba|sector|cluster|block|grain)\s*(0x[0-9a-f]+|[0-9]+)$/.exec(lower);
  if (counted !== null) {
    const isSector = counted[1] === 'lba' || counted[1] === 'sector';
    return Number(counted[2]) * (isSector ? around.sector : around.cluster);
  }
  if (/^0x[0-9a-f]+$/.test(lower)) return Number(lower);
  const sized = /^([0-9]+(?:\.[0-9]+)?)\s*([bskmgtp]?)(?:ib)?$/.exec(lower);
  if (sized !== null) {
    const value = Number(sized[1]) * (units[sized[2] ?? ''] ?? 1);
    if (!Number.isInteger(value)) throw place(text, `${term} is not a whole number of bytes`);
    return value;
  }
  const percent = /^([0-9]+(?:\.[0-9]+)?)%$/.exec(lower);
  if (percent !== null) return Math.floor((Math.min(100, Number(percent[1])) / 100) * around.size);
  return namedValue(term, text, around);
}

function namedValue(term: string, text: string, around: Surroundings): number {
  if (!/^[a-z_][\w.[\]@]*$/i.test(term)) throw place(text, `'${term}' is neither a number nor a name`);
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

/** Looks up table entries of an image's file, and fields of its headers by their path. Throws what reading the tables throws. */
export function namesIn(
  driver: Pick<FormatDriver, 'entries'>,
  node: BlockNode,
  regions: () => Iterable<Region>,
): Pick<Surroundings, 'named' | 'names'> {
  return {
    names: driver.entries?.names ?? [],
    named(name, indices) {
      const entry = driver.entries?.find(node, name.toLowerCase(), indices) ?? null;
      if (entry !== null) return entry;
      return fieldPlace(regions(), indices.length === 0 ? name : `${name}${indices.map((i) => `[${i}]`).join('')}`);
    },
  };
}

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

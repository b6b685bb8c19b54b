// What is searched for in bytes: hex digits with wildcards, text in UTF-8 or UTF-16, a GUID in either order; and where it stands in a buffer.
import { guid } from '../bytes/types.ts';
import { ImageError } from '../errors/image-error.ts';

export const patternKinds = ['bytes', 'utf-8', 'utf-16', 'utf-16be', 'guid', 'uuid'] as const;
export type PatternKind = (typeof patternKinds)[number];

/** Bytes of a pattern at most. */
export const longestPattern = 1024;

/** A pattern as a person writes it. `guid` is stored as Windows formats do (the first three groups little endian), `uuid` as it is read. */
export interface PatternText {
  readonly kind: PatternKind;
  readonly text: string;
  /** Of text: upper and lower case are the same. */
  readonly ignoreCase: boolean;
}

/** A stretch of bytes. */
export interface Match {
  readonly start: number;
  readonly length: number;
}

/** A pattern that is ready to be looked for. */
export interface Pattern {
  /** Bytes of the shortest and of the longest thing that it fits. */
  readonly least: number;
  readonly most: number;
  /** It fits zeroes alone: nothing can be passed over because it is known to be zero. */
  readonly fitsZeroes: boolean;
  /** Where it stands in bytes, which do not change meanwhile. */
  within(bytes: Buffer): Places;
}

/** Matches in some bytes, counted from their start. */
export interface Places {
  /** The first match that begins at `from` or later; null: there is none. */
  first(from: number): Match | null;
  /** The last match that begins before `before`; null: there is none. */
  last(before: number): Match | null;
}

/** One place of a pattern: the byte sequences that fit there. Null: any byte. A mask: those bits decide. */
type Place = readonly Uint8Array[] | { readonly value: number; readonly mask: number };

/** What `text` stands for. Throws `look/pattern`, `look/pattern-length`. */
export function readPattern(asked: PatternText): Pattern {
  const places = placesOf(asked);
  const lengths = places.map((place) => ('mask' in place ? [1] : place.map(({ length }) => length)));
  const least = lengths.reduce((sum, all) => sum + Math.min(...all), 0);
  const most = lengths.reduce((sum, all) => sum + Math.max(...all), 0);
  if (least === 0 || most > longestPattern) {
    throw new ImageError('look/pattern-length', { allowed: longestPattern, found: most });
  }
  const exact = exactBytes(places);
  return exact === null ? fitting(places, least, most) : standing(exact);
}

function placesOf({ kind, text, ignoreCase }: PatternText): Place[] {
  switch (kind) {
    case 'bytes':
      return hexPlaces(text);
    case 'utf-8':
    case 'utf-16':
    case 'utf-16be':
      if (text.length > longestPattern) {
        throw new ImageError('look/pattern-length', { allowed: longestPattern, found: text.length });
      }
      return Array.from(text, (letter) => letterForms(kind, letter, ignoreCase));
    case 'guid':
    case 'uuid':
      return [[guidBytes(kind, text)]];
  }
}

/** Two digits a byte; `?` is any digit. */
function hexPlaces(text: string): Place[] {
  const digits = text.replaceAll(/0x|[\s,;:_-]/gi, '');
  if (!/^(?:[0-9a-f?]{2})*$/i.test(digits)) throw wrong(text, 'bytes in hex, two digits each, ? for any digit');
  if (/^\?+$/.test(digits)) throw wrong(text, 'a pattern: at least one digit has to be said');
  if (digits.length > 2 * longestPattern) {
    throw new ImageError('look/pattern-length', { allowed: longestPattern, found: digits.length / 2 });
  }
  return Array.from(digits.match(/../g) ?? [], (pair) => {
    const value = Number.parseInt(pair.replaceAll('?', '0'), 16);
    const mask = Number.parseInt(Array.from(pair, (digit) => (digit === '?' ? '0' : 'f')).join(''), 16);
    return { value, mask };
  });
}

/** A letter, and with `ignoreCase` its other forms. */
function letterForms(kind: 'utf-8' | 'utf-16' | 'utf-16be', letter: string, ignoreCase: boolean): Uint8Array[] {
  const forms = ignoreCase ? [letter, letter.toLowerCase(), letter.toUpperCase()] : [letter];
  return [...new Set(forms)].map((form) => {
    const bytes = Buffer.from(form, kind === 'utf-8' ? 'utf8' : 'utf16le');
    return new Uint8Array(kind === 'utf-16be' ? bytes.swap16() : bytes);
  });
}

function guidBytes(kind: 'guid' | 'uuid', text: string): Uint8Array {
  const plain = text.trim().replace(/^\{(.*)\}$/, '$1');
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(plain)) throw wrong(text, 'a GUID');
  if (kind === 'uuid') return new Uint8Array(Buffer.from(plain.replaceAll('-', ''), 'hex'));
  const bytes = new Uint8Array(guid.width);
  guid.write(new DataView(bytes.buffer), 0, plain, true);
  return bytes;
}

/** The bytes, where there is one way only to fit; else null. */
function exactBytes(places: readonly Place[]): Buffer | null {
  const parts: Uint8Array[] = [];
  for (const place of places) {
    if ('mask' in place) {
      if (place.mask !== 0xff) return null;
      parts.push(Uint8Array.of(place.value));
    } else {
      const [only, ...others] = place;
      if (only === undefined || others.length > 0) return null;
      parts.push(only);
    }
  }
  return Buffer.concat(parts);
}

function standing(bytes: Buffer): Pattern {
  const { length } = bytes;
  const at = (start: number): Match | null => (start < 0 ? null : { start, length });
  return {
    least: length,
    most: length,
    fitsZeroes: bytes.every((byte) => byte === 0),
    within: (all) => ({
      first: (from) => at(all.indexOf(bytes, from)),
      // A negative place would count from the end.
      last: (before) => (before < 1 ? null : at(all.lastIndexOf(bytes, before - 1))),
    }),
  };
}

/** As an expression over one character a byte: alternatives at one place differ, so that it never tries the same thing twice. */
function fitting(places: readonly Place[], least: number, most: number): Pattern {
  const source = places.map(placeSource).join('');
  const search = new RegExp(source, 'g');
  const zeroes = new RegExp(`^${source}`).test('\0'.repeat(most));
  return {
    least,
    most,
    fitsZeroes: zeroes,
    within(bytes) {
      const text = bytes.toString('latin1');
      const first = (from: number): Match | null => {
        search.lastIndex = from;
        const found = search.exec(text);
        return found === null ? null : { start: found.index, length: found[0].length };
      };
      return { first, last: (before) => lastOf(first, before) };
    },
  };
}

/** How far before the place that is asked for it is looked first. */
const nearby = 4096;

/** Windows before `before`, each twice as far down, are gone through from their start. */
function lastOf(first: (from: number) => Match | null, before: number): Match | null {
  for (let span = nearby, end = before; end > 0; span *= 2) {
    const start = Math.max(0, end - span);
    let last: Match | null = null;
    for (let from = start; from < end;) {
      const found = first(from);
      if (found === null || found.start >= end) break;
      last = found;
      from = found.start + 1;
    }
    if (last !== null) return last;
    end = start;
  }
  return null;
}

function placeSource(place: Place): string {
  if (!('mask' in place)) return `(?:${place.map((bytes) => Array.from(bytes, escaped).join('')).join('|')})`;
  const { value, mask } = place;
  if (mask === 0xff) return escaped(value);
  if (mask === 0) return '[^]';
  if (mask === 0xf0) return `[${escaped(value)}-${escaped(value | 0xf)}]`;
  return `[${Array.from({ length: 16 }, (_, high) => escaped((high << 4) | value)).join('')}]`;
}

const escaped = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`;

function wrong(text: string, expected: string): ImageError {
  return new ImageError('look/pattern', { text, expected });
}

// Descriptions of images (`--image-opts`, `json:{…}`): levels of names and values, asked for one by one.
import { ImageError } from '../core/errors/image-error.ts';
import { relaxedJson } from './json.ts';
import { parseKeyValues, sizeMessage } from './key-values.ts';
import { parseSize } from './size.ts';

/** What is wrong with a description, in qemu-img's words. */
export function refuse(reason: string): ImageError {
  return new ImageError('request/invalid-value', { reason });
}

/** Keys with dots between the levels; values as they were given. */
export type Description = Map<string, string | number | boolean | null>;

/** `driver=qcow2,file.filename=…`. */
export function describeWords(text: string): Description {
  const description: Description = new Map();
  for (const { name, value } of parseKeyValues(text, { implied: 'file' })) description.set(name, value);
  return description;
}

/** The object behind `json:`. Throws `request/invalid-value`. */
export function describeJson(text: string): Description {
  let parsed: unknown;
  try {
    parsed = JSON.parse(relaxedJson(text));
  } catch (error) {
    throw refuse(`Could not parse the JSON options: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw refuse('Invalid JSON object given');
  const description: Description = new Map();
  flatten(parsed as Record<string, unknown>, '', description);
  return description;
}

function flatten(value: Record<string, unknown>, prefix: string, into: Description): void {
  for (const [key, entry] of Object.entries(value)) {
    const name = prefix + key;
    if (Array.isArray(entry)) flatten(Object.fromEntries(entry.entries()), `${name}.`, into);
    else if (typeof entry === 'object' && entry !== null) flatten(entry as Record<string, unknown>, `${name}.`, into);
    else into.set(name, entry as string | number | boolean | null);
  }
}

/** One level of a description: what was said, and what of it nobody has asked for yet. */
export class Level {
  readonly #values: Description;
  readonly #open: Set<string>;

  constructor(values: Description) {
    this.#values = values;
    this.#open = new Set(values.keys());
  }

  /** The value as text; null: not given, or given as null. */
  take(name: string): string | null {
    const value = this.#values.get(name);
    this.#open.delete(name);
    return value === undefined || value === null ? null : String(value);
  }

  /** Throws `request/invalid-value`, as the next ones. */
  takeBool(name: string): boolean | null {
    const given = this.#values.get(name);
    const value = this.take(name);
    if (value === null) return null;
    if (given === true || ['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (given === false || ['off', 'no', 'false', 'n'].includes(value)) return false;
    throw refuse(`Parameter '${name}' expects 'on' or 'off'`);
  }

  /** One of a few words. `wrong` says what is wrong with another one. */
  takeWord(name: string, words: readonly string[], wrong: (value: string) => string = wrongWord): string | null {
    const value = this.take(name);
    if (value !== null && !words.includes(value)) throw refuse(wrong(value));
    return value;
  }

  /** Bytes as digits. */
  takeSize(name: string): string | null {
    const value = this.take(name);
    if (value === null) return null;
    const { value: bytes, reason } = parseSize(value);
    if (bytes === null) throw refuse(sizeMessage(name, value, reason));
    return String(bytes);
  }

  /** A number without a unit. */
  takeNumber(name: string): number | null {
    const value = this.take(name);
    if (value === null) return null;
    if (!/^-?[0-9]+$/.test(value)) throw refuse(`Parameter '${name}' expects a number`);
    return Number(value);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** It, or something below it, was given. */
  names(name: string): boolean {
    return [...this.#values.keys()].some((key) => key === name || key.startsWith(`${name}.`));
  }

  raw(name: string): string | number | boolean | null | undefined {
    return this.#values.get(name);
  }

  /** The level below `name`; null: nothing is said of it. */
  below(name: string): Level | null {
    const prefix = `${name}.`;
    const inner: Description = new Map();
    for (const [key, value] of this.#values) {
      if (!key.startsWith(prefix)) continue;
      inner.set(key.slice(prefix.length), value);
      this.#open.delete(key);
    }
    return inner.size === 0 ? null : new Level(inner);
  }

  /** Throws `request/invalid-value` (`sentence 'NAME'`) if there is a name that nobody asked for. */
  refuseRest(sentence: string): void {
    const [first] = this.#open;
    if (first !== undefined) throw refuse(`${sentence} '${first}'`);
  }
}

function wrongWord(value: string): string {
  return `invalid parameter value: ${value}`;
}

// Structures declared once: the table parses, serialises, states limits and labels the hex view.
import { ImageError, type Where } from '../errors/image-error.ts';
import type { ErrorCode, ErrorDetail } from '../errors/messages.ts';
import type { Endian, FieldType } from './types.ts';

/** What a field may hold. `code`: the coded error to throw in place of `bytes/limit`. */
export interface Limits<T> {
  readonly is?: T;
  readonly oneOf?: readonly T[];
  readonly min?: T;
  readonly max?: T;
  readonly code?: ErrorCode;
  /** The value times this is an offset in the same file (or on the same disk) that the field points to; 0 and all ones point nowhere. */
  readonly points?: number;
}

export interface Field<T> {
  readonly offset: number;
  readonly type: FieldType<T>;
  readonly meaning: string;
  readonly limits: Limits<T>;
}

/** A row of a structure: byte offset within it, type, meaning in the specification's words, limits. */
export function field<T>(offset: number, type: FieldType<T>, meaning: string, limits: Limits<T> = {}): Field<T> {
  return { offset, type, meaning, limits };
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a table mixes value types; each row keeps its own
type Fields = Record<string, Field<any>>;
type Values<F extends Fields> = { -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** One coloured stretch of the hex view: place in the file, field, value for people, meaning. */
export interface Annotation {
  readonly start: number;
  readonly length: number;
  readonly structure: string;
  readonly field: string;
  readonly value: string;
  readonly meaning: string;
  /** Why the value is not allowed; null when it is fine. */
  readonly fault: string | null;
  /** Name of the stretch as a path: `header.version`, `L1[3]`, `BAT[17]`. Absent: `structure` and `field` make it (`pathOf`). */
  readonly path?: string;
  /** Section of the specification that declares it. */
  readonly section?: string;
  /** Where the value leads. Absent: nowhere. */
  readonly target?: Target;
}

/** A place that a field points to. `view` absent: in the file (or on the disk) that the field itself stands in; otherwise a file's role, or `guest`. */
export interface Target {
  readonly view?: string;
  readonly offset: number;
  /** What lies there is a packed unit: how it is packed and how many bytes it takes at most. */
  readonly packed?: { readonly codec: 'deflate-raw' | 'zlib' | 'zstd'; readonly length: number };
}

/** What a structure is called: its name, the short one that begins a path, and the section of the specification that declares it. */
export interface StructName {
  readonly name: string;
  readonly path: string;
  readonly section: string;
}

/** The name of an annotated stretch as a path. */
export function pathOf({ path, structure, field }: Annotation): string {
  return path ?? `${structure.toLowerCase().replaceAll(/[^a-z0-9]+/g, '_')}.${field}`;
}

export interface Struct<F extends Fields> {
  readonly name: string;
  /** Bytes it takes. */
  readonly size: number;
  readonly fields: F;
  /**
   * The values in `bytes` from its start; limits are checked. `where.offset` is the place of the structure in the file.
   * Throws `bytes/truncated`, `bytes/limit` (or the row's own code), `storage/too-large`.
   */
  parse(bytes: Uint8Array, where?: Where): Values<F>;
  /** The same without limits, for reports and repairs. Still throws `bytes/truncated`, `storage/too-large`. */
  parseLoosely(bytes: Uint8Array, where?: Where): Values<F>;
  /** Limits alone, on values already parsed. */
  check(values: Values<F>, where?: Where): void;
  /** A new buffer of `size` bytes. Fields that are left out are zero. */
  serialise(values: Partial<Values<F>>): Uint8Array;
  /** Overwrites the fields named, and no others, in `into`. */
  patch(into: Uint8Array, values: Partial<Values<F>>): void;
  /** Each field's stretch, `at` being the structure's place in the file. Never throws. */
  annotate(bytes: Uint8Array, at: number): Annotation[];
}

/** The type of the values of a structure: `type Header = ValuesOf<typeof header>`. */
export type ValuesOf<S> = S extends Struct<infer F> ? Values<F> : never;

/**
 * Declare a structure. Offsets are checked here, when the module loads: rows in order, no gap, no overlap, `size` filled.
 */
export function struct<F extends Fields>(
  named: string | StructName,
  endian: Endian,
  size: number,
  fields: F,
): Struct<F> {
  const { name, path, section } =
    typeof named === 'string' ? { name: named, path: undefined, section: undefined } : named;
  const rows = Object.entries(fields);
  let end = 0;
  for (const [key, row] of rows) {
    if (row.offset !== end) throw new Error(`${name}.${key} stands at ${row.offset}, the row before ends at ${end}`);
    end += row.type.width;
  }
  if (end !== size) throw new Error(`${name} ends at ${end}, declared are ${size} bytes`);
  const little = endian === 'little';
  const at = (where: Where, key: string, row: Field<unknown>): Where => ({
    ...where,
    offset: (where.offset ?? 0) + row.offset,
    field: key,
  });

  const parseLoosely = (bytes: Uint8Array, where: Where = {}): Values<F> => {
    if (bytes.length < size) {
      throw new ImageError('bytes/truncated', { structure: name, length: size, found: bytes.length }, where);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, size);
    const values: Record<string, unknown> = {};
    for (const [key, row] of rows) values[key] = row.type.read(view, row.offset, little, at(where, key, row));
    return values as Values<F>;
  };

  const check = (values: Values<F>, where: Where = {}): void => {
    for (const [key, row] of rows) {
      const fault = limitFault(row, values[key as keyof F]);
      if (fault === null) continue;
      const detail: ErrorDetail = { field: key, found: row.type.show(values[key as keyof F]), allowed: fault };
      throw new ImageError(row.limits.code ?? 'bytes/limit', detail, at(where, key, row));
    }
  };

  const patch = (into: Uint8Array, values: Partial<Values<F>>): void => {
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (const [key, row] of rows) {
      const value = values[key as keyof F];
      if (value !== undefined) row.type.write(view, row.offset, value, little);
    }
  };

  return {
    name,
    size,
    fields,
    parseLoosely,
    check,
    patch,
    parse(bytes, where = {}) {
      const values = parseLoosely(bytes, where);
      check(values, where);
      return values;
    },
    serialise(values) {
      const into = new Uint8Array(size);
      patch(into, values);
      return into;
    },
    annotate(bytes, start) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const annotations: Annotation[] = [];
      for (const [key, row] of rows) {
        if (row.offset + row.type.width > bytes.length) break;
        let value: string;
        let fault: string | null;
        let target: Target | null = null;
        try {
          const read: unknown = row.type.read(view, row.offset, little, {});
          value = row.type.show(read);
          fault = limitFault(row, read);
          target = targetOf(row.limits.points, read);
        } catch (error) {
          value = '';
          fault = error instanceof Error ? error.message : String(error);
        }
        annotations.push({
          start: start + row.offset,
          length: row.type.width,
          structure: name,
          field: key,
          value,
          meaning: row.meaning,
          fault,
          ...(path === undefined ? {} : { path: `${path}.${key}`, section }),
          ...(target === null ? {} : { target }),
        });
      }
      return annotations;
    },
  };
}

function targetOf(points: number | undefined, value: unknown): Target | null {
  if (points === undefined || (typeof value !== 'number' && typeof value !== 'bigint')) return null;
  const offset = Number(value) * points;
  return offset > 0 && Number.isSafeInteger(offset) ? { offset } : null;
}

/** What is allowed, in words, when `value` is not; null when it is. */
function limitFault(row: Field<unknown>, value: unknown): string | null {
  const { is, oneOf, min, max } = row.limits as Limits<number>;
  const show = (allowed: number): string => row.type.show(allowed);
  const found = value as number;
  if (is !== undefined && found !== is) return show(is);
  if (oneOf !== undefined && !oneOf.includes(found)) return oneOf.map(show).join(', ');
  if (min !== undefined && found < min) return `${show(min)} or more`;
  if (max !== undefined && found > max) return `${show(max)} or less`;
  return null;
}

// The rows of the grid: sixteen bytes each, cut into runs of one field, so that a row is a few pieces of text.
import type { FieldFacts, RegionFacts } from '../../../core/workbench/contract.ts';
import { hexByte } from './copy-as.ts';
import type { ByteSource } from './byte-source.svelte.ts';
import type { FieldSource } from './field-source.svelte.ts';

export const rowBytes = 16;

/** Bytes of a row that belong together: how they read, and what they are. */
export interface Run {
  readonly hex: string;
  readonly text: string;
  /** CSS classes; empty: plain. */
  readonly style: string;
}

export interface Row {
  readonly offset: number;
  readonly address: string;
  /** The kind of the region that the row begins in: `header`, `table`, `log`, `data`, `lost`; empty: not known. */
  readonly kind: RegionFacts['kind'] | '';
  readonly runs: readonly Run[];
}

const shown = Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : byte === 0 ? '·' : '.',
);
const digits = Array.from({ length: 256 }, (_, byte) => hexByte(byte));

/** Hex digits of an address: eight reach 4 GiB, more only where they are needed. */
export function addressDigits(size: number): number {
  return Math.max(8, Math.max(0, size - 1).toString(16).length);
}

/** The row from `offset`. `other`: a second source; bytes in which it differs are marked. */
export function rowAt(
  offset: number,
  source: ByteSource,
  fields: FieldSource | null,
  width: number,
  other: ByteSource | null,
): Row {
  const runs: Run[] = [];
  let field: FieldFacts | null = null;
  let style = '';
  let hex = '';
  let text = '';
  for (let index = 0; index < rowBytes; index++) {
    const at = offset + index;
    const byte = source.at(at);
    if (byte === -3) break;
    const nowField = fields?.fieldAt(at) ?? null;
    const nowStyle = styleOf(byte, nowField) + (other === null ? '' : differs(byte, other.at(at)));
    if (index > 0 && (nowStyle !== style || nowField !== field)) {
      runs.push({ hex, text, style });
      hex = '';
      text = '';
    }
    field = nowField;
    style = nowStyle;
    const gap = index === rowBytes - 1 ? '' : index === 7 ? '  ' : ' ';
    hex += (byte >= 0 ? digits[byte] : byte === -2 ? '??' : '··') + gap;
    text += byte >= 0 ? shown[byte] : byte === -2 ? '?' : ' ';
  }
  if (hex !== '') runs.push({ hex, text, style });
  return {
    offset,
    address: offset.toString(16).padStart(width, '0'),
    kind: fields?.regionAt(offset)?.kind ?? '',
    runs,
  };
}

function styleOf(byte: number, field: FieldFacts | null): string {
  if (byte === -2) return 'unreadable';
  if (byte === -1) return 'awaited';
  if (field === null) return byte === 0 ? 'nil' : '';
  const shade = Math.floor(field.start / Math.max(1, field.length)) % 2 === 0 ? 'even' : 'odd';
  return `field ${shade}${field.fault === null ? '' : ' faulty'}${field.target === undefined ? '' : ' leads'}`;
}

const differs = (byte: number, otherByte: number): string =>
  byte === -1 || otherByte === -1 || byte === otherByte ? '' : ' differs';

/** Where byte `index` of a row begins, in characters: hex digits, and text. */
export const hexColumn = (index: number): number => 3 * index + (index > 7 ? 1 : 0);

/** The byte of a row at a character of its hex part. */
export function byteAtColumn(column: number): number {
  const index = Math.floor((column > 24 ? column - 1 : column) / 3);
  return Math.min(rowBytes - 1, Math.max(0, index));
}

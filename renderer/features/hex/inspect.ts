// The bytes at the cursor as numbers, times, ids and text, in both byte orders.

/** A row of the data inspector: the key of its name, and what the bytes say. */
export interface Reading {
  readonly name: string;
  readonly value: string;
}

const integerWidths = [1, 2, 3, 4, 6, 8] as const;
const orders = [
  { order: 'LE', little: true },
  { order: 'BE', little: false },
] as const;

/** All readings of the bytes that begin at the cursor; what needs more bytes than there are is left out. */
export function inspect(bytes: Uint8Array): readonly Reading[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Reading[] = [];
  const add = (name: string, width: number, read: () => string | null): void => {
    const value = bytes.length < width ? null : read();
    if (value !== null) found.push({ name, value });
  };
  add('bits', 1, () => view.getUint8(0).toString(2).padStart(8, '0'));
  for (const width of integerWidths) {
    for (const { order, little } of width === 1 ? [{ order: '', little: true }] : orders) {
      const end = `${width * 8} ${order}`.trim();
      add(`u${end}`, width, () => `${integer(bytes, width, little)}`);
      add(`i${end}`, width, () => `${BigInt.asIntN(width * 8, integer(bytes, width, little))}`);
    }
  }
  for (const { order, little } of orders) {
    add(`f16 ${order}`, 2, () => real(half(view.getUint16(0, little)), 4));
    add(`f32 ${order}`, 4, () => real(view.getFloat32(0, little), 8));
    add(`f64 ${order}`, 8, () => real(view.getFloat64(0, little), 17));
  }
  add('ULEB128', 1, () => leb128(bytes, false));
  add('SLEB128', 1, () => leb128(bytes, true));
  add('GUID', 16, () => guid(bytes, true));
  add('UUID', 16, () => guid(bytes, false));
  for (const { order, little } of orders) {
    add(`time32 ${order}`, 4, () => time(view.getInt32(0, little) * 1000));
    add(`time64 ${order}`, 8, () => time(Number(view.getBigInt64(0, little)) * 1000));
  }
  add('FILETIME', 8, () => time(Number(view.getBigUint64(0, true) / 10_000n) - 11_644_473_600_000));
  add('VHD time', 4, () => time(view.getUint32(0, false) * 1000 + Date.UTC(2000, 0, 1)));
  add('DOS time', 4, () => dosTime(view.getUint16(2, true), view.getUint16(0, true)));
  add('CHS', 3, () => chs(bytes));
  add('UTF-8', 1, () => text(new TextDecoder('utf-8').decode(bytes)));
  add('UTF-16 LE', 2, () => text(new TextDecoder('utf-16le').decode(bytes)));
  add('UTF-16 BE', 2, () => text(new TextDecoder('utf-16be').decode(bytes)));
  return found;
}

function integer(bytes: Uint8Array, width: number, little: boolean): bigint {
  let value = 0n;
  for (let index = 0; index < width; index++) {
    value = (value << 8n) | BigInt(bytes[little ? width - 1 - index : index] ?? 0);
  }
  return value;
}

/** IEEE 754 binary16: one bit of sign, five of exponent, ten of fraction. */
function half(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

const real = (value: number, digits: number): string =>
  Number.isFinite(value) ? Number(value.toPrecision(digits)).toString() : `${value}`;

/** Seven bits a byte, the lowest first, up to ten bytes; null: it does not end here. */
function leb128(bytes: Uint8Array, signed: boolean): string | null {
  let value = 0n;
  for (let index = 0; index < Math.min(10, bytes.length); index++) {
    const byte = bytes[index] ?? 0;
    value |= BigInt(byte & 0x7f) << BigInt(7 * index);
    if ((byte & 0x80) === 0) return `${signed ? BigInt.asIntN(7 * (index + 1), value) : value}`;
  }
  return null;
}

function time(milliseconds: number): string {
  const date = new Date(milliseconds);
  return Number.isNaN(date.getTime()) ? '–' : date.toISOString().replace('.000Z', 'Z').replace('T', ' ');
}

/** Date in the upper, time in the lower word; none where a part cannot be. */
function dosTime(date: number, clock: number): string {
  const [day, month, year] = [date & 31, (date >> 5) & 15, 1980 + (date >> 9)];
  const [second, minute, hour] = [(clock & 31) * 2, (clock >> 5) & 63, clock >> 11];
  if (day === 0 || month === 0 || month > 12 || hour > 23 || minute > 59 || second > 59) return '–';
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${year}-${two(month)}-${two(day)} ${two(hour)}:${two(minute)}:${two(second)}`;
}

/** As in a partition table: head, sector with the upper two bits of the cylinder, cylinder. */
function chs([head = 0, sector = 0, cylinder = 0]: Uint8Array): string {
  return `${cylinder | ((sector & 0xc0) << 2)}/${head}/${sector & 0x3f}`;
}

/** `mixed`: the first three groups are little endian, as Windows formats store them. */
function guid(bytes: Uint8Array, mixed: boolean): string {
  const group = (from: number, length: number, little: boolean): string => {
    const digits = Array.from(bytes.subarray(from, from + length), (byte) => byte.toString(16).padStart(2, '0'));
    return (little ? digits.toReversed() : digits).join('');
  };
  return [group(0, 4, mixed), group(4, 2, mixed), group(6, 2, mixed), group(8, 2, false), group(10, 6, false)].join(
    '-',
  );
}

function text(decoded: string): string {
  const end = decoded.indexOf('\0');
  const whole = end < 0 ? decoded : decoded.slice(0, end);
  return whole.replaceAll(/\p{Cc}|\ufffd/gu, '·');
}

// The bytes at the cursor as numbers, times, ids and text, in both byte orders.

/** A row of the data inspector: the key of its name, and what the bytes say. */
export interface Reading {
  readonly name: string;
  readonly value: string;
}

/** All readings of the bytes that begin at the cursor; what needs more bytes than there are is left out. */
export function inspect(bytes: Uint8Array): readonly Reading[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Reading[] = [];
  const add = (name: string, width: number, read: () => string): void => {
    if (bytes.length >= width) found.push({ name, value: read() });
  };
  add('u8', 1, () => `${view.getUint8(0)}`);
  add('i8', 1, () => `${view.getInt8(0)}`);
  add('bits', 1, () => view.getUint8(0).toString(2).padStart(8, '0'));
  for (const little of [true, false]) {
    const order = little ? 'LE' : 'BE';
    add(`u16 ${order}`, 2, () => `${view.getUint16(0, little)}`);
    add(`i16 ${order}`, 2, () => `${view.getInt16(0, little)}`);
    add(`u32 ${order}`, 4, () => `${view.getUint32(0, little)}`);
    add(`i32 ${order}`, 4, () => `${view.getInt32(0, little)}`);
    add(`u64 ${order}`, 8, () => `${view.getBigUint64(0, little)}`);
    add(`i64 ${order}`, 8, () => `${view.getBigInt64(0, little)}`);
    add(`f32 ${order}`, 4, () => real(view.getFloat32(0, little)));
    add(`f64 ${order}`, 8, () => real(view.getFloat64(0, little)));
  }
  add('GUID', 16, () => guid(view, true));
  add('UUID', 16, () => guid(view, false));
  add('DOS', 4, () => dosTime(view.getUint16(2, true), view.getUint16(0, true)));
  add('FILETIME', 8, () => time(Number(view.getBigUint64(0, true) / 10_000n) - 11_644_473_600_000));
  add('time32 LE', 4, () => time(view.getUint32(0, true) * 1000));
  add('time32 BE', 4, () => time(view.getUint32(0, false) * 1000));
  add('time64 LE', 8, () => time(Number(view.getBigInt64(0, true)) * 1000));
  add('time64 BE', 8, () => time(Number(view.getBigInt64(0, false)) * 1000));
  add('UTF-8', 1, () => text(new TextDecoder('utf-8').decode(bytes)));
  add('UTF-16', 2, () => text(new TextDecoder('utf-16le').decode(bytes)));
  return found;
}

const real = (value: number): string => (Number.isFinite(value) ? Number(value.toPrecision(9)).toString() : `${value}`);

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

function guid(view: DataView, mixed: boolean): string {
  const digits = (from: number, length: number): string =>
    Array.from({ length }, (_, index) =>
      view
        .getUint8(from + index)
        .toString(16)
        .padStart(2, '0'),
    ).join('');
  const swapped = (from: number, length: number): string =>
    mixed ? (digits(from, length).match(/../g) ?? []).toReversed().join('') : digits(from, length);
  return [swapped(0, 4), swapped(4, 2), swapped(6, 2), digits(8, 2), digits(10, 6)].join('-');
}

function text(decoded: string): string {
  const end = decoded.indexOf('\0');
  const whole = end < 0 ? decoded : decoded.slice(0, end);
  return whole.replaceAll(/\p{Cc}|\ufffd/gu, '·');
}

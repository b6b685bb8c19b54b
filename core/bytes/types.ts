// The kinds of value that on-disk fields hold: how many bytes, how to read, write and print one.
import { ImageError, type Where } from '../errors/image-error.ts';

export type Endian = 'big' | 'little';

/** One kind of value: its width in bytes and its two directions. `show` is for people. */
export interface FieldType<T> {
  readonly width: number;
  read(view: DataView, offset: number, little: boolean, where: Where): T;
  write(view: DataView, offset: number, value: T, little: boolean): void;
  show(value: T): string;
}

const decimalAndHex = (value: number): string => (value > 9 ? `${value} (0x${value.toString(16)})` : String(value));

export const u8: FieldType<number> = {
  width: 1,
  read: (view, offset) => view.getUint8(offset),
  write: (view, offset, value) => view.setUint8(offset, value),
  show: decimalAndHex,
};

export const u16: FieldType<number> = {
  width: 2,
  read: (view, offset, little) => view.getUint16(offset, little),
  write: (view, offset, value, little) => view.setUint16(offset, value, little),
  show: decimalAndHex,
};

export const u32: FieldType<number> = {
  width: 4,
  read: (view, offset, little) => view.getUint32(offset, little),
  write: (view, offset, value, little) => view.setUint32(offset, value, little),
  show: decimalAndHex,
};

/** 64 bits as a number; a value that a number cannot hold exactly is refused (`storage/too-large`) with its place. */
export const u64: FieldType<number> = {
  width: 8,
  read(view, offset, little, where) {
    const high = view.getUint32(offset + (little ? 4 : 0), little);
    const low = view.getUint32(offset + (little ? 0 : 4), little);
    if (high > 0x1fffff) {
      throw new ImageError('storage/too-large', { found: `0x${hex32(high)}${hex32(low)}` }, where);
    }
    return high * 0x1_0000_0000 + low;
  },
  write(view, offset, value, little) {
    view.setUint32(offset + (little ? 4 : 0), Math.floor(value / 0x1_0000_0000), little);
    view.setUint32(offset + (little ? 0 : 4), value >>> 0, little);
  },
  show: decimalAndHex,
};

/** 64 bits that are not a quantity: feature bits, checksums. */
export const bits64: FieldType<bigint> = {
  width: 8,
  read: (view, offset, little) => view.getBigUint64(offset, little),
  write: (view, offset, value, little) => view.setBigUint64(offset, value, little),
  show: (value) => `0x${value.toString(16)}`,
};

/** `width` bytes as they are: reserved space, signatures, embedded blobs. */
export function bytes(width: number): FieldType<Uint8Array> {
  return {
    width,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, width).slice(),
    write(view, offset, value) {
      const into = new Uint8Array(view.buffer, view.byteOffset + offset, width);
      into.fill(0);
      into.set(value.subarray(0, width));
    },
    show: (value) => hexText(value.subarray(0, 16)) + (value.length > 16 ? ' …' : ''),
  };
}

/** `width` bytes of text, one byte per character, zero padded. */
export function ascii(width: number): FieldType<string> {
  return {
    width,
    read(view, offset) {
      let text = '';
      for (let i = 0; i < width; i++) {
        const code = view.getUint8(offset + i);
        if (code === 0) break;
        text += String.fromCharCode(code);
      }
      return text;
    },
    write(view, offset, value) {
      for (let i = 0; i < width; i++) view.setUint8(offset + i, i < value.length ? value.charCodeAt(i) & 0xff : 0);
    },
    show: (value) => JSON.stringify(value),
  };
}

/** A GUID in the mixed-endian layout of Windows formats (first three groups little-endian), as lower-case text. */
export const guid: FieldType<string> = {
  width: 16,
  read(view, offset) {
    const a = view.getUint32(offset, true).toString(16).padStart(8, '0');
    const b = view
      .getUint16(offset + 4, true)
      .toString(16)
      .padStart(4, '0');
    const c = view
      .getUint16(offset + 6, true)
      .toString(16)
      .padStart(4, '0');
    return `${a}-${b}-${c}-${plainHex(view, offset + 8, 2)}-${plainHex(view, offset + 10, 6)}`;
  },
  write(view, offset, value) {
    const digits = value.replaceAll('-', '');
    view.setUint32(offset, Number.parseInt(digits.slice(0, 8), 16), true);
    view.setUint16(offset + 4, Number.parseInt(digits.slice(8, 12), 16), true);
    view.setUint16(offset + 6, Number.parseInt(digits.slice(12, 16), 16), true);
    writePlainHex(view, offset + 8, digits.slice(16, 32));
  },
  show: (value) => `{${value}}`,
};

/** A UUID whose sixteen bytes stand in the order they are written (RFC 9562), as lower-case text. */
export const uuid: FieldType<string> = {
  width: 16,
  read(view, offset) {
    const digits = plainHex(view, offset, 16);
    return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join(
      '-',
    );
  },
  write: (view, offset, value) => writePlainHex(view, offset, value.replaceAll('-', '')),
  show: (value) => value,
};

function plainHex(view: DataView, offset: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++)
    text += view
      .getUint8(offset + i)
      .toString(16)
      .padStart(2, '0');
  return text;
}

function writePlainHex(view: DataView, offset: number, digits: string): void {
  for (let i = 0; i < digits.length / 2; i++) {
    view.setUint8(offset + i, Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
  }
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}

/** Bytes as `de ad be ef`. */
export function hexText(value: Uint8Array): string {
  return Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

// Sizes as qemu-img reads them: decimal with a fraction, hexadecimal, suffixes b k M G T P E in steps of 1024.
import { threeSignificantDigits } from './rounding.ts';

/** `value` null: not a size (`invalid`), or more than 64 bits hold (`range`). `hexSuffix`: allowed, and frowned upon. */
export interface ParsedSize {
  readonly value: bigint | null;
  readonly reason: 'invalid' | 'range' | null;
  readonly hexSuffix: boolean;
}

const suffixes = 'BKMGTPE';
const limit = 1n << 64n;

/** Reads all of `text`; `unit` multiplies a number without a suffix. Fractions of a byte are rounded. */
export function parseSize(text: string, unit: bigint = 1n): ParsedSize {
  const trimmed = text.replace(/^[ \t\n\v\f\r]+/, '');
  const match = /^\+?(?:(0[xX][0-9a-fA-F]+)|([0-9]+)(?:\.([0-9]*))?)([bBkKmMgGtTpPeE]?)$/.exec(trimmed);
  if (match === null) return { value: null, reason: 'invalid', hexSuffix: false };
  const [, hex, whole = '0', fraction = '', letter = ''] = match;
  const factor = letter === '' ? unit : 1024n ** BigInt(suffixes.indexOf(letter.toUpperCase()));
  const hexSuffix = hex !== undefined && letter !== '';
  let value = BigInt(hex ?? whole) * factor;
  if (fraction !== '' && /[1-9]/.test(fraction)) {
    if (factor === 1n) return { value: null, reason: 'invalid', hexSuffix };
    const parts = 10n ** BigInt(fraction.length);
    value += (2n * BigInt(fraction) * factor + parts) / (2n * parts);
  }
  if (value >= limit) return { value: null, reason: 'range', hexSuffix };
  return { value, reason: null, hexSuffix };
}

/** Three significant digits and a binary unit: `1.21 MiB`. */
export function humanSize(bytes: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
  let power = 0;
  while (power < units.length - 1 && bytes * 1.024 >= 1024 ** (power + 1)) power++;
  return `${threeSignificantDigits(bytes / 1024 ** power)} ${units[power]}B`;
}

// Bytes, rates, times and dates in words, in the language of the window.
import { settings, shownLanguage } from '../state/settings.svelte.ts';

/** What `make` makes for the language that is shown, made once: making one takes longer than a hundred uses of it. */
function inLanguage<Format>(make: (language: string) => Format): () => Format {
  const made = new Map<string, Format>();
  return () => {
    const language = shownLanguage();
    let format = made.get(language);
    if (format === undefined) made.set(language, (format = make(language)));
    return format;
  };
}

const numberFormats = [0, 1, 2].map((maximumFractionDigits) =>
  inLanguage((language) => new Intl.NumberFormat(language, { maximumFractionDigits })),
);
const countFormat = inLanguage((language) => new Intl.NumberFormat(language));
const percentFormats = [0, 1].map((maximumFractionDigits) =>
  inLanguage((language) => new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits })),
);
const dateFormat = inLanguage(
  (language) => new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }),
);
const agoFormat = inLanguage((language) => new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'narrow' }));

const binary = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
const decimal = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];

/** Three significant digits: `1.25 GiB`, or `1.34 GB` where decimal units are wanted. */
export function sizeText(bytes: number): string {
  const [units, step] = settings.units === 'decimal' ? [decimal, 1000] : [binary, 1024];
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${numberFormats[digits]?.().format(value) ?? value} ${units[unit] ?? ''}`;
}

export function countText(count: number): string {
  return countFormat().format(count);
}

export function percentText(ratio: number): string {
  const digits = ratio > 0 && ratio < 0.1 ? 1 : 0;
  return percentFormats[digits]?.().format(ratio) ?? '';
}

/** `1:05`, `2:03:10`. */
export function durationText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export function dateText(milliseconds: number): string {
  return dateFormat().format(milliseconds);
}

const steps: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['year', 31_556_952],
  ['month', 2_629_746],
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
];

/** `3 days ago`. */
export function agoText(milliseconds: number, now = Date.now()): string {
  const seconds = Math.round((milliseconds - now) / 1000);
  const format = agoFormat();
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) >= length) return format.format(Math.trunc(seconds / length), unit);
  }
  return format.format(0, 'second');
}

const powers = ['b', 'k', 'm', 'g', 't', 'p', 'e'];

/** `10G`, `1.5 TiB`, `4096` as bytes; null: that is no size, or not a whole number of bytes. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgtpe]?)(?:i?b)?$/i.exec(text.trim());
  if (match === null) return null;
  const power = Math.max(0, powers.indexOf((match[2] ?? '').toLowerCase() || 'b'));
  const bytes = Number(match[1]) * 1024 ** power;
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** The shortest way to write it so that `parseSize` and the command read it: `10G`. */
export function sizeInput(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && value % 1024 === 0 && unit < 6) {
    value /= 1024;
    unit += 1;
  }
  return `${value}${['', 'K', 'M', 'G', 'T', 'P', 'E'][unit] ?? ''}`;
}

/** `2040 GiB`, `31,457,792 B`: in the largest unit that says it exactly. */
export function exactSizeText(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && value % 1024 === 0 && unit < 6) {
    value /= 1024;
    unit += 1;
  }
  return `${countText(value)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'][unit] ?? ''}`;
}

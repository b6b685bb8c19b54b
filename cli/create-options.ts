// `-o`: creation options read by the rows of the format's driver, listed for `-o help`, and told in the line of create.
import { ImageError } from '../core/errors/image-error.ts';
import type { FormatDriver, OptionRow, OptionValue } from '../core/formats/driver.ts';
import { CommandError, outLine } from './print.ts';
import { asksForHelp, escapeCommas, isJoinable, parseKeyValues, sizeMessage } from './key-values.ts';
import { parseSize } from './size.ts';

/** What the protocol below any format (a file) takes besides. */
const fileRows: readonly OptionRow[] = [
  { name: 'nocow', type: 'bool', meaning: 'Turn off copy-on-write (valid only on btrfs)', shown: 'given' },
  {
    name: 'preallocation',
    type: 'string',
    meaning: 'Preallocation mode (allowed values: off, falloc, full)',
    values: ['off', 'falloc', 'full'],
    shown: 'given',
  },
  {
    name: 'extent_size_hint',
    type: 'size',
    meaning: 'Extent size hint for the image file, 0 to disable',
    shown: 'given',
  },
];

const typeNames: Record<OptionRow['type'], string> = {
  string: '<str>',
  size: '<size>',
  number: '<num>',
  bool: '<bool (on/off)>',
};

/** Refuses lists that cannot be joined with others. Throws `CommandError`. */
export function checkOptionLists(lists: readonly string[]): void {
  const bad = lists.find((list) => !isJoinable(list));
  if (bad !== undefined) throw new CommandError(`Invalid option list: ${bad}`);
}

/** One of the `-o` arguments asks for the list. */
export function optionHelpAsked(lists: readonly string[]): boolean {
  return lists.some(asksForHelp);
}

/** Prints the options of `driver`; with those of the file it will lie in, if it is named. */
export function printOptionHelp(driver: FormatDriver, withFile: boolean): void {
  const rows = (withFile ? allRows(driver) : ownRows(driver)).filter((row) => row.hidden !== true);
  outLine(withFile ? 'Supported options:' : `Supported ${driver.id} options:`);
  printRows(rows);
  if (withFile) return;
  outLine('\nThe protocol level may support further options.');
  outLine('Specify the target filename to include those options.');
}

/** A line for each row, by name. */
export function printRows(rows: readonly OptionRow[]): void {
  for (const { name, type, meaning } of [...rows].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    outLine(`${`  ${name}=${typeNames[type]}`.padEnd(24)} - ${meaning}`);
  }
}

/** Rows that are the format's own, not its file's. */
function ownRows(driver: FormatDriver): OptionRow[] {
  return driver.options.filter(
    (row) => !fileRows.some((other) => other.name === row.name && other.meaning === row.meaning),
  );
}

/** The format's own rows and those of the file that it has none of its own for, in the order of the line of create. */
function allRows(driver: FormatDriver): OptionRow[] {
  const own = ownRows(driver);
  return [...own, ...fileRows.filter((row) => !own.some(({ name }) => name === row.name))];
}

/**
 * The values that the `-o` arguments give, by name and of the types of the rows; the last one wins. Throws `ImageError` with
 * qemu-img's sentence for names that the format does not know and values that are not of the type.
 */
export function readCreateOptions(driver: FormatDriver, lists: readonly string[]): Record<string, OptionValue> {
  return readOptions(allRows(driver), lists);
}

/** The same for any rows. */
export function readOptions(rows: readonly OptionRow[], lists: readonly string[]): Record<string, OptionValue> {
  const options: Record<string, OptionValue> = {};
  for (const { name, value } of lists.flatMap((list) => parseKeyValues(list))) {
    const row = rows.find((candidate) => candidate.name === name);
    if (row === undefined) throw new ImageError('request/invalid-option', { name });
    options[name] = readValue(row, value);
  }
  return options;
}

function refuse(reason: string): ImageError {
  return new ImageError('request/invalid-value', { reason });
}

function readValue(row: OptionRow, text: string): OptionValue {
  switch (row.type) {
    case 'string':
      return text;
    case 'bool':
      if (['on', 'yes', 'true', 'y'].includes(text)) return true;
      if (['off', 'no', 'false', 'n'].includes(text)) return false;
      throw refuse(`Parameter '${row.name}' expects 'on' or 'off'`);
    case 'size': {
      const { value, reason } = parseSize(text);
      if (value === null) throw refuse(sizeMessage(row.name, text, reason));
      return Number(value);
    }
    case 'number': {
      if (!/^[ \t]*[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(text)) {
        throw refuse(`Parameter '${row.name}' expects a number`);
      }
      const negative = /^[ \t]*-/.test(text);
      const value = BigInt(text.trim().replace(/^[+-]/, ''));
      if (value >= 1n << 64n) throw refuse(`Value '${text}' is too large for parameter '${row.name}'`);
      return negative ? -Number(value) : Number(value);
    }
  }
}

/** `name=value` for each option in the order of the driver's rows, defaults where the row says so: the line of create. */
export function describeOptions(driver: FormatDriver, values: Readonly<Record<string, OptionValue>>): string {
  const parts: string[] = [];
  for (const row of allRows(driver)) {
    const value = values[row.name] ?? (row.shown === 'always' ? row.default : undefined);
    if (value !== undefined) parts.push(`${row.name}=${showValue(value)}`);
  }
  return parts.join(' ');
}

function showValue(value: OptionValue): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (typeof value === 'string') return escapeCommas(value);
  return Number.isInteger(value) ? String(BigInt(value)) : String(value);
}

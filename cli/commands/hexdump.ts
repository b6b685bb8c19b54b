// platter hexdump: bytes of an image's file or of the guest's disk, with what they mean.
import { pathOf, type Annotation } from '../../core/bytes/struct.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import { patternKinds, readPattern, type Match } from '../../core/operations/find-pattern.ts';
import { searchBack, searchOn } from '../../core/operations/search.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { lookOptions, openForLooking, type LookedAt } from '../looked-at.ts';
import { CommandError, complain, out, outLine, UsageError, warn } from '../print.ts';
import { readImageSize } from './create.ts';

const rowBytes = 16;
/** Places that are looked for before they are printed. */
const listedAtOnce = 256;
/** Bytes that are read at once. */
const piece = 64 * 1024;

export const spec = defineCommand({
  name: 'hexdump',
  summary: "print bytes of an image's file, or of the guest's disk, and what they mean",
  operands: 'FILE',
  options: {
    ...lookOptions,
    annotate: {
      short: 'a',
      long: ['annotate'],
      meaning: 'the fields of the structures below the bytes that hold them',
    },
    at: {
      long: ['at'],
      argument: 'PLACE',
      meaning:
        'begin there: 0x200, 1G, lba 2048, cluster 5, L2[3], BAT[17], header.l1_size, end-512, s2048, c5, l1, footer (default: 0)',
    },
    find: {
      long: ['find'],
      argument: 'PATTERN',
      meaning:
        'begin where this stands, from PLACE on: bytes in hex (`4D 5A ?? 5?`, ? is any digit), or what --as says',
    },
    as: {
      long: ['as'],
      argument: 'KIND',
      meaning: `what PATTERN is: ${patternKinds.join(', ')} (default: bytes; guid as Windows formats store it)`,
    },
    ignoreCase: { short: 'i', long: ['ignore-case'], meaning: 'upper and lower case of text are the same' },
    backwards: { long: ['backwards'], meaning: 'the last place before PLACE (without --at: before the end)' },
    all: { long: ['all'], meaning: 'each place of PATTERN as one line: its offset, and the bytes from there' },
    length: { short: 'n', long: ['length'], argument: 'SIZE', meaning: 'so many bytes (default: 256)' },
    output: sharedOptions.output,
  },
  notes: [
    'A line of bytes that repeats the one before is printed once, then `*`, unless fields are asked for. JSON: the bytes as hex, and the ' +
      'fields with path, value, meaning, section of the specification, and where they lead.',
    'What is known to read as zeroes is not searched, so that a sparse disk of any size takes a moment; what cannot be read is passed over, ' +
      'and said. Where the pattern is not found, the exit code is 1.',
  ],
  examples: [
    ['hexdump --annotate disk.qcow2', 'the header and what its fields mean'],
    ['hexdump --annotate --at=BAT[17] -n 4 disk.vhd', 'where block 17 is'],
    ["hexdump --guest --find='sshd' --as=utf-8 -i disk.qcow2", 'where the disk first says it'],
    ["hexdump --find='51 46 49 fb' --all disk.raw", 'all qcow2 headers in a file'],
    ['hexdump --guest --annotate -n 512 disk.vmdk', "the first sector of the guest's disk"],
  ],
});

export function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  return Promise.resolve().then(() => dump(args));
}

function dump(args: Arguments<keyof typeof spec.options>): number {
  const output = readOutput(args, (text) => new CommandError(text));
  const looked = openForLooking(args, spec.name);
  try {
    const place = placeOf(looked, args.last('at'));
    const found = searchFor(args, looked, place);
    if (found === 'listed') return 0;
    if (found === 'nothing') return 1;
    const start = found ?? place;
    const wanted = args.last('length');
    const asked = wanted === null ? 256 : Number(readImageSize(wanted, 'length'));
    const length = Math.min(asked, looked.size - start);
    if (output === 'json') printJson(looked, start, length, args.has('annotate'));
    else printHuman(looked, start, length, args.has('annotate'));
  } finally {
    looked.close();
  }
  return 0;
}

/** The first place of what `--find` names (null: it names nothing), or that all of them were printed. Throws `CommandError`, `UsageError`. */
function searchFor(
  args: Arguments<keyof typeof spec.options>,
  looked: LookedAt,
  from: number,
): number | 'listed' | 'nothing' | null {
  const text = args.last('find');
  const [all, backwards] = [args.has('all'), args.has('backwards')];
  if (text === null) {
    const lone = (['as', 'ignoreCase', 'backwards', 'all'] as const).find((key) => args.has(key));
    if (lone !== undefined)
      throw new UsageError(`--${lone === 'ignoreCase' ? 'ignore-case' : lone} belongs to --find`, spec.name);
    return null;
  }
  const kind = patternKinds.find((one) => one === (args.last('as') ?? 'bytes'));
  if (kind === undefined) throw new UsageError(`--as is one of ${patternKinds.join(', ')}`, spec.name);
  const pattern = lookedFor(() => readPattern({ kind, text, ignoreCase: args.has('ignoreCase') }));
  const search = backwards ? searchBack : searchOn;
  const width = Math.max(8, looked.size.toString(16).length);
  let unread = 0;
  let first: number | null = null;
  const start = backwards && !args.has('at') ? looked.size : from;
  for (let at: number | null = start; at !== null && (all || first === null);) {
    const step = search(looked.bytes, pattern, at, all ? listedAtOnce : 1, Infinity);
    unread += step.unread;
    at = step.next;
    first ??= step.matches[0]?.start ?? null;
    if (!all) continue;
    for (const match of step.matches) {
      outLine(`${match.start.toString(16).padStart(width, '0')}  ${rowText(rowFrom(looked, match))}`);
    }
  }
  if (unread > 0) warn(`${unread} bytes cannot be read and were passed over`);
  if (first === null) {
    complain(`'${text}' is not found`);
    return 'nothing';
  }
  return all ? 'listed' : first;
}

/** The bytes that a match begins; what stands behind it may be unreadable. */
function rowFrom(looked: LookedAt, { start, length }: Match): Uint8Array {
  const row = new Uint8Array(Math.min(rowBytes, looked.size - start));
  try {
    looked.read(row, start);
    return row;
  } catch (error) {
    if (!isImageError(error)) throw error;
    const own = row.subarray(0, length);
    looked.read(own, start);
    return own;
  }
}

function lookedFor<Result>(task: () => Result): Result {
  try {
    return task();
  } catch (error) {
    if (isImageError(error) && error.code.startsWith('look/')) throw new CommandError(error.message);
    throw error;
  }
}

function placeOf(looked: LookedAt, text: string | null): number {
  if (text === null) return 0;
  return lookedFor(() => looked.locate(text));
}

/** The bytes in pieces, with the fields that begin in or reach into each. */
function* pieces(
  looked: LookedAt,
  start: number,
  length: number,
  annotated: boolean,
): Generator<{ readonly at: number; readonly bytes: Uint8Array; readonly fields: readonly Annotation[] }, void, void> {
  const end = start + length;
  for (let at = start; at < end; at += piece) {
    const bytes = new Uint8Array(Math.min(piece, end - at));
    looked.read(bytes, at);
    yield { at, bytes, fields: annotated ? fieldsIn(looked, at, bytes.length) : [] };
  }
}

function fieldsIn(looked: LookedAt, start: number, length: number): Annotation[] {
  const found: Annotation[] = [];
  for (const region of looked.regions()) {
    if (region.start >= start + length) break;
    const from = Math.max(start, region.start);
    const to = Math.min(start + length, region.start + region.length);
    if (to > from) found.push(...region.annotate({ start: from, length: to - from }));
  }
  return found.sort((a, b) => a.start - b.start);
}

function printHuman(looked: LookedAt, start: number, length: number, annotated: boolean): void {
  const width = Math.max(8, (start + length).toString(16).length);
  let last = '';
  let skipped = false;
  for (const { at, bytes, fields } of pieces(looked, start, length, annotated)) {
    let next = 0;
    for (let within = 0; within < bytes.length; within += rowBytes) {
      const row = bytes.subarray(within, within + rowBytes);
      const shown = rowText(row);
      const end = at + within + row.length;
      if (shown === last && (fields[next]?.start ?? Infinity) >= end && row.length === rowBytes) {
        if (!skipped) outLine('*');
        skipped = true;
        continue;
      }
      outLine(`${(at + within).toString(16).padStart(width, '0')}  ${shown}`);
      last = shown;
      skipped = false;
      for (let field = fields[next]; field !== undefined && field.start < end; field = fields[++next]) {
        outLine(fieldText(field, width));
      }
    }
  }
  outLine((start + length).toString(16).padStart(width, '0'));
}

function rowText(row: Uint8Array): string {
  const digits = Array.from(row, (byte) => byte.toString(16).padStart(2, '0'));
  const text = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
  return `${digits.slice(0, 8).join(' ').padEnd(23)}  ${digits.slice(8).join(' ').padEnd(23)}  |${text}|`;
}

function fieldText(field: Annotation, width: number): string {
  const { start, length, value, meaning, target, fault } = field;
  const leads =
    target === undefined
      ? ''
      : ` → ${target.view === undefined ? '' : `${target.view} `}0x${target.offset.toString(16)}`;
  const wrong = fault === null ? '' : ` (wrong: ${fault})`;
  const place = `${start.toString(16).padStart(width, '0')}+${length}`;
  return `    ${place.padEnd(width + 5)} ${pathOf(field)} = ${value}${leads}${wrong}${meaning === '' ? '' : `  — ${meaning}`}`;
}

function printJson(looked: LookedAt, start: number, length: number, annotated: boolean): void {
  out(`{"start": ${start}, "length": ${length}, "bytes": "`);
  const fields: Annotation[] = [];
  for (const { bytes, fields: found } of pieces(looked, start, length, annotated)) {
    out(Buffer.from(bytes).toString('hex'));
    fields.push(...found);
  }
  const rows = fields.map((field) => {
    const { start: at, length: size, structure, value, meaning, section, target, fault } = field;
    return { path: pathOf(field), start: at, length: size, structure, value, meaning, section, target, fault };
  });
  out(`"${annotated ? `, "fields": ${JSON.stringify(rows)}` : ''}}\n`);
}

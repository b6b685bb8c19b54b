// platter map.
import { openImage } from '../../core/formats/open.ts';
import { mapEntries, rangeWithin, seenThrough, type MapEntry } from '../../core/operations/map.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { nameImage } from '../image-options.ts';
import { isLevel10 } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, out, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { readImageSize } from './create.ts';

export const spec = defineCommand({
  name: 'map',
  summary: 'list which parts of a disk are stored where',
  operands: 'FILE',
  options: {
    format: sharedOptions.format,
    start: { short: 's', long: ['start-offset'], argument: 'OFFSET', meaning: 'begin there (default: 0)' },
    length: { short: 'l', long: ['max-length'], argument: 'LENGTH', meaning: 'look at so many bytes (default: all)' },
    output: sharedOptions.output,
    share: sharedOptions.share,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'Human output lists stored data only, and ends with an error at compressed or encrypted data, which has no place that could be ' +
      'read as it is; --output=json lists everything.',
  ],
  examples: [
    ['map disk.qcow2', 'stored data and where it is'],
    ['map --output=json --start-offset=1G --max-length=64M disk.qcow2', 'everything about 64 MiB of the disk'],
  ],
});

export function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  return Promise.resolve().then(() => printMap(args));
}

function printMap(args: Arguments<keyof typeof spec.options>): number {
  const output = readOutput(args, (text) => new CommandError(text));
  const start = offsetOption(args.last('start'), 'start offset') ?? 0;
  const length = offsetOption(args.last('length'), 'max length');
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const named = nameImage(file, {
    format: args.last('format'),
    disk: args.last('disk'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret,
  });
  const job = startJob({ lines: wantsLines(args) });
  const { node } = attemptOpen(named.name, () => openImage(named.path, named.options));
  try {
    const found = mapEntries(node, rangeWithin(node.size, start, length), job.job);
    const entries = seenThrough(named.options.cache, found);
    if (output === 'json') printJson(entries, start);
    else printHuman(entries);
  } finally {
    node.close();
  }
  return 0;
}

/** What `open` opens, or the failure that names the image. */
export function attemptOpen<T>(name: string, open: () => T, exitCode = 1): T {
  try {
    return open();
  } catch (error) {
    throw openFailure(name, error, exitCode);
  }
}

/** Bytes that a number of the command line says; what is beyond every disk is as good as the end. */
function offsetOption(text: string | null, what: string): number | null {
  if (text === null) return null;
  const value = readImageSize(text, what);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}

function printHuman(entries: Iterable<MapEntry>): void {
  const hex = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16);
  outLine(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File`);
  for (const { start, length, offset, file, data, zero } of entries) {
    if (data && offset === null) {
      throw new CommandError('File contains external, encrypted or compressed clusters.');
    }
    if (data && !zero && offset !== null) outLine(`${hex(start)}${hex(length)}${hex(offset)}${file ?? ''}`);
  }
}

/** One entry per line. A range with nothing in it is one empty entry, as qemu-img has it. */
function printJson(entries: Iterable<MapEntry>, start: number): void {
  let lead = '[';
  for (const entry of entries) {
    out(`${lead}${line(entry)}`);
    lead = ',\n';
  }
  if (lead === '[') {
    const none = { length: 0, depth: 0, present: false, zero: false, data: false, compressed: false };
    out(`[${line({ ...none, start, offset: null, file: null })}`);
  }
  out(']\n');
}

function line({ start, length, depth, present, zero, data, compressed, offset }: MapEntry): string {
  return (
    `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, "zero": ${zero}, "data": ${data}` +
    `${isLevel10 ? `, "compressed": ${compressed}` : ''}${offset === null ? '' : `, "offset": ${offset}`}}`
  );
}

// platter map.
import type { BlockNode } from '../../core/block/node.ts';
import { isUnreadable } from '../../core/block/unreadable.ts';
import { openImage, type Reduction } from '../../core/formats/open.ts';
import { mapEntries, rangeWithin, seenThrough, type MapEntry } from '../../core/operations/map.ts';
import { fileLayers, guestLayers, type MapLayer } from '../../core/workbench/map/classes.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { nameImage } from '../image-options.ts';
import { isLevel10 } from '../level.ts';
import { printPicture, type PictureOptions } from '../map-picture.ts';
import { readSnapshotName } from '../snapshot-name.ts';
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
    picture: {
      long: ['picture'],
      meaning: 'draw it: a character for each run of clusters, and the bytes of each kind',
    },
    layer: {
      long: ['layer'],
      argument: 'LAYER',
      meaning:
        'of the picture: state (default), depth, extents, order, shared; with --file kinds (default), counts, pieces',
    },
    snapshot: {
      long: ['snapshot'],
      argument: 'SNAPSHOT',
      meaning: 'of the picture: the disk as it was in a snapshot (id or name)',
    },
    file: { long: ['file'], meaning: 'of the picture: the file, by what its parts are for, and not the disk' },
    role: {
      long: ['role'],
      argument: 'ROLE',
      meaning: 'of the picture: which file of several (data-file, extents.0, …)',
    },
    width: {
      long: ['width'],
      argument: 'N',
      meaning: 'of the picture: characters in a row (default: as the terminal has)',
    },
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
    ['map --picture disk.qcow2', 'what is stored where, at a glance'],
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
  const picture = pictureOf(args);
  const job = startJob({ lines: wantsLines(args) });
  // A picture shows also what cannot be read, and where; the list is qemu-img's, which refuses.
  const heard: Reduction[] = [];
  const lenient = picture === null ? {} : { lenient: (reduction: Reduction) => heard.push(reduction) };
  const { node, driver } = attemptOpen(named.name, () => openImage(named.path, { ...named.options, ...lenient }));
  try {
    if (picture !== null) {
      for (const { what, file, reason } of heard) {
        const missing = what === 'below' ? `The layers below ${file} are missing` : `${file} can be read in part only`;
        outLine(`${missing}: ${reason.message}`);
      }
      printPicture({ node, driver, depth: layersOf(node) }, picture, job.job);
      return 0;
    }
    const found = mapEntries(node, rangeWithin(node.size, start, length), job.job);
    const entries = seenThrough(named.options.cache, found);
    if (output === 'json') printJson(entries, start);
    else printHuman(entries);
  } finally {
    node.close();
  }
  return 0;
}

/** What the picture is asked to show; null: no picture is wanted. Throws `CommandError`. */
function pictureOf(args: Arguments<keyof typeof spec.options>): PictureOptions | null {
  const only = (['layer', 'file', 'role', 'width', 'snapshot'] as const).find((key) => args.has(key));
  if (!args.has('picture')) {
    if (only !== undefined) throw new CommandError(`--${only} belongs to --picture.`);
    return null;
  }
  const others = { output: 'output', start: 'start-offset', length: 'max-length' } as const;
  for (const key of ['output', 'start', 'length'] as const) {
    if (args.has(key)) throw new CommandError(`--picture shows all of it; --${others[key]} cannot be given.`);
  }
  const role = args.last('role') ?? (args.has('file') ? 'file' : null);
  const asked = args.last('layer');
  const snapshot = readSnapshotName(args.last('snapshot'));
  if (role !== null && snapshot !== null) throw new CommandError('--snapshot is for the disk, not for a file.');
  const layers: readonly MapLayer[] = role === null ? guestLayers : fileLayers;
  const layer = layers.find((one) => one === (asked ?? (role === null ? 'state' : 'kinds')));
  if (layer === undefined) throw new CommandError(`There is no layer '${asked}'; there are ${layers.join(', ')}.`);
  const width = args.last('width');
  if (width !== null && !/^[1-9][0-9]{0,2}$/.test(width))
    throw new CommandError('--width takes a number from 1 to 999.');
  return {
    view: role ?? 'guest',
    snapshot,
    layer,
    width: width === null ? Math.max(16, Math.min(999, (process.stdout.columns ?? 80) - 18)) : Number(width),
    colour: process.stdout.isTTY && process.env.NO_COLOR === undefined,
  };
}

function layersOf(node: BlockNode): number {
  let depth = 1;
  for (let below = node.backing; below !== null && !isUnreadable(below); below = below.backing) depth++;
  return depth;
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

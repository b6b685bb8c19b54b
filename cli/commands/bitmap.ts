// platter bitmap.
import { ImageError } from '../../core/errors/image-error.ts';
import { bitmap, type BitmapAction } from '../../core/operations/bitmap.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { nameImage } from '../image-options.ts';
import { isLevel10, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure } from '../print.ts';
import { startJob } from '../progress.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'bitmap',
  summary: 'change the dirty bitmaps that an image keeps',
  operands: 'FILE BITMAP',
  changesInPlace: true,
  options: {
    add: { long: ['add'], meaning: 'make the bitmap; no bit is set' },
    remove: { long: ['remove'], meaning: 'take the bitmap out of the image, also one that is inconsistent' },
    clear: { long: ['clear'], meaning: 'clear all its bits' },
    enable: { long: ['enable'], meaning: 'writers keep it up to date from now on' },
    disable: { long: ['disable'], meaning: 'it stays as it is, whatever is written' },
    merge: { long: ['merge'], argument: 'SOURCE', meaning: 'set every bit that is set in the bitmap SOURCE' },
    granularity: {
      short: 'g',
      long: ['granularity'],
      argument: 'SIZE',
      meaning: 'with --add: bytes of the disk per bit, a power of two (default: a cluster, between 4 and 64 KiB)',
    },
    sourceFile: {
      short: 'b',
      long: ['source-file'],
      argument: 'FILE',
      meaning: 'with --merge: SOURCE is in this image',
    },
    sourceFormat: { short: 'F', long: ['source-format'], argument: 'FORMAT', meaning: 'format of the source file' },
    format: sharedOptions.format,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
  },
  notes: [
    'Several actions are done in the order in which they are given; one that fails ends the command, and what was done before it stands. ' +
      'Only qcow2 images (compat 1.1) keep bitmaps. At any moment the old bitmaps or the new ones are in the image, never half of them.',
  ],
  examples: [
    ['bitmap --add disk.qcow2 since-monday', 'a new bitmap'],
    ['bitmap --merge tuesday -b other.qcow2 disk.qcow2 week', 'take over what another image has'],
    ['bitmap --add --disable -g 1M disk.qcow2 b', 'two actions at once'],
  ],
});

const actionNames = new Set(['add', 'remove', 'clear', 'enable', 'disable', 'merge']);

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const granularityText = args.all('granularity').map(readGranularity).at(-1) ?? null;
  const secret = secretSource(readObjects(args.all('object')));
  const actions = args.given.flatMap(([key, value]): BitmapAction[] => {
    if (key === 'merge') return [{ do: 'merge', from: value }];
    return actionNames.has(key) ? [{ do: key as Exclude<BitmapAction['do'], 'merge'> }] : [];
  });
  if (actions.length === 0) {
    throw new CommandError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (granularityText !== null && granularityText !== 0 && !args.has('add')) {
    throw new CommandError('granularity only supported with --add');
  }
  if (args.has('sourceFormat') && !args.has('sourceFile')) throw new CommandError('-F only supported with -b');
  if (args.has('sourceFile') && !args.has('merge')) {
    throw new CommandError('Merge bitmap source file only supported with --merge');
  }
  const [file, name, ...more] = args.operands;
  if (file === undefined || name === undefined || more.length > 0) {
    throw new CommandError('Expecting filename and bitmap name');
  }
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    writable: true,
    secret,
  });
  const sourceFile = args.last('sourceFile');
  const source = sourceFile === null ? null : nameImage(sourceFile, { format: args.last('sourceFormat'), secret });
  const command = startJob();
  try {
    await bitmap(
      {
        path: named.path,
        options: { ...named.options, guestData: false },
        name,
        actions,
        granularity: granularityText === 0 ? null : granularityText,
        source: source === null ? null : { path: source.path, options: { ...source.options, guestData: false } },
      },
      command.job,
    );
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if (/^(bitmap|in-place|request)\//.test(error.code)) throw new CommandError(error.message, { cause: error });
    const ofSource = source !== null && error.where.file === source.path;
    throw openFailure(ofSource ? source.name : named.name, error);
  }
  return 0;
}

/** Bytes; what does not fit 32 bits wraps around in qemu-img, and is refused as no power of two: so here. */
function readGranularity(text: string): number {
  const { value, reason } = parseSize(text);
  if (value !== null && value <= 0x7fff_ffff_ffff_ffffn) {
    return value > 0x8000_0000n ? -1 : Number(value);
  }
  if (reason === 'range' || value !== null) {
    throw new CommandError('Invalid granularity specified. Must be less than 8 EiB!');
  }
  if (isLevel10) throw new CommandError(`Invalid granularity specified: '${text}'.`);
  throw new CommandError(
    'Invalid granularity specified. You may use k, M, G, T, P or E suffixes for\n' +
      `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
  );
}

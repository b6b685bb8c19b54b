// platter resize.
import type { Preallocation } from '../../core/block/node.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import type { Partition } from '../../core/guest/partitions.ts';
import { resize, type ResizeParams, type ResizePlan, type ResizeResult } from '../../core/operations/resize.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { nameImage, type NamedImage } from '../image-options.ts';
import { sizeMessage } from '../key-values.ts';
import { actsAsQemuImg } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, complain, err, openFailure, outLine, place, quietLine, UsageError, warn } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';
import { humanSize, parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'resize',
  summary: 'give the disk of an image another size',
  operands: 'FILE [+|-]SIZE',
  changesInPlace: true,
  lastWord: 'Not enough arguments',
  options: {
    format: sharedOptions.format,
    preallocation: {
      long: ['preallocation'],
      argument: 'MODE',
      meaning: 'how the space for what is added is provided: off, metadata, falloc, full (default: off)',
    },
    shrink: { long: ['shrink'], meaning: 'allow a smaller size; what lies behind the new end is lost' },
    fixGpt: {
      long: ['fix-gpt'],
      meaning: 'put the backup GPT at the new end; refused where a partition would lose its end',
    },
    quiet: sharedOptions.quiet,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'SIZE alone is the new size; +SIZE is added, -SIZE taken away. What is added reads as zeroes. Partitions and file systems stay as ' +
      'they are: shrink them first, grow them afterwards, with the tools of the guest.',
    'Before a disk gets smaller, what lies behind its new end is told: stored data, partitions, the backup GPT. Without --shrink it ends ' +
      'there.',
    'raw, qcow, qcow2, vpc, vhdx, vmdk, vdi and luks are resized in place; a streamOptimized vmdk is written anew beside its file and ' +
      'then takes its place. At every moment the file has the old size or the new one.',
  ],
  examples: [
    ['resize disk.qcow2 +10G', 'ten GiB more'],
    ['resize --fix-gpt disk.vhdx 64G', 'the same for a disk with GPT: its backup moves to the new end'],
    ['resize --shrink disk.vmdk 8G', 'a smaller disk'],
  ],
});

const modes: readonly string[] = ['off', 'metadata', 'falloc', 'full'] satisfies Preallocation[];

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const preallocation = args.last('preallocation') ?? 'off';
  if (!modes.includes(preallocation)) throw new CommandError(`Invalid preallocation mode '${preallocation}'`);
  const [file, sizeText] = args.operands;
  if (file === undefined || sizeText === undefined || args.operands.length > 2) {
    throw new UsageError('Expecting image file name and size', spec.name);
  }
  const secret = secretSource(readObjects(args.all('object')));
  const quiet = args.has('quiet');
  const { by, bytes } = readSize(sizeText);
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    writable: true,
    secret,
  });
  const params: ResizeParams = {
    path: named.path,
    options: named.options,
    bytes,
    by,
    preallocation: preallocation as Preallocation,
    shrink: args.has('shrink'),
    fixGpt: args.has('fixGpt'),
    ...(await chosenDependents()),
  };
  const command = startJob({ lines: wantsLines(args), tidies: true });
  let plan: ResizePlan | null = null;
  try {
    const result = await resize(params, command.job, {
      opened: (driver) => warnOfGuessedRaw(file, named.options.format, driver),
      planned(known) {
        plan = known;
        if (params.shrink && !quiet) sayBeforehand(known);
        if (known.rewrite !== null && !quiet) sayRewrite(file, known.rewrite);
      },
    });
    command.end(true);
    quietLine(quiet, 'Image resized.');
    if (!quiet) sayAfterwards(result);
    return 0;
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (exitCode !== null && error instanceof ImageError && error.code === 'request/cancelled') return exitCode;
    return fail(error, named, plan);
  }
}

/** `[+|-]SIZE`. qemu-img counts in 63 bits and a sign; what does not fit is no positive size. Throws `CommandError`. */
function readSize(text: string): { by: ResizeParams['by']; bytes: number } {
  const sign = text.charAt(0);
  const by = sign === '+' ? 'plus' : sign === '-' ? 'minus' : 'absolute';
  const digits = by === 'absolute' ? text : text.slice(1);
  const { value, reason, hexSuffix } = parseSize(digits);
  if (hexSuffix) warn(`Using a multiplier suffix on hex numbers is deprecated: ${digits}`);
  if (value === null) throw new CommandError(sizeMessage('size', digits, reason));
  return { by, bytes: Number(BigInt.asIntN(64, value)) };
}

function fail(error: unknown, named: NamedImage, plan: ResizePlan | null): number {
  if (!(error instanceof ImageError)) throw error;
  if (plan === null && !error.code.startsWith('resize/')) throw openFailure(named.name, error);
  complain(error.message + (error.code === 'resize/shrink' ? '' : place(error)));
  if (error.code === 'resize/shrink') {
    warn(
      "Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure there " +
        'is no important data there.',
    );
    if (plan !== null) sayBeforehand(plan);
  }
  return 1;
}

/** What a smaller size takes away. qemu-img says nothing of it. */
function sayBeforehand({ asked, beyond }: ResizePlan): void {
  if (actsAsQemuImg || beyond === null) return;
  const { storedBytes, partitions, backupGpt } = beyond;
  const lines = [
    storedBytes === 0
      ? `No data is stored beyond the new end (byte ${asked}).`
      : `Beyond the new end (byte ${asked}): ${storedBytes} bytes (${humanSize(storedBytes)}) of stored data.`,
    ...partitions.map((partition) => partitionLine(partition, asked)),
    ...(backupGpt ? ['The backup GPT lies beyond the new end; --fix-gpt moves it.'] : []),
  ];
  err(`${lines.join('\n')}\n`);
}

function partitionLine({ number, start, length, type, name, table }: Partition, end: number): string {
  const called = name === '' ? '' : ` '${printable(name)}'`;
  const kind = table === 'mbr' ? `type 0x${type}` : `type ${type}`;
  const where = `${humanSize(length)} from byte ${start}`;
  const lost = start >= end ? 'lies beyond it' : `ends ${start + length - end} bytes beyond it`;
  return `Partition ${number}${called} (${kind}, ${where}) ${lost}.`;
}

/** A name from the disk, without what a terminal would obey. */
function printable(name: string): string {
  return name.replaceAll(/\p{Cc}|\p{Cf}/gu, '?');
}

function sayRewrite(file: string, reason: string): void {
  if (!actsAsQemuImg) err(`'${file}' is written anew beside its file: ${reason}.\n`);
}

function sayAfterwards({ asked, size, gptLeftBehind }: ResizeResult): void {
  if (actsAsQemuImg) return;
  if (size !== asked) outLine(`The disk has ${size} bytes: this format rounds ${asked} up.`);
  if (gptLeftBehind) {
    outLine('The backup GPT does not stand at the end of the disk any more; resize --fix-gpt moves it there.');
  }
}

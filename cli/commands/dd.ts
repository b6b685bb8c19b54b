// platter dd.
import { ImageError } from '../../core/errors/image-error.ts';
import { createDriverNamed } from '../../core/formats/registry.ts';
import { dd, planDd, type DdParams } from '../../core/operations/dd.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { nameImage, type NamedImage } from '../image-options.ts';
import { isLevel10, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { complain, CommandError, openFailure, openSentence, outLine } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'dd',
  summary: 'copy a number of blocks of an image into a new one',
  operands: 'if=INPUT of=OUTPUT [bs=SIZE] [count=N] [skip=N]',
  options: {
    format: { short: 'f', long: ['format'], argument: 'FORMAT', meaning: 'format of the input (default: probed)' },
    outputFormat: {
      short: 'O',
      long: ['output-format'],
      argument: 'FORMAT',
      meaning: 'format of the output (default: raw)',
    },
    share: sharedOptions.share,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
    dryRun: { long: ['dry-run'], meaning: 'say what would be copied and touch nothing' },
  },
  notes: [
    'Operands: if=INPUT and of=OUTPUT name the images; bs=SIZE is the size of a block (default: 512); skip=N leaves N blocks out at ' +
      'the start; count=N ends after block N of the input, skipped ones included, as with qemu-img.',
    'The output is a new image as large as what is copied.',
  ],
  examples: [
    ['dd if=disk.qcow2 of=mbr.bin count=1', 'the first sector as a raw file'],
    ['dd -O qcow2 bs=1M count=64 if=disk.raw of=start.qcow2', 'the first 64 MiB as qcow2'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const operands = readOperands(args.operands);
  const input = operands.get('if');
  const output = operands.get('of');
  if (input === undefined || output === undefined) {
    throw new CommandError('Must specify both input and output files');
  }
  const secret = secretSource(readObjects(args.all('object')));
  const format = args.last('outputFormat') ?? 'raw';
  const named = nameImage(input, {
    format: args.last('format'),
    disk: args.last('disk'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret,
  });
  const params: DdParams = {
    input: { path: named.path, options: named.options },
    output,
    format,
    blockSize: blockSize(operands.get('bs')),
    count: operands.has('count') ? blockCount(operands.get('count') ?? '', 'count') : null,
    skip: blockCount(operands.get('skip') ?? '0', 'skip'),
  };
  const lines = wantsLines(args);
  const planned = attemptPlan(params, named);
  checkOutput(format);
  if (planned.skippedPastEnd) complain(`${named.name}: cannot skip to specified offset`);
  if (args.has('dryRun')) {
    outLine(
      `Would be done: ${planned.length} bytes from offset ${planned.start} of ${named.name} to ${output} (${format})`,
    );
    return 0;
  }
  const command = startJob({ lines, tidies: true });
  try {
    await dd(params, command.job);
    command.end(true);
    return 0;
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (exitCode !== null && error instanceof ImageError && error.code === 'request/cancelled') return exitCode;
    throw describeFailure(error, named, output);
  }
}

function attemptPlan(params: DdParams, named: NamedImage): ReturnType<typeof planDd> {
  try {
    return planDd(params);
  } catch (error) {
    throw openFailure(named.name, error);
  }
}

function checkOutput(format: string): void {
  let driver;
  try {
    driver = createDriverNamed(format);
  } catch (error) {
    throw error instanceof ImageError ? new CommandError('Unknown file format') : error;
  }
  if (driver.create === undefined) {
    throw new CommandError(`Format driver '${driver.id}' does not support image creation`);
  }
}

function describeFailure(error: unknown, input: NamedImage, output: string): unknown {
  if (!(error instanceof ImageError)) return error;
  if (error.code !== 'convert/create') {
    return new CommandError(
      `error while reading or writing: ${openSentence(error)} (from ${input.name} to ${output})`,
      {
        cause: error,
      },
    );
  }
  const inner = error.cause instanceof ImageError ? error.cause : error;
  const reason = inner.code === 'storage/open' ? `Could not create '${output}': ${inner.message}` : openSentence(inner);
  return new CommandError(`${output}: error while creating output image: ${reason}`, { cause: error });
}

const known = ['bs', 'count', 'if', 'of', 'skip'];

function readOperands(operands: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const operand of operands) {
    const equals = operand.indexOf('=');
    const name = equals < 0 ? operand : operand.slice(0, equals);
    if (equals < 0 || !known.includes(name)) throw new CommandError(`unrecognized operand ${name}`);
    values.set(name, operand.slice(equals + 1));
    if (name === 'bs') blockSize(values.get(name));
    else if (name === 'count' || name === 'skip') blockCount(values.get(name) ?? '', name);
  }
  return values;
}

function number(text: string, what: string, least: bigint, most: bigint): number {
  const { value, reason } = parseSize(text);
  if (reason === 'range' || (value !== null && (value < least || value > most))) {
    throw new CommandError(`Invalid ${what} specified. Must be between ${least} and ${most}.`);
  }
  if (value !== null) return Number(value);
  if (isLevel10) throw new CommandError(`Invalid ${what} specified: '${text}'.`);
  throw new CommandError(
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
      `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
  );
}

function blockSize(text: string | undefined): number {
  return text === undefined ? 512 : number(text, 'bs', 1n, 2147483647n);
}

function blockCount(text: string, what: 'count' | 'skip'): number {
  return number(text, what, 0n, 9223372036854775807n);
}

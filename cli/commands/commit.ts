// platter commit.
import { ImageError } from '../../core/errors/image-error.ts';
import { commit, type CommitResult } from '../../core/operations/commit.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { cacheMode, nameImage } from '../image-options.ts';
import { actsAsQemuImg, isLevel10, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, openSentence, quietLine, UsageError, warn } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'commit',
  summary: 'write what an overlay holds into the image below it',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    format: sharedOptions.format,
    cache: {
      short: 't',
      long: ['cache'],
      argument: 'CACHE',
      meaning: 'cache mode: none, writeback, writethrough, directsync, unsafe (default: writeback)',
    },
    base: {
      short: 'b',
      long: ['base'],
      argument: 'BASE',
      meaning:
        'commit into this image of the chain, not the one directly below; implies -d. Images in between lose their meaning',
    },
    drop: { short: 'd', long: ['drop'], meaning: 'leave FILE as it is: it will be deleted' },
    rate: {
      short: 'r',
      long: ['rate-limit', 'rate'],
      argument: 'RATE',
      meaning: 'bytes per second at most (suffixes k, M, G)',
    },
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
  },
  notes: [
    'A base that is smaller than FILE grows. FILE is emptied when its content is in the base and on the disk, not before: after an error ' +
      'or a crash FILE reads as it did, and commit can be run again.',
  ],
  examples: [
    ['commit overlay.qcow2', 'into its base; the overlay is empty afterwards'],
    ['commit -b base.qcow2 top.qcow2', 'past the images in between; delete those and top.qcow2 afterwards'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const rate = readRate(args.last('rate'));
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const cache = cacheMode(args.last('cache') ?? 'writeback', 'cache');
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    writable: true,
    secret,
    cache,
  });
  const quiet = args.has('quiet');
  const command = startJob({ bar: args.has('bar') && !quiet, lines: wantsLines(args), tidies: true });
  let result: CommitResult;
  try {
    result = await commit(
      {
        path: named.path,
        options: named.options,
        base: args.last('base'),
        keep: args.has('drop'),
        rate,
        ...(await chosenDependents()),
      },
      command.job,
      (driver) => warnOfGuessedRaw(named.path, named.options.format, driver),
    );
    command.end(true);
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (exitCode !== null && error instanceof ImageError && error.code === 'request/cancelled') return exitCode;
    throw describeFailure(error, named.name);
  }
  if (result.emptied === false && !actsAsQemuImg) {
    warn(`images of this format cannot be emptied: ${named.name} still holds what is in its base now`);
  }
  quietLine(quiet, 'Image committed.');
  return 0;
}

function readRate(text: string | null): number {
  if (text === null) return 0;
  const { value, reason } = parseSize(text);
  if (value !== null && value <= 9223372036854775807n) return Number(value);
  if (reason === 'range' || value !== null) {
    throw new CommandError('Invalid rate limit specified. Must be between 0 and 9223372036854775807.');
  }
  if (isLevel10) throw new CommandError(`Invalid rate limit specified: '${text}'.`);
  throw new CommandError(
    'Invalid rate limit specified. You may use k, M, G, T, P or E suffixes for\n' +
      `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
  );
}

function describeFailure(error: unknown, name: string): unknown {
  if (!(error instanceof ImageError) || error.code === 'request/cancelled') return error;
  if (error.code === 'commit/open' && error.cause instanceof ImageError) {
    const inner = openSentence(error.cause);
    const isHost = error.cause.code.startsWith('storage/');
    const text = isHost ? inner : `Could not open '${String(error.facts.name)}': ${inner}`;
    return new CommandError(text, { cause: error });
  }
  if (/^(commit|in-place)\//.test(error.code)) return new CommandError(error.message, { cause: error });
  return openFailure(name, error);
}

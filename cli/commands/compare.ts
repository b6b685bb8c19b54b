// platter compare.
import { ImageError } from '../../core/errors/image-error.ts';
import { compare, type CompareResult } from '../../core/operations/compare.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { cacheMode, diskOf, nameImage } from '../image-options.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openSentence, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'compare',
  summary: 'say whether two images hold the same disk',
  operands: 'FILE1 FILE2',
  options: {
    firstFormat: { short: 'f', long: ['a-format'], argument: 'FORMAT', meaning: 'format of FILE1 (default: probed)' },
    secondFormat: { short: 'F', long: ['b-format'], argument: 'FORMAT', meaning: 'format of FILE2 (default: probed)' },
    cache: sharedOptions.cache,
    strict: {
      short: 's',
      long: ['strict'],
      meaning: 'the sizes and what is stored must agree too, not only the content',
    },
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
    share: sharedOptions.share,
    disk: {
      ...sharedOptions.disk,
      meaning: `${sharedOptions.disk.meaning}; the first one is for FILE1, a second one for FILE2`,
    },
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
  },
  notes: [
    'Without -s, what the longer disk has past the end of the shorter one must read as zeroes.',
    'Exit codes: 0 the same; 1 different; 2 an image cannot be opened; 3 its tables cannot be read; 4 its data cannot be read.',
  ],
  examples: [['compare disk.vmdk disk.qcow2', 'whether a conversion went well']],
});

const exitCodes: Readonly<Record<string, number>> = { 'compare/open': 2, 'compare/allocation': 3, 'compare/read': 4 };

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const quiet = args.has('quiet');
  const [first, second, ...others] = args.operands;
  const secret = secretSource(readObjects(args.all('object'), 2));
  if (first === undefined || second === undefined || others.length > 0) {
    throw new UsageError('Expecting two image file names', spec.name);
  }
  const cache = args.last('cache');
  const naming = {
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    exitCode: 2,
    secret,
    ...(cache === null ? {} : { cache: cacheMode(cache, 'source cache', 2) }),
  };
  const command = startJob({ bar: args.has('bar') && !quiet, step: 2, lines: wantsLines(args) });
  let result: CompareResult;
  try {
    result = await compare(
      {
        first: nameImage(first, { ...naming, format: args.last('firstFormat'), disk: diskOf(args.all('disk'), 0) }),
        second: nameImage(second, { ...naming, format: args.last('secondFormat'), disk: diskOf(args.all('disk'), 1) }),
        strict: args.has('strict'),
      },
      command.job,
    );
  } catch (error) {
    command.end(false);
    throw describeFailure(error);
  }
  if (!quiet) printResult(result, args.has('strict'));
  command.end(false);
  return result.verdict === 'identical' ? 0 : 1;
}

function printResult({ verdict, offset, sizes }: CompareResult, strict: boolean): void {
  const shared = Math.min(...sizes);
  if (verdict === 'size') outLine('Strict mode: Image size mismatch!');
  else if (verdict === 'status') outLine(`Strict mode: Offset ${offset} block status mismatch!`);
  else {
    const reachedEnd = verdict === 'identical' || (offset ?? 0) >= shared;
    if (!strict && sizes[0] !== sizes[1] && reachedEnd) outLine('Warning: Image size mismatch!');
    outLine(verdict === 'identical' ? 'Images are identical.' : `Content mismatch at offset ${offset}!`);
  }
}

function describeFailure(error: unknown): unknown {
  if (!(error instanceof ImageError)) return error;
  const exitCode = exitCodes[error.code];
  if (exitCode === undefined) return error;
  const text =
    error.code === 'compare/open' && error.cause instanceof ImageError
      ? `Could not open '${error.facts.name}': ${openSentence(error.cause)}`
      : error.message;
  return new CommandError(text, { exitCode, cause: error });
}

// platter digest: a checksum of what the guest sees.
import { digest, digestAlgorithms, type DigestAlgorithm, type DigestResult } from '../../core/operations/digest.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { cacheMode, nameImage } from '../image-options.ts';
import { inOrder } from '../json.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'digest',
  summary: "print a checksum of the guest's disk: the same for the same disk in every format",
  operands: 'FILE…',
  options: {
    algorithm: {
      short: 'a',
      long: ['algorithm'],
      argument: digestAlgorithms.join('|'),
      meaning: 'which checksum (default: sha256)',
    },
    format: sharedOptions.format,
    output: sharedOptions.output,
    bar: sharedOptions.bar,
    share: sharedOptions.share,
    cache: sharedOptions.cache,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'The checksum is over every byte that a guest would read, layers below and zeroes included: that of a raw copy of the disk. A disk that ' +
      'grows at its end has another one.',
  ],
  examples: [['digest disk.vmdk disk.qcow2', 'two equal lines: the disks hold the same']],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const algorithm = digestAlgorithms.find((known) => known === (args.last('algorithm') ?? 'sha256'));
  if (algorithm === undefined) {
    throw new UsageError(
      `Unknown checksum '${args.last('algorithm')}' (expecting ${digestAlgorithms.join(', ')})`,
      spec.name,
    );
  }
  if (args.operands.length === 0) throw new UsageError('Expecting at least one image file name', spec.name);
  const secret = secretSource(readObjects(args.all('object')));
  const cache = args.last('cache');
  const command = startJob({ bar: args.has('bar'), lines: wantsLines(args), tidies: true });
  const results: (DigestResult & { readonly filename: string })[] = [];
  try {
    for (const file of args.operands) {
      const named = nameImage(file, {
        format: args.last('format'),
        imageOpts: args.has('imageOpts'),
        share: args.has('share'),
        secret,
        ...(cache === null ? {} : { cache: cacheMode(cache, 'source cache') }),
      });
      results.push({ filename: named.name, ...(await digestOne(named, algorithm, command.job)) });
    }
    command.end(true);
  } catch (error) {
    command.end(false);
    const code = command.exitCode();
    if (code !== null) return code;
    throw error;
  }
  if (output === 'json') outLine(inOrder(results));
  else for (const { value, filename } of results) outLine(`${value}  ${filename}`);
  return 0;
}

async function digestOne(
  named: ReturnType<typeof nameImage>,
  algorithm: DigestAlgorithm,
  job: Parameters<typeof digest>[1],
): Promise<DigestResult> {
  try {
    return await digest({ path: named.path, options: named.options, algorithm }, job);
  } catch (error) {
    if (error instanceof ImageError && error.code === 'request/cancelled') throw error;
    throw openFailure(named.name, error);
  }
}

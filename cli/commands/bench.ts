// platter bench.
import { ImageError } from '../../core/errors/image-error.ts';
import { bench } from '../../core/operations/bench.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { cacheMode, nameImage } from '../image-options.ts';
import { actsAsQemuImg, isLevel10, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, flushOut, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'bench',
  summary: 'time a number of equal requests to an image',
  operands: 'FILE',
  options: {
    format: sharedOptions.format,
    count: { short: 'c', long: ['count'], argument: 'N', meaning: 'requests in all (default: 75000)' },
    depth: { short: 'd', long: ['depth'], argument: 'N', meaning: 'requests under way at once (default: 64)' },
    offset: {
      short: 'o',
      long: ['offset'],
      argument: 'OFFSET',
      meaning: 'where the first request begins (default: 0)',
    },
    length: { short: 's', long: ['buffer-size'], argument: 'SIZE', meaning: 'bytes of a request (default: 4k)' },
    step: {
      short: 'S',
      long: ['step-size'],
      argument: 'SIZE',
      meaning: 'from the start of a request to that of the next (default: the size of a request)',
    },
    write: { short: 'w', long: ['write'], meaning: 'write; the content of FILE is overwritten' },
    pattern: { long: ['pattern'], argument: 'BYTE', meaning: 'the byte that is written (default: 0)' },
    flushInterval: { long: ['flush-interval'], argument: 'N', meaning: 'flush after N requests (with -w)' },
    noDrain: { long: ['no-drain'], meaning: 'do not wait for the requests under way before a flush' },
    native: { short: 'n', long: ['native'], meaning: 'the same as -i native' },
    aio: { short: 'i', long: ['aio'], argument: 'AIO', meaning: 'how the host is asked; only "threads" is available' },
    cache: { short: 't', long: ['cache'], argument: 'CACHE', meaning: 'cache mode (default: writeback)' },
    share: sharedOptions.share,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
  },
  notes: ['With -w this destroys the content of FILE, and there is no way back.'],
  examples: [
    ['bench -c 10000 disk.qcow2', 'ten thousand reads of 4 KiB in a row'],
    ['bench -w -S 64k --pattern 7 scratch.qcow2', 'writes 64 KiB apart'],
  ],
});

type Key = keyof typeof spec.options;

export async function run(args: Arguments<Key>): Promise<number> {
  const count = number(args, 'count', 75000, 'Invalid request count specified', 0x7fffffff);
  const depth = number(args, 'depth', 64, 'Invalid queue depth specified', 0x7fffffff);
  const pattern = number(args, 'pattern', 0, 'Invalid pattern byte specified', 0xff);
  const flushInterval = number(args, 'flushInterval', 0, 'Invalid flush interval specified', 0x7fffffff);
  const offset = size(args, 'offset', 'offset', 0, 9223372036854775807n);
  const length = size(args, 'length', 'buffer size', 4096, 0x7fffffffn);
  const step = size(args, 'step', 'step_size', 0, 0x7fffffffn) || length;
  const aio = args.last('aio');
  if (aio !== null && !['threads', 'native', 'io_uring'].includes(aio)) {
    throw new CommandError(`Invalid aio option: ${aio}`);
  }
  const cache = readCache(args.last('cache'));
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const write = args.has('write');
  if (!write && flushInterval > 0) throw new CommandError('--flush-interval is only available in write tests');
  if (flushInterval > 0 && flushInterval < depth) throw new CommandError("Flush interval can't be smaller than depth");
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    writable: write,
    secret,
    cache,
  });
  const wanted = args.has('native') ? 'native' : aio;
  if (wanted !== null && wanted !== 'threads') refuseAio(wanted, named.name, cache);
  // qemu-img says it all the same.
  const quiet = args.has('quiet') && !actsAsQemuImg;
  const say = (line: string): void => {
    if (!quiet) outLine(line);
  };
  const drain = !args.has('noDrain');
  const params = { path: named.path, options: named.options, write, count, depth, offset, length, step, pattern };
  const command = startJob({ lines: wantsLines(args), tidies: true });
  try {
    const { seconds } = await bench({ ...params, flushInterval, drain }, command.job, () => {
      say(
        `Sending ${count} ${write ? 'write' : 'read'} requests, ${length} bytes each, ${depth} in parallel ` +
          `(starting at offset ${offset}, step size ${step})`,
      );
      if (flushInterval > 0) say(`Sending flush every ${flushInterval} requests`);
      flushOut();
    });
    say(`Run completed in ${seconds.toFixed(3)} seconds.`);
    command.end(true);
    return 0;
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (!(error instanceof ImageError)) throw error;
    if (exitCode !== null && error.code === 'request/cancelled') return exitCode;
    if (/^(bench|in-place)\//.test(error.code)) throw new CommandError(error.message, { cause: error });
    throw openFailure(named.name, error);
  }
}

/** Only the threads of the run time are there; what QEMU says of its own way without its own cache setting comes first. */
function refuseAio(aio: string, name: string, cache: string): never {
  const direct = cache === 'none' || cache === 'directsync';
  const reason =
    aio === 'native' && !direct
      ? 'aio=native was specified, but it requires cache.direct=on, which was not specified.'
      : `aio=${aio} was specified, but is not supported in this build.`;
  throw new CommandError(`Could not open '${name}': ${reason}`);
}

function readCache(text: string | null): ReturnType<typeof cacheMode> {
  try {
    return cacheMode(text ?? 'writeback', 'cache');
  } catch (error) {
    throw error instanceof CommandError ? new CommandError('Invalid cache mode') : error;
  }
}

/** A number as strtoul reads it: decimal, 0x…, or octal after a 0. */
function number(args: Arguments<Key>, key: Key, fallback: number, refusal: string, most: number): number {
  const text = args.last(key)?.trim();
  if (text === undefined) return fallback;
  const octal = /^\+?0[0-7]+$/.test(text);
  const value = octal
    ? Number.parseInt(text.replace('+', ''), 8)
    : /^\+?(0x[0-9a-f]+|[0-9]+)$/i.test(text)
      ? Number(text)
      : NaN;
  if (!Number.isSafeInteger(value) || value > most) throw new CommandError(refusal);
  return value;
}

function size(args: Arguments<Key>, key: Key, what: string, fallback: number, most: bigint): number {
  const text = args.last(key);
  if (text === null) return fallback;
  const { value, reason } = parseSize(text);
  if (value !== null && value <= most) return Number(value);
  if (reason === 'range' || value !== null) {
    throw new CommandError(`Invalid ${what} specified. Must be between 0 and ${most}.`);
  }
  if (isLevel10) throw new CommandError(`Invalid ${what} specified: '${text}'.`);
  throw new CommandError(
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
      `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
  );
}

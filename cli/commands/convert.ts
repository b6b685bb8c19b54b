// convert: the content of one image, or of several in a row, into a new image or over an existing one.
import type { SecretSource } from '../../core/block/crypto/secret.ts';
import type { CacheMode } from '../../core/block/file.ts';
import type { BackingReference } from '../../core/block/node.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import type { FormatDriver, OptionValue } from '../../core/formats/driver.ts';
import { createDriverNamed } from '../../core/formats/registry.ts';
import { convert, type ConvertParams, type ConvertResult } from '../../core/operations/convert.ts';
import { convertFor, gptSentence, type ConvertForResult } from '../../core/profiles/convert-for.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { chosenProfile, dryRunOfConvert } from '../convert-profile.ts';
import { checkOptionLists, optionHelpAsked, printOptionHelp, readCreateOptions } from '../create-options.ts';
import { plainPath } from '../described-image.ts';
import { chosenPolicy } from '../gate-policy.ts';
import { cacheMode, diskOf, nameImage, type NamedImage } from '../image-options.ts';
import { actsAsQemuImg, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, openSentence, outLine, warn } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';
import { readSnapshotName } from '../snapshot-name.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'convert',
  summary: 'copy the content of an image into a new one, of any format',
  operands: 'SOURCE [SOURCE ...] TARGET',
  options: {
    format: {
      short: 'f',
      long: ['source-format', 'format'],
      argument: 'FORMAT',
      meaning: 'format of the sources (default: probed)',
    },
    outputFormat: {
      short: 'O',
      long: ['target-format'],
      argument: 'FORMAT',
      meaning: 'format of the target (default: raw)',
    },
    options: {
      short: 'o',
      long: ['target-format-options', 'target-options', 'options'],
      argument: 'OPTIONS',
      meaning: 'creation options of the target, comma separated; "help" lists them',
    },
    backing: {
      short: 'B',
      long: ['backing'],
      argument: 'FILE',
      meaning: 'make the target an overlay over FILE; only what differs in layers is copied',
    },
    backingShort: { short: 'b', argument: 'FILE', meaning: 'the same as -B' },
    backingFormat: { short: 'F', long: ['backing-format'], argument: 'FORMAT', meaning: 'format of that FILE' },
    compress: { short: 'c', long: ['compress'], meaning: 'store compressed what gets smaller by it' },
    sparse: {
      short: 'S',
      long: ['sparse-size'],
      argument: 'SIZE',
      meaning: 'find zeroes in steps of SIZE (default: 4k); 0: write everything',
    },
    snapshot: {
      short: 'l',
      long: ['source-snapshot', 'snapshot'],
      argument: 'SNAPSHOT',
      meaning: 'read this internal snapshot (id or name, or snapshot.id=…,snapshot.name=…)',
    },
    noCreate: { short: 'n', long: ['no-create'], meaning: 'write over an existing target' },
    targetIsZero: { long: ['target-is-zero'], meaning: 'the existing target reads as zeroes everywhere (with -n)' },
    disk: {
      ...sharedOptions.disk,
      meaning: `${sharedOptions.disk.meaning}; of several the nth is for the nth source`,
    },
    imageOpts: sharedOptions.imageOpts,
    targetImageOpts: { long: ['target-image-opts'], meaning: 'the target is a description, not a path (with -n)' },
    cache: {
      short: 't',
      long: ['target-cache'],
      argument: 'CACHE',
      meaning: 'cache mode for writing (unsafe: do not wait for the disk at the end)',
    },
    sourceCache: sharedOptions.cache,
    share: sharedOptions.share,
    parallel: {
      short: 'm',
      long: ['parallel'],
      argument: 'N',
      meaning: 'chunks under way at once, 1 to 16 (default: 8)',
    },
    outOfOrder: { short: 'W', long: ['oob-writes'], meaning: 'write chunks as they come, not in their order' },
    rate: {
      short: 'r',
      long: ['rate-limit', 'rate'],
      argument: 'RATE',
      meaning: 'bytes per second at most (suffixes k, M, G)',
    },
    offload: {
      short: 'C',
      long: ['copy-range-offloading'],
      meaning: 'let the host copy (reflink or in the kernel) where it can',
    },
    salvage: { long: ['salvage'], meaning: 'go on where a source cannot be read; zeroes take the place' },
    bitmaps: { long: ['bitmaps'], meaning: 'copy dirty bitmaps too' },
    skipBroken: { long: ['skip-broken-bitmaps'], meaning: 'leave inconsistent bitmaps out (with --bitmaps)' },
    verify: { long: ['verify'], meaning: 'read the result back and compare it before it gets its name' },
    keepIdentity: {
      long: ['keep-identity'],
      meaning: 'give the target the ids (UUID, GUIDs, CID) of the source; it gets new ones otherwise',
    },
    profile: {
      long: ['profile'],
      argument: 'NAME',
      meaning:
        'make what this platform takes: its format, options and size, as far as -O and -o leave them open ("platter profile list")',
    },
    dryRun: { long: ['dry-run'], meaning: 'say what would happen, and do nothing' },
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
    object: sharedOptions.object,
  },
  notes: [
    'A new target is written beside its final name and renamed when it is complete and on the disk: after an error, a signal or a power cut nothing half-made carries the name.',
    'With --profile the exit code is 2 when the result was made and the platform would refuse it all the same.',
  ],
  examples: [
    ['convert -O qcow2 disk.vmdk disk.qcow2', 'from VMDK (found out by looking) to qcow2'],
    ['convert -c -O qcow2 -o compression_type=zstd big.raw small.qcow2', 'compressed'],
    ['convert -O ova -o name=Web vm.qcow2 vm.ova', 'a package that VirtualBox and VMware import'],
    ['convert -O qcow2 --disk 2 vm.ova data.qcow2', 'the second disk of a package'],
    ['convert --profile azure vm.qcow2 vm.vhd', 'a fixed VHD of whole MiB'],
    ['convert --profile gcp vm.qcow2 vm.tar.gz', 'disk.raw, of whole GiB, in the archive that Compute Engine imports'],
    ['convert -p --verify -O raw vm.qcow2 /dev/sdx', 'onto a device, with progress, compared at the end'],
  ],
});

type Key = keyof typeof spec.options;

/** Runs `convert`; the exit code. */
export async function run(args: Arguments<Key>): Promise<number> {
  const numbers = readNumbers(args);
  const secret = secretSource(readObjects(args.all('object')));
  refuseConflicts(args);
  const operands = args.operands;
  const targetName = operands.length >= 2 ? (operands.at(-1) ?? null) : null;
  const profile = chosenProfile(args);
  const format = args.last('outputFormat') ?? profile?.target.format ?? 'raw';
  const lists = args.all('options');
  if (optionHelpAsked(lists)) {
    printOptionHelp(knownDriver(format), targetName !== null);
    return 0;
  }
  if (targetName === null) throw new CommandError('Must specify image file name');
  const sourceCache = readCache(args.last('sourceCache'), 'source cache');
  const sources = operands.slice(0, -1).map((name, index) =>
    nameImage(name, {
      format: args.last('format'),
      disk: diskOf(args.all('disk'), index),
      imageOpts: args.has('imageOpts'),
      share: args.has('share'),
      secret,
      ...(sourceCache === undefined ? {} : { cache: sourceCache }),
    }),
  );
  const params = readParams(args, sources, targetName, format, numbers, secret);
  if (args.has('dryRun')) return await dryRunOfConvert(params, profile, args.last('outputFormat'));
  const command = startJob({
    bar: args.has('bar') && !args.has('quiet'),
    lines: wantsLines(args),
    tidies: true,
  });
  const opened = (driver: FormatDriver): void => warnOfGuessedRaw(params.target, params.existing?.format, driver);
  let result: ConvertResult & Partial<ConvertForResult>;
  try {
    result =
      profile === null
        ? await convert(params, command.job, opened)
        : await convertFor(profile, { ...params, format: args.last('outputFormat') }, command.job, opened);
    command.end(true);
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (exitCode !== null && error instanceof ImageError && error.code === 'request/cancelled') return exitCode;
    throw describeFailure(error, sources, targetName);
  }
  for (const stretch of result.unreadable) {
    const more = actsAsQemuImg ? '' : ` (${stretch.length} bytes became zeroes)`;
    warn(`error while reading offset ${stretch.start}: ${stretch.reason}${more}`);
  }
  for (const name of result.skippedBitmaps) warn(`Skipping inconsistent bitmap '${name}'`);
  if (args.has('verify') && !args.has('quiet')) outLine('The result was read back: the images are identical.');
  const gpt = gptSentence(result);
  if (result.gpt?.moved === false) warn((gpt ?? '').replace(/^warning: /, ''));
  else if (gpt !== null && !args.has('quiet')) outLine(gpt);
  const { verdict = null } = result;
  for (const { text, rule } of verdict?.findings ?? []) warn(`${verdict?.label ?? ''}: ${text} [${rule}]`);
  return verdict?.outcome === 'refuses' ? 2 : 0;
}

function knownDriver(format: string): ReturnType<typeof createDriverNamed> {
  const driver = createDriverNamed(format);
  if (driver.create === undefined) throw new ImageError('format/no-create', { name: driver.id });
  return driver;
}

interface Numbers {
  readonly sparse: number;
  readonly rate: number;
  readonly depth: number;
}

const largestSparse = 32768 * 512;

function readNumbers(args: Arguments<Key>): Numbers {
  const suffixes =
    'You may use k, M, G, T, P or E suffixes for\n' +
    `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`;
  const size = (key: 'sparse' | 'rate', what: string, fallback: number): number => {
    const text = args.last(key);
    if (text === null) return fallback;
    const { value } = parseSize(text);
    if (value === null || value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new CommandError(`Invalid ${what} specified. ${suffixes}`);
    }
    return Number(value);
  };
  const sparse = size('sparse', 'buffer size for sparse output', 4096);
  if (sparse % 512 !== 0 || sparse > largestSparse) {
    throw new CommandError(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${largestSparse}. ` +
        'Select 0 to disable sparse detection (fully allocates output).',
    );
  }
  const rate = size('rate', 'rate limit', 0);
  const depth = args.last('parallel') === null ? 8 : Number(args.last('parallel'));
  if (!Number.isInteger(depth) || depth < 1 || depth > 16) {
    throw new CommandError('Invalid number of coroutines. Allowed number of coroutines is between 1 and 16');
  }
  return { sparse, rate, depth };
}

function refuseConflicts(args: Arguments<Key>): void {
  const refuse = (condition: boolean, text: string): void => {
    if (condition) throw new CommandError(text);
  };
  const offload = args.has('offload');
  checkOptionLists(args.all('options'));
  refuse(args.has('targetImageOpts') && !args.has('noCreate'), '--target-image-opts requires use of -n flag');
  refuse(offload && args.has('compress'), 'Cannot enable copy offloading when -c is used');
  refuse(offload && args.has('sparse'), 'Cannot enable copy offloading when -S is used');
  refuse(offload && args.has('salvage'), 'Cannot use copy offloading in salvaging mode');
  refuse(args.has('noCreate') && args.has('options'), '-o has no effect when skipping image creation');
  refuse(args.has('targetIsZero') && !args.has('noCreate'), '--target-is-zero requires use of -n flag');
  refuse(args.has('skipBroken') && !args.has('bitmaps'), 'Use of --skip-broken-bitmaps requires --bitmaps');
  const several = args.operands.length > 2;
  refuse(args.has('keepIdentity') && several, 'Several sources have no common identity');
  refuse(args.has('keepIdentity') && args.has('noCreate'), 'An existing target keeps its own identity');
  refuse(args.has('bitmaps') && several, 'Copying bitmaps only possible with single source');
  refuse(several && args.has('snapshot'), 'No support for concatenating multiple snapshot');
}

function readCache(text: string | null, what: 'cache' | 'source cache'): CacheMode | undefined {
  return text === null ? undefined : cacheMode(text, what);
}

function readParams(
  args: Arguments<Key>,
  sources: readonly NamedImage[],
  target: string,
  format: string,
  numbers: Numbers,
  secret: SecretSource,
): ConvertParams {
  const noCreate = args.has('noCreate');
  const options = noCreate ? {} : readCreateOptions(knownDriver(format), args.all('options'));
  const backing = readBacking(args, options, sources.length);
  const { backing_file: _file, backing_fmt: _fmt, ...creation } = options;
  if (args.has('targetIsZero') && backing !== null) {
    throw new CommandError('Cannot use --target-is-zero when the destination image has a backing file');
  }
  if (args.has('compress')) refuseWithCompression(options);
  const cache = readCache(args.last('cache'), 'cache');
  const existing = noCreate
    ? nameImage(target, {
        format: args.has('targetImageOpts') ? null : (args.last('outputFormat') ?? 'raw'),
        imageOpts: args.has('targetImageOpts'),
        writable: true,
        secret,
        ...(cache === undefined ? {} : { cache }),
      })
    : null;
  return {
    sources,
    snapshot: readSnapshotName(args.last('snapshot')),
    target: existing?.path ?? plainPath(target),
    format,
    options: creation,
    backing,
    existing: existing?.options ?? null,
    targetIsZero: args.has('targetIsZero'),
    compress: args.has('compress'),
    offload: args.has('offload'),
    sparse: args.has('offload') ? 4096 : numbers.sparse,
    cache,
    depth: numbers.depth,
    outOfOrder: args.has('outOfOrder'),
    rate: numbers.rate,
    salvage: args.has('salvage'),
    verify: args.has('verify'),
    keepIdentity: args.has('keepIdentity'),
    bitmaps: args.has('bitmaps') ? (args.has('skipBroken') ? 'sound' : 'all') : null,
    ...chosenPolicy(),
    secret,
  };
}

function refuseWithCompression(options: Readonly<Record<string, OptionValue>>): void {
  const encrypted = Object.keys(options).some((name) => name.startsWith('encrypt')) && options.encryption !== false;
  if (encrypted) throw new CommandError('Compression and encryption not supported at the same time');
  if (options.preallocation !== undefined && options.preallocation !== 'off') {
    throw new CommandError('Compression and preallocation not supported at the same time');
  }
}

/** The layer below the target. What is there already (`-n`) knows the format of its own. */
function readBacking(
  args: Arguments<Key>,
  options: Readonly<Record<string, OptionValue>>,
  sources: number,
): BackingReference | null {
  const path = args.last('backing') ?? args.last('backingShort') ?? options.backing_file;
  const format = args.last('backingFormat') ?? options.backing_fmt;
  if (typeof path !== 'string') return null;
  if (sources > 1) {
    throw new CommandError(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  if (typeof format !== 'string' && args.has('noCreate')) return { path, format: null };
  if (typeof format !== 'string') throw new CommandError('Use of backing file requires explicit backing format');
  return { path, format };
}

/** Faults of opening and converting in qemu-img's words. */
function describeFailure(error: unknown, sources: readonly NamedImage[], target: string): unknown {
  if (!(error instanceof ImageError)) return error;
  if (error.code === 'convert/create') return createFailure(error, target);
  if (/^(convert|profile)\//.test(error.code) || error.code.startsWith('copy/') || error.code === 'request/cancelled') {
    return new CommandError(error.message, { cause: error });
  }
  if (error.code === 'gate/backing' && error.where.file === target) return openFailure(target, error);
  const source = sources.find((candidate) => candidate.path === error.where.file);
  const other = error.where.file === target ? target : (sources[0]?.name ?? target);
  return openFailure(source?.name ?? other, error);
}

/** `TARGET: error while converting FORMAT: …`. */
function createFailure(error: ImageError, target: string): CommandError {
  const inner = error.cause;
  if (!(inner instanceof ImageError)) return new CommandError(error.message, { cause: error });
  const reason = inner.code === 'storage/open' ? `Could not create '${target}': ${inner.message}` : openSentence(inner);
  const format = String(error.facts.format);
  return new CommandError(`${target}: error while converting ${format}: ${reason}`, { cause: error });
}

// platter create.
import type { SecretSource } from '../../core/block/crypto/secret.ts';
import type { BackingReference } from '../../core/block/node.ts';
import { MiB } from '../../core/block/units.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import { createDriverNamed } from '../../core/formats/registry.ts';
import { create, planCreate, type CreateParams } from '../../core/operations/create.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import {
  checkOptionLists,
  describeOptions,
  optionHelpAsked,
  printOptionHelp,
  readCreateOptions,
} from '../create-options.ts';
import { plainPath } from '../described-image.ts';
import { chosenPolicy } from '../gate-policy.ts';
import { actsAsQemuImg, isLevel10, programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, err, openSentence, outLine, quietLine, UsageError, warn } from '../print.ts';
import { startJob, wantsLines, type CommandJob } from '../progress.ts';
import { parseSize } from '../size.ts';

export const spec = defineCommand({
  name: 'create',
  summary: 'make an empty image, or an overlay over another one',
  operands: 'FILE [SIZE]',
  options: {
    format: { short: 'f', long: ['format'], argument: 'FORMAT', meaning: 'format of the new image (default: raw)' },
    options: {
      short: 'o',
      long: ['options'],
      argument: 'OPTIONS',
      meaning: 'options of the format, name=value separated by commas; repeated ones add up; -o help lists them',
    },
    backing: {
      short: 'b',
      long: ['backing'],
      argument: 'FILE',
      meaning: 'the image that the new one is an overlay of',
    },
    backingFormat: {
      short: 'F',
      long: ['backing-format'],
      argument: 'FORMAT',
      meaning: 'format of the backing file; required with -b',
    },
    backingFormatNew: { short: 'B', argument: 'FORMAT', meaning: 'the same as -F' },
    unsafe: {
      short: 'u',
      long: ['backing-unsafe'],
      meaning: 'do not open the backing file; SIZE is required then',
    },
    quiet: sharedOptions.quiet,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
    dryRun: { long: ['dry-run'], meaning: 'say what would be created and touch nothing' },
  },
  notes: [
    'SIZE may be left out with -b: the new disk is then as large as the backing file.',
    'The image appears under its name when it is complete; an existing file of that name is replaced then.',
  ],
  examples: [
    ['create -f qcow2 disk.qcow2 20G', 'an empty disk of 20 GiB that grows as it is filled'],
    ['create -f qcow2 -b base.qcow2 -F qcow2 clone.qcow2', 'an overlay: what is written goes to clone.qcow2 only'],
    ['create -f raw -o preallocation=full disk.img 1G', 'a raw image with all its space written'],
    ['create -f qcow2 -o help', 'the options of a format'],
  ],
});

type Key = keyof typeof spec.options;

export async function run(args: Arguments<Key>): Promise<number> {
  const lists = args.all('options');
  checkOptionLists(lists);
  const secret = secretSource(readObjects(args.all('object')));
  const format = args.last('format') ?? 'raw';
  const file = args.operands[0];
  if (optionHelpAsked(lists)) {
    printOptionHelp(knownDriver(format), file !== undefined);
    return 0;
  }
  if (file === undefined) throw new UsageError('Expecting image file name', spec.name);
  const asked = args.operands[1] === undefined ? null : readImageSize(args.operands[1]);
  const extra = args.operands[2];
  if (extra !== undefined) throw new UsageError(`Unexpected argument: ${extra}`, spec.name);
  const lines = wantsLines(args);
  let command: CommandJob | null = null;
  try {
    const { params, lonelyFormat } = readParams(args, format, file, asked, secret);
    const planned = planCreate(params);
    const text = [
      `Formatting '${file}', fmt=${planned.format}`,
      describeOptions(knownDriver(format), {
        ...planned.options,
        size: planned.askedSize,
        ...(planned.backing === null ? {} : { backing_file: planned.backing.path }),
        ...backingFormat(planned.backing),
        ...(lonelyFormat === null ? {} : { backing_fmt: lonelyFormat }),
      }),
    ].join(' ');
    if (args.has('dryRun')) {
      outLine(`Would be done: ${text}`);
      return 0;
    }
    quietLine(args.has('quiet'), text);
    if (lonelyFormat !== null) throw new ImageError('create/lonely-backing-format', {}, { file });
    if (takesLong(params)) {
      const { createInThread } = await import('../create-thread.ts');
      const { secret: _secret, policy: _policy, ...plain } = params;
      command = startJob({ lines, tidies: true });
      await createInThread(plain, command);
    } else {
      command = startJob({ lines });
      await create(params, command.job);
    }
    command.end(true);
    return 0;
  } catch (error) {
    command?.end(false);
    if (!(error instanceof ImageError)) throw error;
    const exitCode = command?.exitCode() ?? null;
    if (exitCode !== null && error.code === 'request/cancelled') return exitCode;
    if (error.code === 'create/backing-format' && error.detail.detected !== '' && actsAsQemuImg && !isLevel10) {
      err(`${programName}: ${file}: ${error.message}`); // 7.2 ends this one without a new line
      return 1;
    }
    throw createFailure(file, error);
  }
}

/** Below this a thread costs more than it is good for. */
const quicklyProvided = 64 * MiB;

/** All the space of a large disk is provided at once. (Passphrases and policies do not cross to a thread.) */
function takesLong({ options, size, backing, policy }: CreateParams): boolean {
  if (policy !== undefined) return false;
  if (size !== null && size < quicklyProvided && backing === null) return false;
  const { preallocation = 'off', subformat = '' } = options;
  const encrypted = Object.keys(options).some((name) => name.startsWith('encrypt') || name === 'key-secret');
  const provided = preallocation !== 'off' || options.static === true || /fixed|flat/i.test(String(subformat));
  return provided && !encrypted;
}

function backingFormat(backing: BackingReference | null): { backing_fmt?: string } {
  return backing === null || backing.format === null ? {} : { backing_fmt: backing.format };
}

function knownDriver(format: string): ReturnType<typeof createDriverNamed> {
  try {
    return createDriverNamed(format);
  } catch (error) {
    throw error instanceof ImageError ? new CommandError(error.message) : error;
  }
}

function readParams(
  args: Arguments<Key>,
  format: string,
  file: string,
  asked: bigint | null,
  secret: SecretSource,
): { params: CreateParams; lonelyFormat: string | null } {
  const driver = createDriverNamed(format);
  const {
    size: optionSize,
    backing_file: optionBacking,
    backing_fmt: optionBackingFormat,
    ...options
  } = readCreateOptions(driver, args.all('options'));
  if (asked !== null && optionSize !== undefined) {
    throw new ImageError('request/invalid-value', { reason: 'The image size must be specified only once' });
  }
  const backing = args.last('backing') ?? (optionBacking === undefined ? null : String(optionBacking));
  const backingFormat =
    args.last('backingFormatNew') ??
    args.last('backingFormat') ??
    (optionBackingFormat === undefined ? null : String(optionBackingFormat));
  if (backing === null && backingFormat !== null && !driver.hasBacking) {
    throw new ImageError('create/no-backing-format', { format: driver.id });
  }
  const params: CreateParams = {
    path: file === '' ? '' : plainPath(file),
    format,
    size: asked !== null ? Number(asked) : optionSize === undefined ? null : Number(optionSize),
    options,
    backing: backing === null ? null : { path: backing, format: backingFormat },
    unsafe: args.has('unsafe'),
    ...chosenPolicy(),
    secret,
  };
  return { params, lonelyFormat: backing === null ? backingFormat : null };
}

/** The SIZE operand in bytes. Throws `CommandError` in the words of the level. */
export function readImageSize(text: string, what = 'image size'): bigint {
  const { value, reason, hexSuffix } = parseSize(text);
  if (hexSuffix) warn(`Using a multiplier suffix on hex numbers is deprecated: ${text}`);
  if (reason === 'range' || (value !== null && value > 0x7fffffffffffffffn)) {
    throw new CommandError(`Invalid ${what} specified. Must be between 0 and 9223372036854775807.`);
  }
  if (value !== null) return value;
  if (isLevel10) throw new CommandError(`Invalid ${what} specified: '${text}'.`);
  throw new CommandError(
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
      `${programName}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
  );
}

/** `FILE: what is wrong`. */
function createFailure(file: string, error: ImageError): CommandError {
  return new CommandError(`${file}: ${createSentence(file, error)}`, { cause: error });
}

function createSentence(file: string, error: ImageError): string {
  if (error.cause instanceof ImageError) return error.message;
  const creating =
    error.code === 'storage/open' || (error.code === 'storage/write' && error.where.offset === undefined);
  if (creating) return `Could not create '${file}': ${error.message}`;
  if (error.code === 'storage/directory') return `Could not create '${file}': Is a directory`;
  return error.code === 'storage/locked' ? openSentence(error) : error.message;
}

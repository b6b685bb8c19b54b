// platter rebase.
import { ImageError } from '../../core/errors/image-error.ts';
import { rebase } from '../../core/operations/rebase.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { cacheMode, nameImage } from '../image-options.ts';
import { actsAsQemuImg } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, openSentence, UsageError } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'rebase',
  summary: 'put another image below an overlay, or none',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    format: sharedOptions.format,
    backing: {
      short: 'b',
      long: ['backing'],
      argument: 'BASE',
      meaning: 'the new image below, as FILE will record it (relative names start at the folder of FILE); "": none',
    },
    backingFormat: { short: 'F', long: ['backing-format'], argument: 'FORMAT', meaning: 'format of BASE' },
    backingFormatB: { short: 'B', argument: 'FORMAT', meaning: 'the same as -F' },
    unsafe: {
      short: 'u',
      long: ['backing-unsafe'],
      meaning:
        'change the link only: for a base that was moved or renamed. The content changes if BASE holds another disk',
    },
    compress: { short: 'c', long: ['compress'], meaning: 'store compressed what is copied into FILE' },
    cache: {
      short: 't',
      long: ['cache'],
      argument: 'CACHE',
      meaning: 'cache mode for FILE: none, writeback, writethrough, directsync, unsafe (default: writeback)',
    },
    sourceCache: {
      ...sharedOptions.cache,
      long: ['backing-cache', 'source-cache'],
      meaning: 'cache mode for the bases',
    },
    share: sharedOptions.share,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
  },
  notes: [
    'Without -u the content of FILE stays the same: what differs between the old base and the new one is copied into FILE first, ' +
      'and the link changes only when that is on the disk. After an error or a crash FILE is an overlay of its old base as before.',
    'VHD, VHDX, VMDK and VDI record the identity of their base besides its name: with -u too, BASE must be there.',
  ],
  examples: [
    ['rebase -b newbase.qcow2 -F qcow2 overlay.qcow2', 'over another base, same content'],
    ["rebase -b '' overlay.qcow2", 'no base any more: the overlay becomes a whole image'],
    ['rebase -u -b /new/place/base.vhdx overlay.vhdx', 'the base has moved'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const unsafe = args.has('unsafe');
  const base = args.last('backing');
  if (!unsafe && base === null) {
    throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)', spec.name);
  }
  const command = startJob({
    bar: args.has('bar') && !args.has('quiet'),
    step: 2,
    lines: wantsLines(args),
    tidies: true,
  });
  try {
    const cache = cacheMode(args.last('cache') ?? 'writeback', 'cache');
    const sourceCache = cacheMode(args.last('sourceCache') ?? 'writeback', 'source cache');
    const named = nameImage(file, {
      format: args.last('format'),
      imageOpts: args.has('imageOpts'),
      writable: true,
      secret,
      cache,
    });
    const format = args.last('backingFormat') ?? args.last('backingFormatB');
    try {
      await rebase(
        {
          path: named.path,
          // qemu-img wants the passphrase for that too.
          options: unsafe && !actsAsQemuImg ? { ...named.options, guestData: false } : named.options,
          backing: base === null || base === '' ? null : { path: base, format },
          unsafe,
          compress: args.has('compress'),
          storeZeroes: actsAsQemuImg,
          ...(await chosenDependents()),
          base: { cache: sourceCache, share: args.has('share'), secret },
        },
        command.job,
        (driver) => warnOfGuessedRaw(named.path, named.options.format, driver),
      );
    } catch (error) {
      throw describeFailure(error, named.name, base);
    }
    command.end(true);
    return 0;
  } catch (error) {
    command.end(false);
    const exitCode = command.exitCode();
    if (exitCode !== null && error instanceof ImageError && error.code === 'request/cancelled') return exitCode;
    throw error;
  }
}

function describeFailure(error: unknown, name: string, base: string | null): unknown {
  if (!(error instanceof ImageError) || error.code === 'request/cancelled') return error;
  if (error.code === 'rebase/new-base' && error.cause instanceof ImageError) {
    const text = `Could not open new backing file '${base ?? ''}': ${openSentence(error.cause)}`;
    return new CommandError(text, { cause: error });
  }
  if (error.code === 'rebase/unsupported') {
    const text = `Could not change the backing file to '${base ?? '(null)'}': Operation not supported`;
    return new CommandError(text, { cause: error });
  }
  if (/^(rebase|copy|convert|in-place)\//.test(error.code)) return new CommandError(error.message, { cause: error });
  return openFailure(name, error);
}

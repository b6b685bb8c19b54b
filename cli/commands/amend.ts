// platter amend.
import { ImageError } from '../../core/errors/image-error.ts';
import type { FormatDriver, OptionValue } from '../../core/formats/driver.ts';
import { openImage } from '../../core/formats/open.ts';
import { isForeignName } from '../../core/formats/foreign.ts';
import { findDriver } from '../../core/formats/registry.ts';
import type { Job } from '../../core/job.ts';
import { amend } from '../../core/operations/amend.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { checkOptionLists, optionHelpAsked, printRows, readCreateOptions, readOptions } from '../create-options.ts';
import { cacheMode, nameImage, type NamedImage } from '../image-options.ts';
import { actsAsQemuImg } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, out, outLine, place, UsageError } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'amend',
  summary: 'change options of an image that is there',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    options: {
      short: 'o',
      long: ['options'],
      argument: 'OPTIONS',
      meaning: 'what is to change, name=value separated by commas; repeated ones add up; -o help lists them',
    },
    format: sharedOptions.format,
    cache: {
      short: 't',
      long: ['cache'],
      argument: 'CACHE',
      meaning: 'cache mode for writing: none, writeback, writethrough, directsync, unsafe (default: writeback)',
    },
    force: {
      long: ['force'],
      meaning:
        'also what may lose all data: a key slot in use overwritten, the last one erased; and images that others read through',
    },
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
    quiet: sharedOptions.quiet,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
  },
  notes: [
    'qcow2: compat (0.10 or 1.1), lazy_refcounts, refcount_bits, data_file, size, and the key slots of an image encrypted with LUKS; ' +
      'luks: key slots. Everything is checked before anything is changed. Another backing file is a matter of rebase.',
    'Key slots: encrypt.state=active,encrypt.new-secret=ID adds a passphrase; encrypt.state=inactive,encrypt.old-secret=ID erases the ' +
      'slots that it opens, encrypt.keyslot=N that slot (luks: without encrypt.). They cannot be taken back with undo.',
  ],
  examples: [
    ['amend -o compat=0.10 disk.qcow2', 'for programs that know only the old version'],
    ['amend -o refcount_bits=64 disk.qcow2', 'wider refcounts: more snapshots of the same data'],
    [
      'amend --object secret,id=new,file=new.txt -o encrypt.state=active,encrypt.new-secret=new disk.qcow2',
      'a further passphrase; the old one is asked for in the terminal',
    ],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const lists = args.all('options');
  checkOptionLists(lists);
  const secret = secretSource(readObjects(args.all('object')));
  if (lists.length === 0) throw new UsageError('Must specify options (-o)', spec.name);
  const format = args.last('format');
  if (format !== null && optionHelpAsked(lists)) {
    const driver = findDriver(format);
    if (driver === null && isForeignName(format)) {
      throw new CommandError(`Format driver '${format}' does not support option amendment`);
    }
    if (driver === null) throw new CommandError(`Unknown file format '${format}'`);
    return printHelp(driver);
  }
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) throw new CommandError('Expecting one image file name');
  const cache = cacheMode(args.last('cache') ?? 'writeback', 'cache');
  const named = nameImage(file, { format, imageOpts: args.has('imageOpts'), cache, writable: true, secret });
  const driver = driverOf(named);
  warnOfGuessedRaw(named.path, named.options.format, driver);
  if (optionHelpAsked(lists)) return printHelp(driver);
  const values = readValues(driver, lists);
  const bar = args.has('bar') && !args.has('quiet');
  const command = startJob({ bar, lines: wantsLines(args) });
  let whole = false;
  const job: Job = {
    ...command.job,
    progress(progress) {
      whole ||= progress.done >= progress.total;
      command.job.progress(progress);
    },
  };
  try {
    const params = {
      path: named.path,
      options: { ...named.options, format: driver.id },
      values,
      ...(await chosenDependents()),
      inOrder: actsAsQemuImg,
    };
    await amend(params, job);
    return 0;
  } catch (error) {
    throw isOpening(error) ? openFailure(named.name, error) : told(error);
  } finally {
    // qemu-img tells the end once more.
    if (bar && whole) out('    (100.00/100%)\r');
    command.end(true);
  }
}

/** What of these is said of opening: everything but what amending itself refuses. */
function isOpening(error: unknown): boolean {
  return (
    error instanceof ImageError &&
    /^(storage\/(open|locked|directory|not-a-file)|gate|format|crypto\/(password|secret-required))/.test(error.code)
  );
}

function told(error: unknown): unknown {
  if (!(error instanceof ImageError)) return error;
  return new CommandError(error.message, { cause: error });
}

/** The driver of the image: it decides what there is to amend. */
function driverOf({ name, path, options }: NamedImage): FormatDriver {
  try {
    const { node, driver } = openImage(path, {
      ...options,
      writable: false,
      share: true,
      withBacking: false,
      guestData: false,
    });
    node.close();
    return driver;
  } catch (error) {
    throw openFailure(name, error);
  }
}

function amendable(driver: FormatDriver): NonNullable<FormatDriver['amendOptions']> {
  const { amendOptions } = driver;
  if (amendOptions === undefined) {
    throw new CommandError(new ImageError('amend/unsupported', { format: driver.id }).message);
  }
  return amendOptions;
}

function printHelp(driver: FormatDriver): number {
  const rows = amendable(driver);
  outLine(`Amend options for '${driver.id}':`);
  printRows(rows);
  return 0;
}

/** Throws `CommandError`; for what only create takes it says so. */
function readValues(driver: FormatDriver, lists: readonly string[]): Record<string, OptionValue> {
  const rows = amendable(driver);
  try {
    return readOptions(rows, lists);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const hint = isForCreation(driver, lists) ? '\nThis option is only supported for image creation' : '';
    throw new CommandError(error.message + hint + place(error));
  }
}

function isForCreation(driver: FormatDriver, lists: readonly string[]): boolean {
  try {
    readCreateOptions({ ...driver, options: [...driver.options, ...amendable(driver)] }, lists);
    return true;
  } catch (error) {
    if (error instanceof ImageError) return false;
    throw error;
  }
}

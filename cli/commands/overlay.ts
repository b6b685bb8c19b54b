// platter overlay.
import { ImageError } from '../../core/errors/image-error.ts';
import { createDriverNamed } from '../../core/formats/registry.ts';
import { overlay, planOverlay, type OverlayParams } from '../../core/operations/overlay.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import {
  checkOptionLists,
  describeOptions,
  optionHelpAsked,
  printOptionHelp,
  readCreateOptions,
} from '../create-options.ts';
import { plainPath } from '../described-image.ts';
import { nameImage } from '../image-options.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, quietLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'overlay',
  summary: 'make an external snapshot: an empty image over another one',
  operands: 'BASE NEW…',
  options: {
    format: {
      short: 'f',
      long: ['format'],
      argument: 'FORMAT',
      meaning: 'format of the new image (default: that of BASE)',
    },
    baseFormat: { short: 'F', long: ['base-format'], argument: 'FORMAT', meaning: 'format of BASE (default: probed)' },
    options: {
      short: 'o',
      long: ['options'],
      argument: 'OPTIONS',
      meaning: 'options of the new format, name=value separated by commas; -o help lists them',
    },
    quiet: sharedOptions.quiet,
    share: sharedOptions.share,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
    dryRun: { long: ['dry-run'], meaning: 'say what would be made and touch nothing' },
  },
  notes: [
    'The new image has the size of BASE and shows what BASE holds. What is written goes to the new image only; BASE must not change from ' +
      'then on. Several new images over one base do not know of each other.',
    'qcow, qcow2, vpc, vhdx, vmdk and vdi have differencing; over raw, qed and luks say -f qcow2.',
    'BASE is recorded relative to the new image when it lies in the same folder or below, otherwise with its whole path.',
  ],
  examples: [
    ['overlay disk.qcow2 disk-today.qcow2', 'what changes from now on goes to disk-today.qcow2'],
    ['overlay -f qcow2 golden.img vm1.qcow2 vm2.qcow2', 'two clones of one raw image'],
    ['overlay parent.vhdx child.vhdx', 'a differencing disk for Hyper-V'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const lists = args.all('options');
  checkOptionLists(lists);
  const secret = secretSource(readObjects(args.all('object')));
  const format = args.last('format');
  if (format !== null && optionHelpAsked(lists)) {
    printOptionHelp(knownDriver(format), args.operands.length > 0);
    return 0;
  }
  const [base, ...targets] = args.operands;
  if (base === undefined || targets.length === 0) {
    throw new UsageError('Expecting the base image and the names of new images', spec.name);
  }
  const named = nameImage(base, { format: args.last('baseFormat'), share: args.has('share'), secret });
  if (optionHelpAsked(lists)) throw new UsageError('-o help needs the format: -f', spec.name);
  for (const target of targets) {
    const asked = {
      base: named.path,
      baseOptions: named.options,
      path: plainPath(target),
      format,
      options: {},
      secret,
    };
    await makeOne(args, named.name, asked, lists);
  }
  return 0;
}

async function makeOne(
  args: Arguments<keyof typeof spec.options>,
  base: string,
  asked: OverlayParams,
  lists: readonly string[],
): Promise<void> {
  let plan;
  try {
    plan = planOverlay(asked);
  } catch (error) {
    const own =
      error instanceof ImageError && /^(overlay|create|format\/unknown-output|format\/no-create)/.test(error.code);
    throw own ? failure(error.where.file ?? base, error) : openFailure(base, error);
  }
  const driver = createDriverNamed(plan.format);
  const command = startJob({ lines: wantsLines(args), tidies: true });
  try {
    const options = readOwnOptions(driver, lists);
    const { backing, size } = plan;
    const line = `Formatting '${asked.path}', fmt=${plan.format} ${describeOptions(driver, {
      ...options,
      size: size ?? 0,
      backing_file: backing?.path ?? '',
      backing_fmt: backing?.format ?? '',
    })}`;
    if (args.has('dryRun')) outLine(`Would be done: ${line}`);
    else {
      quietLine(args.has('quiet'), line);
      await overlay({ ...asked, options }, command.job);
    }
    command.end(true);
  } catch (error) {
    command.end(false);
    throw error instanceof ImageError ? failure(asked.path, error) : error;
  }
}

/** `-o` without what the base decides. */
function readOwnOptions(
  driver: ReturnType<typeof createDriverNamed>,
  lists: readonly string[],
): OverlayParams['options'] {
  const options = readCreateOptions(driver, lists);
  for (const name of ['size', 'backing_file', 'backing_fmt']) {
    if (options[name] !== undefined) {
      throw new ImageError('request/invalid-value', {
        reason: `'${name}' is what the base decides; use create for another`,
      });
    }
  }
  return options;
}

function knownDriver(format: string): ReturnType<typeof createDriverNamed> {
  try {
    return createDriverNamed(format);
  } catch (error) {
    throw error instanceof ImageError ? new CommandError(error.message) : error;
  }
}

function failure(file: string, error: ImageError): CommandError {
  return new CommandError(`${file}: ${error.message}`, { cause: error });
}

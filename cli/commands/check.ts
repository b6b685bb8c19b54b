// platter check.
import { ImageError } from '../../core/errors/image-error.ts';
import { check, type CheckParams, type CheckResult } from '../../core/operations/check.ts';
import { relinkRepair, type Finding } from '../../core/formats/driver.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { tellFinding } from '../finding.ts';
import { cacheMode, nameImage } from '../image-options.ts';
import { prettyJson, type Json } from '../json.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { actsAsQemuImg } from '../level.ts';
import { fixedDigits } from '../rounding.ts';
import { CommandError, err, openFailure, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';

export const spec = defineCommand({
  name: 'check',
  summary: 'look for errors in the structures of an image',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    format: sharedOptions.format,
    repair: {
      short: 'r',
      long: ['repair'],
      argument: 'leaks|all',
      meaning: 'put right what only wastes space, or everything that can be put right without guessing',
    },
    onCopy: {
      long: ['on-copy'],
      argument: 'COPY',
      meaning:
        'leave FILE as it is: repair a copy of it (with shared blocks where the file system has them) and compare the counts',
    },
    relink: {
      long: ['relink'],
      meaning: 'with -r all: an overlay whose base is not the one that it remembers takes the base as it is now',
    },
    output: sharedOptions.output,
    cache: sharedOptions.cache,
    quiet: sharedOptions.quiet,
    share: sharedOptions.share,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'Exit codes: 0 no errors; 1 the check could not be done; 2 errors that endanger data; 3 leaks only (space that nobody uses); ' +
      '63 the format has nothing to check.',
    'Each finding is a line on stderr, the result is on stdout. What cannot be repaired without guessing is said and left as it is; what ' +
      'could be read before a repair reads the same after it.',
  ],
  examples: [
    ['check disk.qcow2', 'look, and touch nothing'],
    ['check --output=json disk.qcow2', 'counts for a script'],
    ['check -r all --on-copy repaired.qcow2 disk.qcow2', 'see what a repair would come to'],
  ],
});

const unsupported = 63;
/** Findings that the JSON lists; all are counted. */
const mostFindings = 1000;

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const repair = args.last('repair');
  if (repair !== null && repair !== 'leaks' && repair !== 'all') {
    throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`, spec.name);
  }
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const onCopy = args.last('onCopy');
  if (args.has('relink') && repair !== 'all') throw new CommandError('--relink needs -r all');
  const cache = args.last('cache');
  const named = nameImage(file, {
    format: args.last('format'),
    disk: args.last('disk'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret,
    ...(cache === null ? {} : { cache: cacheMode(cache, 'source cache') }),
  });
  const command = startJob({ lines: wantsLines(args) });
  let result: CheckResult;
  let otherParent = false;
  try {
    const params: CheckParams = {
      path: named.path,
      options: named.options,
      limit: output === 'json' && !actsAsQemuImg ? mostFindings : 0,
      repair,
      onCopy,
      relink: args.has('relink'),
    };
    result = await check(params, command.job, (finding) => {
      otherParent ||= finding.repair === relinkRepair;
      tellFinding(finding);
    });
  } catch (error) {
    if (error instanceof ImageError && error.code === 'check/unsupported') {
      throw new CommandError(error.message, { exitCode: unsupported });
    }
    if (error instanceof ImageError && /^((clone|check|in-place)\/|qcow2\/check-)/.test(error.code)) {
      throw new CommandError(error.message, { cause: error });
    }
    throw openFailure(named.name, error);
  }
  if (!args.has('quiet')) {
    if (output === 'json') printJson(result, named.name);
    else {
      printHuman(result);
      if (result.copy !== undefined) printCopy(result, result.copy);
    }
  }
  if (otherParent && !args.has('relink') && !actsAsQemuImg) tellHowToRelink(named.name);
  if (result.errors > 0) throw new CommandError('Check failed');
  return result.corruptions > 0 ? 2 : result.leaks > 0 ? 3 : 0;
}

/** For a parent that has another identity now. Nobody can tell whether its content is the same. */
function tellHowToRelink(name: string): void {
  err(
    `The parent is not the one that the image was made over, or has changed since. If its content is what the guest had, ` +
      `'platter check -r all --relink ${name}' makes the image take it as it is now.\n`,
  );
}

/** Counts of nothing are left out, as qemu-img does. */
function printJson(result: CheckResult, name: string): void {
  const { summary } = result;
  const counts = {
    'image-end-offset': summary.imageEndOffset,
    'compressed-clusters': summary.compressedClusters,
    'total-clusters': summary.totalClusters,
    corruptions: result.corruptions,
    leaks: result.leaks,
    'corruptions-fixed': result.fixed?.corruptions ?? 0,
    'leaks-fixed': result.fixed?.leaks ?? 0,
    'allocated-clusters': summary.allocatedClusters,
    'fragmented-clusters': summary.fragmentedClusters,
  };
  const told = Object.entries(counts).filter((entry): entry is [string, number] => (entry[1] ?? 0) !== 0);
  outLine(
    prettyJson({
      ...Object.fromEntries(told),
      'check-errors': result.errors,
      filename: name,
      format: result.format,
      ...(actsAsQemuImg ? {} : { findings: result.findings.map(findingFacts) }),
      ...(result.copy === undefined ? {} : { copy: copyFacts(result.copy) }),
    }),
  );
}

function findingFacts({ code, severity, text, where, count, repair, fixed }: Finding): Record<string, Json> {
  const { file, offset, field } = where;
  return {
    code,
    severity,
    text,
    ...(file === undefined ? {} : { file }),
    ...(offset === undefined ? {} : { offset }),
    ...(field === undefined ? {} : { field }),
    count,
    repair,
    fixed: fixed === true,
  };
}

function printHuman(result: CheckResult): void {
  const { fixed } = result;
  if (fixed !== null && fixed.corruptions + fixed.leaks > 0) {
    outLine('The following inconsistencies were found and repaired:\n');
    outLine(`    ${fixed.leaks} leaked clusters\n    ${fixed.corruptions} corruptions\n`);
    outLine('Double checking the fixed image now...');
  }
  const { corruptions, leaks, errors, summary } = result;
  if (corruptions === 0 && leaks === 0 && errors === 0) outLine('No errors were found on the image.');
  if (corruptions > 0) {
    outLine(`\n${corruptions} errors were found on the image.`);
    outLine('Data may be corrupted, or further writes to the image may corrupt it.');
  }
  if (leaks > 0) {
    outLine(`\n${leaks} leaked clusters were found on the image.`);
    outLine('This means waste of disk space, but no harm to data.');
  }
  if (errors > 0) outLine(`\n${errors} internal errors have occurred during the check.`);
  const total = summary.totalClusters ?? 0;
  const allocated = summary.allocatedClusters ?? 0;
  if (total > 0 && allocated > 0) {
    const percent = (part: number | null, whole: number): string => fixedDigits(((part ?? 0) * 100) / whole, 2);
    outLine(
      `${allocated}/${total} = ${percent(allocated, total)}% allocated, ` +
        `${percent(summary.fragmentedClusters, allocated)}% fragmented, ` +
        `${percent(summary.compressedClusters, allocated)}% compressed clusters`,
    );
  }
  if ((summary.imageEndOffset ?? 0) > 0) outLine(`Image end offset: ${summary.imageEndOffset}`);
}

function copyFacts({ files, copied, before }: NonNullable<CheckResult['copy']>): Record<string, Json> {
  return { files: [...files], copied, before: before === null ? null : { ...before } };
}

/** Before and after, side by side. */
function printCopy(after: CheckResult, { files, copied, before }: NonNullable<CheckResult['copy']>): void {
  const [first = '', ...further] = files;
  const more = further.length === 0 ? '' : ` and ${further.length} more`;
  const how = copied === 0 ? 'its blocks are shared with the original' : `${copied} bytes were copied`;
  outLine(`\nRepaired copy: ${first}${more} (${how}); the original is as it was.`);
  const row = (label: string, from: number | undefined, to: number): void => {
    outLine(`${label.padEnd(10)}${String(from ?? '?').padStart(10)}${String(to).padStart(10)}`);
  };
  outLine(`${''.padEnd(10)}${'before'.padStart(10)}${'after'.padStart(10)}`);
  row('errors', before?.corruptions, after.corruptions);
  row('leaks', before?.leaks, after.leaks);
  row('internal', before?.errors, after.errors);
}

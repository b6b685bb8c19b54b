// platter undo.
import { ImageError } from '../../core/errors/image-error.ts';
import { undo } from '../../core/operations/undo.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { chosenPolicy } from '../gate-policy.ts';
import { plainPath } from '../described-image.ts';
import { prettyJson } from '../json.ts';
import { localTime } from '../local-time.ts';
import { CommandError, openFailure, outLine, quietLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { humanSize } from '../size.ts';

export const spec = defineCommand({
  name: 'undo',
  summary: 'take back the last change of an image',
  operands: 'FILE',
  options: {
    dryRun: {
      short: 'n',
      long: ['dry-run'],
      meaning: 'say what would be taken back, after all checks, and change nothing',
    },
    force: { long: ['force'], meaning: 'take it back although others are known to read through the image' },
    output: sharedOptions.output,
    quiet: sharedOptions.quiet,
    progress: sharedOptions.progress,
  },
  notes: [
    'Verbs that change an image in place keep what they overwrite in the file .NAME.platter-journal beside it. The last of them can be ' +
      'taken back as long as nothing else has written to the image; the next one replaces it. Delete the file when it is not wanted.',
    'What one verb changed in several images (commit) is taken back in all of them.',
  ],
  examples: [
    ['undo disk.qcow2', 'the image is what it was before the last verb'],
    ['undo -n disk.qcow2', 'which verb that is, and whether it still can be taken back'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) throw new UsageError('Expecting one image file name', spec.name);
  const dryRun = args.has('dryRun');
  const command = startJob({ lines: wantsLines(args) });
  const result = await undo(
    { path: plainPath(file), dryRun, ...chosenPolicy(), ...(await chosenDependents()) },
    command.job,
  ).catch((error: unknown) => {
    if (error instanceof ImageError && !error.code.startsWith('undo/')) throw openFailure(file, error);
    throw error;
  });
  if (output === 'json') {
    outLine(
      prettyJson({
        filename: file,
        verb: result.verb,
        description: result.command,
        time: Math.floor(result.time / 1000),
        unfinished: result.unfinished,
        files: [...result.files],
        bytes: result.bytes,
        'dry-run': dryRun,
      }),
    );
  } else {
    const what = `'${result.command}' of ${localTime(result.time / 1000)}${result.unfinished ? ', which did not finish' : ''}`;
    const how = `${humanSize(result.bytes)} in ${result.files.length} file${result.files.length === 1 ? '' : 's'}`;
    quietLine(args.has('quiet') && !dryRun, `${dryRun ? 'Would take back' : 'Taken back'}: ${what} (${how}).`);
  }
  return 0;
}

// platter compact.
import { compact, type CompactEstimate, type CompactResult, type FileFigures } from '../../core/operations/compact.ts';
import type { FileSystemUse } from '../../core/guest/unused-space.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { nameImage } from '../image-options.ts';
import { prettyJson } from '../json.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { humanSize } from '../size.ts';

export const spec = defineCommand({
  name: 'compact',
  summary: 'give back the space that an image takes in vain',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    format: sharedOptions.format,
    estimate: { long: ['estimate'], meaning: 'touch nothing; say what each step would give, and how' },
    zeroUnused: {
      long: ['zero-unused'],
      meaning: 'give back also the blocks that the file systems of the guest (ext2/3/4, NTFS, FAT) mark free',
    },
    rewrite: { long: ['rewrite'], meaning: 'write the image anew, also where it can be compacted in place' },
    output: sharedOptions.output,
    bar: sharedOptions.bar,
    quiet: sharedOptions.quiet,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'What is given back: clusters or blocks that hold only zeroes (where a layer below would show through they stay marked as zero), ' +
      'clusters that nothing refers to, free room within the file and at its end; with --zero-unused what the guest has deleted. What the ' +
      'guest reads stays the same, except that free blocks may read as zeroes.',
    'qcow2, vpc, vhdx and vdi: blocks move from the end of the file into free places, and the file is cut. raw, and images with room for ' +
      'every byte: zeroes become holes of the file. qcow and sparse vmdk: the image is written anew beside its file and then takes its ' +
      'place. What will be done is said first. luks and qed cannot be compacted.',
    'With --zero-unused a file system that was not unmounted cleanly, or that contradicts itself, is left alone; so is everything that is ' +
      'not ext, NTFS or FAT (LVM, LUKS, XFS, btrfs, swap, …).',
    'An image with errors is refused; so is one that a virtual machine has open.',
  ],
  examples: [
    ['compact --estimate --zero-unused disk.vhdx', 'what could be gained'],
    ['compact --zero-unused disk.qcow2', 'give it back'],
    ['compact --rewrite disk.vdi', 'the same by writing the image anew'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    writable: true,
    secret: secretSource(readObjects(args.all('object'))),
  });
  const estimate = args.has('estimate');
  const human = output === 'human' && !args.has('quiet');
  const command = startJob({ bar: args.has('bar') && human, lines: wantsLines(args), tidies: true });
  let result: CompactResult;
  try {
    result = await compact(
      {
        path: named.path,
        options: named.options,
        estimate,
        zeroUnused: args.has('zeroUnused'),
        rewrite: args.has('rewrite'),
        ...(await chosenDependents()),
      },
      command.job,
      (found) => {
        if (human) printEstimate(found, named.name);
      },
    );
  } catch (error) {
    command.end(false);
    const code = command.exitCode();
    if (code !== null) return code;
    throw openFailure(named.name, error);
  }
  command.end(true);
  if (output === 'json') {
    if (!args.has('quiet')) printJson(result, named.name);
  } else if (human) printAfter(result);
  return 0;
}

const ways: Readonly<Record<CompactEstimate['way'], string>> = {
  moves: 'in place: blocks are given up, the last ones move into free places, the file is cut',
  holes: 'in place: the file keeps its length, what it need not store becomes holes',
  rewrite: 'written anew beside the file, which it then replaces',
  none: 'not at all',
};

function printEstimate(found: CompactEstimate, name: string): void {
  const { steps, way, reason, before, length, fileSystems } = found;
  outLine(`image: ${name}`);
  outLine(`file format: ${found.format}`);
  outLine(`how: ${ways[way]}${reason === null ? '' : ` (${reason})`}`);
  const rows: [string, number | null][] = [
    [way === 'holes' ? '' : 'units that hold only zeroes', steps.zero],
    [way === 'holes' ? 'zeroes' : 'zeroes in units that stay', way === 'rewrite' ? null : steps.zeroHoles],
    [way === 'holes' ? '' : 'units that the guest does not use', steps.unused],
    [
      way === 'holes' ? 'blocks that the guest does not use' : 'unused blocks in units that stay',
      way === 'rewrite' ? null : steps.unusedHoles,
    ],
    ['leaked clusters', found.format === 'qcow2' ? steps.leaked : null],
    ['free room in the file', way === 'holes' ? null : steps.free],
  ];
  outLine('can be given back:');
  for (const [what, bytes] of rows) {
    if (bytes !== null && what !== '') outLine(`    ${what}: ${sized(bytes)}`);
  }
  for (const system of fileSystems) outLine(`    ${fileSystemLine(system)}`);
  outLine(`file length: ${sized(before.length)}, afterwards about ${sized(length)}`);
  outLine(`disk size: ${sized(before.allocated)}`);
}

function fileSystemLine({ partition, kind, free, refused }: FileSystemUse): string {
  const where = partition === null ? 'whole disk' : `partition ${partition}`;
  return `${where}: ${kind}, ${refused === null ? `${sized(free)} free` : `left alone: ${refused}`}`;
}

function printAfter({ before, after }: CompactResult): void {
  if (after === null) return;
  outLine(`file length now: ${sized(after.length)} (${changed(before.length, after.length)})`);
  outLine(`disk size now: ${sized(after.allocated)} (${changed(before.allocated, after.allocated)})`);
}

function sized(bytes: number): string {
  return bytes === 0 ? '0' : humanSize(bytes);
}

function changed(before: number, after: number): string {
  if (before === after) return 'as before';
  return after < before ? `${humanSize(before - after)} less` : `${humanSize(after - before)} more`;
}

function printJson(result: CompactResult, name: string): void {
  const { steps, before, after } = result;
  const figures = ({ length, allocated }: FileFigures) => ({ 'file-length': length, 'actual-size': allocated });
  outLine(
    prettyJson({
      filename: name,
      format: result.format,
      way: result.way,
      reason: result.reason,
      before: figures(before),
      steps: {
        zero: steps.zero,
        'zero-holes': steps.zeroHoles,
        unused: steps.unused,
        'unused-holes': steps.unusedHoles,
        leaked: steps.leaked,
        free: steps.free,
      },
      'estimated-file-length': result.length,
      'file-systems': result.fileSystems.map((system) => ({ ...system })),
      after: after === null ? null : figures(after),
    }),
  );
}

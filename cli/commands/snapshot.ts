// platter snapshot.
import { ImageError } from '../../core/errors/image-error.ts';
import { snapshot, type SnapshotAction, type SnapshotResult } from '../../core/operations/snapshot.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { chosenDependents } from '../dependents.ts';
import { nameImage } from '../image-options.ts';
import { prettyJson } from '../json.ts';
import { actsAsQemuImg, isLevel10 } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, complain, openFailure, outLine, quietLine, UsageError } from '../print.ts';
import { warnOfGuessedRaw } from '../probed-raw.ts';
import { startJob, wantsLines } from '../progress.ts';
import { printSnapshots, snapshotJson } from './info.ts';

export const spec = defineCommand({
  name: 'snapshot',
  summary: 'list, take, apply or delete snapshots inside an image',
  operands: 'FILE',
  changesInPlace: true,
  options: {
    list: { short: 'l', long: ['list'], meaning: 'list the snapshots (the default)' },
    create: { short: 'c', long: ['create'], argument: 'NAME', meaning: 'take a snapshot of the disk as it is' },
    apply: {
      short: 'a',
      long: ['apply'],
      argument: 'NAME',
      meaning: 'make the disk what the snapshot holds; what was written since is lost. An id counts before a name',
    },
    delete: { short: 'd', long: ['delete'], argument: 'NAME', meaning: 'delete the snapshot of this name' },
    format: { ...sharedOptions.format, short: 'f' },
    output: sharedOptions.output,
    quiet: sharedOptions.quiet,
    share: sharedOptions.share,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'Snapshots inside an image are a feature of qcow2. For other formats, and for a copy of a running disk, make an overlay: platter ' +
      'overlay.',
    'Each change is one write of the header: whatever happens, the image is what it was before, or has changed as a whole.',
    'Space that a deleted snapshot held is used again by the image; the file does not get smaller.',
  ],
  examples: [
    ['snapshot -c before-update disk.qcow2', 'take a snapshot'],
    ['snapshot disk.qcow2', 'list them'],
    ['snapshot -a before-update disk.qcow2', 'go back to it'],
    ['snapshot -d before-update disk.qcow2', 'delete it'],
  ],
});

type Key = keyof typeof spec.options;

const kinds = ['list', 'create', 'apply', 'delete'] as const;

export async function run(args: Arguments<Key>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const asked = kinds.filter((kind) => args.has(kind));
  if (asked.length > 1 || asked.some((kind) => args.all(kind).length > 1)) {
    throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'", spec.name);
  }
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) throw new UsageError('Expecting one image file name', spec.name);
  const kind = asked[0] ?? 'list';
  const action: SnapshotAction = kind === 'list' ? { kind } : { kind, name: args.last(kind) ?? '' };
  if (args.has('share') && !(asked.length > 0 && kind === 'list') && (kind !== 'list' || beforeLevel10)) {
    throw new CommandError(`Could not open '${file}': force-share=on can only be used with read-only images`);
  }
  const named = nameImage(file, {
    format: args.last('format'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    writable: kind !== 'list',
    secret,
  });
  const command = startJob({ lines: wantsLines(args) });
  let open = false;
  let result: SnapshotResult;
  try {
    // Only going back to a snapshot changes what images above see.
    const known = action.kind === 'apply' ? await chosenDependents() : {};
    const params = { path: named.path, options: named.options, action, ...known };
    result = await snapshot(params, command.job, (driver) => {
      open = true;
      if (kind !== 'list') warnOfGuessedRaw(named.path, named.options.format, driver);
    });
  } catch (error) {
    command.end(false);
    if (!open || !(error instanceof ImageError)) throw openFailure(named.name, error);
    throw failure(action, error);
  }
  command.end(true);
  // qemu-img 7.2 without a verb does nothing.
  if (kind === 'list' && asked.length === 0 && beforeLevel10) return 0;
  const quiet = args.has('quiet') && kind !== 'list';
  if (quiet) return 0;
  if (output === 'json') outLine(prettyJson(result.snapshots.map(snapshotJson)));
  else if (kind === 'list' && result.snapshots.length > 0) {
    outLine('Snapshot list:');
    printSnapshots(result.snapshots);
  } else if (kind !== 'list') quietLine(actsAsQemuImg, sayDone(action, result));
  return 0;
}

const beforeLevel10 = actsAsQemuImg && !isLevel10;

function sayDone(action: SnapshotAction, { subject }: SnapshotResult): string {
  if (action.kind === 'create') return `Snapshot ${subject?.id ?? ''} '${subject?.name ?? ''}' taken.`;
  if (action.kind === 'delete') return `Snapshot ${subject?.id ?? ''} '${subject?.name ?? ''}' deleted.`;
  return action.kind === 'apply' ? `The disk is what snapshot '${action.name}' holds.` : '';
}

/** What the system calls the refusals of qemu's engine. */
const systemErrors: Readonly<Record<string, readonly [errno: number, text: string]>> = {
  'qcow2/refcount-overflow': [-22, 'Invalid argument'],
  'snapshot/too-many': [-27, 'File too large'],
  'snapshot/table-full': [-27, 'File too large'],
  'snapshot/unsupported': [-95, 'Operation not supported'],
  'in-place/read-only': [-95, 'Operation not supported'],
  'snapshot/not-found': [-2, 'No such file or directory'],
};

/** What apply says of a damaged table, after the sentence that says which. */
const tableErrors: Readonly<Record<string, string>> = {
  'qcow2/table-offset': 'Invalid argument',
  'qcow2/table-too-large': 'File too large',
};

/** In qemu-img's words: the system's where it has no own. */
function failure(action: SnapshotAction, error: ImageError): CommandError {
  const name = action.kind === 'list' ? '' : action.name;
  const [errno, text] = systemErrors[error.code] ?? [-5, error.message];
  const told = actsAsQemuImg || error.code === 'snapshot/unsupported' ? text : error.message;
  const detail = { cause: error };
  switch (action.kind) {
    case 'create': {
      const reason = actsAsQemuImg && !isLevel10 ? `${errno} (${told})` : told;
      return new CommandError(`Could not create snapshot '${name}': ${reason}`, detail);
    }
    case 'apply': {
      const system = actsAsQemuImg ? tableErrors[error.code] : undefined;
      if (system !== undefined) {
        complain(error.message);
        return new CommandError(`Could not apply snapshot '${name}': Failed to load snapshot: ${system}`, detail);
      }
      const own = error.code === 'snapshot/driver' || error.code === 'snapshot/bitmaps';
      return new CommandError(
        `Could not apply snapshot '${name}': ${own ? error.message : `Failed to load snapshot: ${told}`}`,
        detail,
      );
    }
    case 'list':
    case 'delete': {
      const reason = error.code === 'snapshot/not-found' ? 'snapshot not found' : error.message;
      return new CommandError(`Could not delete snapshot '${name}': ${reason}`, detail);
    }
  }
}

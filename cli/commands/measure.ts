// platter measure.
import { ImageError } from '../../core/errors/image-error.ts';
import { createDriverNamed } from '../../core/formats/registry.ts';
import { measure, type MeasureResult } from '../../core/operations/measure.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { checkOptionLists, readCreateOptions } from '../create-options.ts';
import { nameImage } from '../image-options.ts';
import { prettyJson } from '../json.ts';
import { programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { definedSecrets, secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { readSnapshotName } from '../snapshot-name.ts';
import { readImageSize } from './create.ts';

export const spec = defineCommand({
  name: 'measure',
  summary: 'say how large a new image would be',
  operands: '[FILE]',
  options: {
    outputFormat: {
      short: 'O',
      long: ['target-format'],
      argument: 'FORMAT',
      meaning: 'format of the new image (default: raw)',
    },
    options: {
      short: 'o',
      long: ['target-format-options', 'options'],
      argument: 'OPTIONS',
      meaning: 'options of the new image, name=value separated by commas',
    },
    size: {
      short: 's',
      long: ['size'],
      argument: 'SIZE',
      meaning: 'an empty disk of SIZE instead of the content of FILE',
    },
    format: sharedOptions.format,
    snapshot: {
      short: 'l',
      long: ['snapshot'],
      argument: 'SNAPSHOT',
      meaning: 'the content of this internal snapshot',
    },
    output: sharedOptions.output,
    share: sharedOptions.share,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    '"required size" is the length of the file for this content, "fully allocated size" for a disk that is full of data.',
  ],
  examples: [
    ['measure -O qcow2 disk.raw', 'how large a conversion to qcow2 would be'],
    ['measure -O qcow2 --size 100G', 'how large an empty and a full image of 100 GiB are'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const lists = args.all('options');
  checkOptionLists(lists);
  const sizeText = args.last('size');
  const asked = sizeText === null ? null : readImageSize(sizeText);
  const snapshot = readSnapshotName(args.last('snapshot'));
  const output = readOutput(args, (text) => new CommandError(text));
  const secrets = readObjects(args.all('object'));
  const [file, another] = args.operands;
  if (another !== undefined) throw new CommandError('At most one filename argument is allowed.');
  if (file === undefined && (args.has('imageOpts') || args.has('format') || args.has('snapshot'))) {
    throw new CommandError('--image-opts, -f, and -l require a filename argument.');
  }
  if (file === undefined && asked === null) {
    throw new CommandError('Either --size N or one filename must be specified.');
  }
  if (file !== undefined && asked !== null) throw new CommandError('--size N cannot be used together with a filename.');
  const named =
    file === undefined
      ? null
      : nameImage(file, {
          format: args.last('format'),
          disk: args.last('disk'),
          imageOpts: args.has('imageOpts'),
          share: args.has('share'),
          secret: secretSource(secrets),
        });
  const format = args.last('outputFormat') ?? 'raw';
  const options = readOptions(format, lists);
  const command = startJob({ lines: wantsLines(args) });
  let result: MeasureResult;
  try {
    result = await measure(
      {
        source: named === null ? null : { path: named.path, options: named.options, snapshot },
        size: asked === null ? 0 : Number(asked),
        format,
        options,
        secret: definedSecrets(secrets),
      },
      command.job,
    );
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if (error.code === 'snapshot/not-found') {
      throw new CommandError(`Failed to load snapshot: ${error.message}`, { cause: error });
    }
    const ofSource = named !== null && error.where.file === named.path;
    throw ofSource ? openFailure(named.name, error) : new CommandError(error.message, { cause: error });
  }
  const { bitmaps } = result;
  if (output === 'json') {
    outLine(
      prettyJson({
        ...(bitmaps === undefined ? {} : { bitmaps }),
        required: BigInt(result.required),
        'fully-allocated': BigInt(result.fullyAllocated),
      }),
    );
  } else {
    outLine(`required size: ${BigInt(result.required)}`);
    outLine(`fully allocated size: ${BigInt(result.fullyAllocated)}`);
    if (bitmaps !== undefined) outLine(`bitmaps size: ${bitmaps}`);
  }
  return 0;
}

function readOptions(format: string, lists: readonly string[]): ReturnType<typeof readCreateOptions> {
  try {
    const driver = createDriverNamed(format);
    try {
      return readCreateOptions(driver, lists);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      throw new CommandError(`${error.message}\n${programName}: Invalid options for file format '${format}'`);
    }
  } catch (error) {
    throw error instanceof ImageError ? new CommandError(error.message) : error;
  }
}

// platter image: what the catalogue knows of images, who stands on whom, and what people write to them.
import type { SecretSource } from '../../core/block/crypto/secret.ts';
import type { Catalogue } from '../../core/catalogue/catalogue.ts';
import { imageRecord, resolveImage, writeNote, writeTags } from '../../core/catalogue/images.ts';
import { digestImage } from '../../core/catalogue/digests.ts';
import { checkImage, findingsOf } from '../../core/catalogue/findings.ts';
import { cloneImage, deleteImage, moveImage } from '../../core/catalogue/files.ts';
import { mergeIntoParent } from '../../core/catalogue/merge.ts';
import { interruptedMigrations, migrate, resumeMigration, type MigrateResult } from '../../core/catalogue/migrate.ts';
import { relink } from '../../core/catalogue/relink.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import type { Job } from '../../core/job.ts';
import { dependentsOf, findParent } from '../../core/catalogue/lineage.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { inOrder } from '../json.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { openForCommand } from './datastore.ts';
import { listAll, printForest, printList, printRecord, rootOf, roots, type Output } from '../image-listing.ts';

export const spec = defineCommand({
  name: 'image',
  summary:
    'images of the catalogue: who stands on whom; relink, move, clone, migrate, merge, check, delete; names, notes, tags',
  operands:
    'list | show IMAGE | tree [IMAGE] | dependents IMAGE | find-parent IMAGE | relink IMAGE [PARENT] | move IMAGE PATH | ' +
    'clone IMAGE PATH | migrate IMAGE DATASTORE [FOLDER] | resume | merge IMAGE | check IMAGE | digest IMAGE | history IMAGE | ' +
    'delete IMAGE | name IMAGE [NAME] | note IMAGE [TEXT] | tag IMAGE [+TAG|-TAG…]',
  options: {
    datastore: { short: 'd', long: ['datastore'], argument: 'NAME', meaning: 'list: only images of this datastore' },
    format: {
      short: 'f',
      long: ['format'],
      argument: 'FORMAT',
      meaning: 'list: only images of this format; clone, migrate: the new format',
    },
    tag: { short: 't', long: ['tag'], argument: 'TAG', meaning: 'list: only images with this tag' },
    search: {
      short: 's',
      long: ['search'],
      argument: 'TEXT',
      meaning: 'list: only images with this in their path or name',
    },
    problems: { long: ['problems'], meaning: 'list: only images with a problem, of their own or with their parent' },
    chain: { long: ['chain'], meaning: 'migrate: what the image stands on too' },
    force: {
      long: ['force'],
      meaning:
        'delete: although others stand on it; merge: although others stand on the parent, or snapshots are lost; ' +
        'relink: to a parent that nothing speaks for',
    },
    object: sharedOptions.object,
    output: sharedOptions.output,
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
  },
  notes: [
    'IMAGE is the path of a file, a path within a datastore (alone or as DATASTORE/PATH), a name that was given, or an id. ' +
      'PATH lies in the datastore of the image. A tag to take away begins with a minus sign: write it after --.',
    'A migration copies, holds the digests against each other, tells the children, and removes the source last. Killed at any moment it ' +
      'leaves every chain whole; resume goes on.',
    'Exit codes: 0 done; 1 it could not be done; find-parent: 2 when there is no candidate; check: as platter check.',
  ],
  examples: [
    ['image list --problems', 'what needs attention'],
    ['image tree base.qcow2', 'everything that stands on this image'],
    ['image find-parent clone.vhd', 'where the lost parent might be'],
    ['image relink clone.vhd', 'tell an image where its moved parent is now'],
    [
      'image migrate web1.qcow2 nas --chain -f vmdk',
      'the image and what it stands on, to another datastore and format',
    ],
    ['image merge snapshot-1.vhdx', 'what it holds into its parent; what stood on it stands on the parent'],
    ['image tag web1.qcow2 +production', 'mark an image'],
  ],
});

type Args = Arguments<keyof typeof spec.options>;

export async function run(args: Args): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const [verb = 'list', name, ...rest] = args.operands;
  const catalogue = openForCommand();
  try {
    if (verb === 'list') {
      if (name !== undefined) throw new UsageError(`Unexpected argument '${name}'`, spec.name);
      const filter = {
        datastore: args.last('datastore'),
        format: args.last('format'),
        tag: args.last('tag'),
        text: args.last('search'),
        problems: args.has('problems'),
      };
      printList(listAll(catalogue, filter), output);
      return 0;
    }
    if (verb === 'resume') {
      if (name !== undefined) throw new UsageError(`Unexpected argument '${name}'`, spec.name);
      return await resumeAll(catalogue, args, output);
    }
    if (verb === 'tree' && name === undefined) {
      printForest(catalogue, roots(catalogue), output);
      return 0;
    }
    if (!verbs.has(verb)) {
      throw new UsageError(`Unknown action '${verb}' (expecting list, ${[...verbs.keys()].join(', ')})`, spec.name);
    }
    if (name === undefined) throw new UsageError('Expecting an image', spec.name);
    return (await verbs.get(verb)?.(catalogue, resolveImage(catalogue, name), { rest, output, args })) ?? 1;
  } finally {
    catalogue.close();
  }
}

interface Asked {
  readonly rest: readonly string[];
  readonly output: Output;
  readonly args: Args;
}

type Action = (catalogue: Catalogue, id: string, asked: Asked) => number | Promise<number>;

const verbs = new Map<string, Action>([
  [
    'show',
    (catalogue, id, { output }) => {
      printRecord(catalogue, imageRecord(catalogue, id), output);
      return 0;
    },
  ],
  [
    'tree',
    (catalogue, id, { output }) => {
      printForest(catalogue, [rootOf(catalogue, id)], output);
      return 0;
    },
  ],
  [
    'dependents',
    (catalogue, id, { output }) => {
      const files = dependentsOf(catalogue, id).map((one) => imageRecord(catalogue, one).file);
      if (output === 'json') outLine(inOrder(files));
      else files.forEach((file) => outLine(file));
      return 0;
    },
  ],
  [
    'find-parent',
    (catalogue, id, { output }) => {
      const candidates = findParent(catalogue, id);
      if (output === 'json') outLine(inOrder(candidates));
      else for (const { file, by } of candidates) outLine(`${file} (by ${by})`);
      return candidates.length > 0 ? 0 : 2;
    },
  ],
  [
    'relink',
    (catalogue, id, { rest, args }) => {
      const parent = rest.length === 0 ? null : resolveImage(catalogue, onlyWord(rest, 'a parent'));
      return underJob(
        args,
        (job) => relink(catalogue, { image: id, parent, force: args.has('force') }, job),
        (found) => outLine(`${imageRecord(catalogue, id).file} stands on ${imageRecord(catalogue, found).file}`),
      );
    },
  ],
  [
    'move',
    (catalogue, id, { rest, args }) => {
      const target = onlyWord(rest, 'the new path in the datastore');
      return underJob(
        args,
        (job) => moveImage(catalogue, id, target, job),
        () => {},
      );
    },
  ],
  [
    'delete',
    (catalogue, id, { args }) => {
      deleteImage(catalogue, id, args.has('force'));
      return 0;
    },
  ],
  [
    'clone',
    (catalogue, id, { rest, args }) => {
      const target = onlyWord(rest, 'the path of the clone in the datastore');
      const done = (clone: string): void => outLine(imageRecord(catalogue, clone).file);
      return underJob(args, (job) => cloneImage(catalogue, id, target, args.last('format'), job), done);
    },
  ],
  [
    'migrate',
    (catalogue, id, { rest, args }) => {
      const [datastore, folder = '.', extra] = rest;
      if (datastore === undefined) throw new UsageError('Expecting a datastore', spec.name);
      if (extra !== undefined) throw new UsageError(`Unexpected argument '${extra}'`, spec.name);
      const where = { image: id, datastore, folder, format: args.last('format'), chain: args.has('chain') };
      const params = { ...where, secret: secretsFor(args) };
      return underJob(
        args,
        (job) => migrate(catalogue, params, job),
        ({ files }) => files.forEach((file) => outLine(file)),
      );
    },
  ],
  [
    'merge',
    (catalogue, id, { rest, args }) => {
      if (rest[0] !== undefined) throw new UsageError(`Unexpected argument '${rest[0]}'`, spec.name);
      return underJob(
        args,
        (job) => mergeIntoParent(catalogue, { image: id, force: args.has('force'), secret: secretsFor(args) }, job),
        ({ parent }) => outLine(imageRecord(catalogue, parent).file),
      );
    },
  ],
  [
    'digest',
    (catalogue, id, { args, output }) =>
      underJob(
        args,
        (job) => digestImage(catalogue, id, 'sha256', job),
        (result) =>
          outLine(output === 'json' ? inOrder(result) : `${result.value}  ${imageRecord(catalogue, id).file}`),
      ),
  ],
  [
    'check',
    async (catalogue, id, { args, output }) => {
      let found = 0;
      const code = await underJob(
        args,
        (job) => checkImage(catalogue, id, job),
        (result) => {
          found = result.corruptions > 0 || result.errors > 0 ? 2 : result.leaks > 0 ? 3 : 0;
          if (output === 'json') outLine(inOrder(findingsOf(catalogue, id)));
          else for (const { severity, text } of findingsOf(catalogue, id)) outLine(`${severity}: ${text}`);
        },
      );
      return code === 0 ? found : code;
    },
  ],
  [
    'history',
    (catalogue, id, { output }) => {
      const { history } = imageRecord(catalogue, id);
      if (output === 'json') outLine(inOrder(history));
      else for (const { at, what, detail } of history) outLine(`${new Date(at).toISOString()}  ${what}  ${detail}`);
      return 0;
    },
  ],
  [
    'name',
    (catalogue, id, { rest }) => {
      writeNote(catalogue, id, { name: text(rest) });
      return 0;
    },
  ],
  [
    'note',
    (catalogue, id, { rest }) => {
      writeNote(catalogue, id, { note: text(rest) });
      return 0;
    },
  ],
  [
    'tag',
    (catalogue, id, { rest }) => {
      const add = rest.filter((tag) => !tag.startsWith('-')).map((tag) => tag.replace(/^\+/, ''));
      const remove = rest.filter((tag) => tag.startsWith('-')).map((tag) => tag.slice(1));
      writeTags(catalogue, id, { add, remove });
      outLine(imageRecord(catalogue, id).tags.join(' '));
      return 0;
    },
  ],
]);

function secretsFor(args: Args): SecretSource {
  return secretSource(readObjects(args.all('object')));
}

/** Runs long work under a job that prints, and can be cancelled. Gives the exit code of a signal, or 0 after `done`. */
async function underJob<Result>(
  args: Args,
  work: (job: Job) => Promise<Result>,
  done: (result: Result) => void,
): Promise<number> {
  const command = startJob({ bar: args.has('bar'), lines: wantsLines(args), tidies: true });
  try {
    const result = await work(command.job);
    command.end(true);
    done(result);
    return 0;
  } catch (error) {
    command.end(false);
    const code = command.exitCode();
    if (code !== null && error instanceof ImageError && error.code === 'request/cancelled') return code;
    throw error;
  }
}

/** The only word of an action that wants one. */
function onlyWord(rest: readonly string[], what: string): string {
  const [word, extra] = rest;
  if (word === undefined) throw new UsageError(`Expecting ${what}`, spec.name);
  if (extra !== undefined) throw new UsageError(`Unexpected argument '${extra}'`, spec.name);
  return word;
}

async function resumeAll(catalogue: Catalogue, args: Args, output: Output): Promise<number> {
  const interrupted = interruptedMigrations(catalogue);
  const results: MigrateResult[] = [];
  const secret = secretsFor(args);
  const code = await underJob(
    args,
    async (job) => {
      for (const { id } of interrupted) results.push(await resumeMigration(catalogue, id, job, secret));
    },
    () => {},
  );
  if (output === 'json') outLine(inOrder(results));
  else if (interrupted.length === 0) outLine('No migration was interrupted.');
  else for (const file of results.flatMap(({ files }) => files)) outLine(file);
  return code;
}

/** The words as one text; nothing: null, which takes it away. */
function text(words: readonly string[]): string | null {
  return words.length === 0 ? null : words.join(' ');
}

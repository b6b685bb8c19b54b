// The verbs: what each is for, and where its code is. Nothing of a verb is loaded before it is asked for.
import type { Arguments, CommandSpec } from './args.ts';

/** What the file of a verb exports. */
export interface CommandModule {
  readonly spec: CommandSpec;
  /** Does it; gives the exit code. Throws `CommandError`, `UsageError`, `ImageError`. */
  run(args: Arguments): Promise<number>;
}

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  load(): Promise<CommandModule>;
}

export const commands: readonly CommandEntry[] = [
  {
    name: 'check',
    summary: 'look for errors in the structures of an image',
    load: () => import('./commands/check.ts'),
  },
  {
    name: 'compare',
    summary: 'say whether two images hold the same disk',
    load: () => import('./commands/compare.ts'),
  },
  {
    name: 'convert',
    summary: 'copy the content of an image into a new one, of any format',
    load: () => import('./commands/convert.ts'),
  },
  {
    name: 'create',
    summary: 'make an empty image, or an overlay over another one',
    load: () => import('./commands/create.ts'),
  },
  {
    name: 'dd',
    summary: 'copy a number of blocks of an image into a new one',
    load: () => import('./commands/dd.ts'),
  },
  {
    name: 'info',
    summary: 'say what an image is',
    load: () => import('./commands/info.ts'),
  },
  {
    name: 'map',
    summary: 'list which parts of a disk are stored where',
    load: () => import('./commands/map.ts'),
  },
  {
    name: 'measure',
    summary: 'say how large a new image would be',
    load: () => import('./commands/measure.ts'),
  },
];

/** Verbs of qemu-img that this version does not have yet. */
export const missingCommands: readonly string[] = [
  'amend',
  'bench',
  'bitmap',
  'commit',
  'rebase',
  'resize',
  'snapshot',
];

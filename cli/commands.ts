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
    name: 'amend',
    summary: 'change options of an image that is there',
    load: () => import('./commands/amend.ts'),
  },
  {
    name: 'bench',
    summary: 'time a number of equal requests to an image',
    load: () => import('./commands/bench.ts'),
  },
  {
    name: 'bitmap',
    summary: 'change the dirty bitmaps that an image keeps',
    load: () => import('./commands/bitmap.ts'),
  },
  {
    name: 'chain',
    summary: 'show what an image stands on and what stands on it, and which layer supplies a sector',
    load: () => import('./commands/chain.ts'),
  },
  {
    name: 'check',
    summary: 'look for errors in the structures of an image',
    load: () => import('./commands/check.ts'),
  },
  {
    name: 'commit',
    summary: 'write what an overlay holds into the image below it',
    load: () => import('./commands/commit.ts'),
  },
  {
    name: 'compact',
    summary: 'give back the space that an image takes in vain',
    load: () => import('./commands/compact.ts'),
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
    name: 'datastore',
    summary: 'keep an eye on folders of images: add, scan, list, show, problems, rename, remove; sample images',
    load: () => import('./commands/datastore.ts'),
  },
  {
    name: 'dd',
    summary: 'copy a number of blocks of an image into a new one',
    load: () => import('./commands/dd.ts'),
  },
  {
    name: 'digest',
    summary: "print a checksum of the guest's disk: the same for the same disk in every format",
    load: () => import('./commands/digest.ts'),
  },
  {
    name: 'hexdump',
    summary: "print bytes of an image's file, or of the guest's disk, and what they mean",
    load: () => import('./commands/hexdump.ts'),
  },
  {
    name: 'image',
    summary:
      'images of the catalogue: who stands on whom; relink, move, clone, migrate, merge, check, delete; names, notes, tags',
    load: () => import('./commands/image.ts'),
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
  {
    name: 'overlay',
    summary: 'make an external snapshot: an empty image over another one',
    load: () => import('./commands/overlay.ts'),
  },
  {
    name: 'profile',
    summary: 'say what platforms (Azure, ESXi, Hyper-V, …) would refuse of an image, and why: list, show, check',
    load: () => import('./commands/profile.ts'),
  },
  {
    name: 'rebase',
    summary: 'put another image below an overlay, or none',
    load: () => import('./commands/rebase.ts'),
  },
  {
    name: 'regions',
    summary: "list what each stretch of an image's file, or of the guest's disk, is for",
    load: () => import('./commands/regions.ts'),
  },
  {
    name: 'resize',
    summary: 'give the disk of an image another size',
    load: () => import('./commands/resize.ts'),
  },
  {
    name: 'serve',
    summary: 'run the workbench for a browser on this machine',
    load: () => import('./commands/serve.ts'),
  },
  {
    name: 'snapshot',
    summary: 'list, take, apply or delete snapshots inside an image',
    load: () => import('./commands/snapshot.ts'),
  },
  {
    name: 'undo',
    summary: 'take back the last change of an image',
    load: () => import('./commands/undo.ts'),
  },
];

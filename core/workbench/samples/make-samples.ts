// Sample images to try everything on, made by our own drivers: a disk, a layer over it, a damaged copy, and a layer whose parent was moved away.
import fs from 'node:fs';
import path from 'node:path';
import { flushFolder } from '../../block/journal/place.ts';
import { writeGuest } from '../../block/write.ts';
import { fromSystem, ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { create } from '../../operations/create.ts';
import { changeInPlace } from '../../operations/in-place.ts';
import { damage } from './damage.ts';
import { numberedLines, sampleDisk, sampleSize, type Piece, type SampleFile } from './sample-disk.ts';

/** The images by what they are for: paths within the folder. */
export const sampleNames = {
  disk: 'sample.qcow2',
  overlay: 'sample-overlay.qcow2',
  damaged: 'damaged.qcow2',
  orphan: 'web-server.vmdk',
  movedParent: 'moved/template.vmdk',
} as const;

/** The same with whole paths, free of links. */
export type SampleImages = { readonly [Name in keyof typeof sampleNames]: string };

/**
 * Makes the images in `folder`, which is made if it is not there. Nothing that exists is touched: throws `image/target-exists` for the first
 * file that is in the way, `storage/*`, `request/cancelled`; what was made by then is removed.
 */
export async function makeSamples(folder: string, job: Job): Promise<SampleImages> {
  const names = [...Object.values(sampleNames), 'template.vmdk'];
  refuseExisting(names.map((name) => path.resolve(folder, name)));
  // Of each the first folder of its path that was not there before.
  const madeFolders = [folder, path.join(folder, 'moved')].map((made) => makeFolder(made));
  const root = fs.realpathSync(folder);
  const at = (name: string): string => path.join(root, ...name.split('/'));
  const template = at('template.vmdk');
  const [plain, withNote] = [sampleDisk(diskFiles), sampleDisk([...diskFiles, note])];
  const added = withNote.filter((piece) => !plain.some((other) => same(piece, other)));
  const steps: (() => Promise<void>)[] = [
    () => make(at(sampleNames.disk), 'qcow2', null, plain),
    () => make(at(sampleNames.overlay), 'qcow2', sampleNames.disk, added),
    async () => {
      await make(at(sampleNames.damaged), 'qcow2', null, plain);
      damage(at(sampleNames.damaged));
    },
    () => make(template, 'vmdk', null, plain),
    () => make(at(sampleNames.orphan), 'vmdk', 'template.vmdk', added),
  ];
  try {
    for (const [done, step] of steps.entries()) {
      job.throwIfCancelled();
      job.progress({ phase: 'samples', done, total: steps.length });
      await step();
    }
    fs.renameSync(template, at(sampleNames.movedParent));
    for (const changed of [at('moved'), root]) flushFolder(changed);
  } catch (error) {
    for (const name of names) fs.rmSync(at(name), { force: true });
    for (const made of madeFolders.reverse()) if (made !== undefined) removeEmpty(made);
    throw error;
  }
  job.progress({ phase: 'samples', done: steps.length, total: steps.length });
  const named = Object.entries(sampleNames).map(([name, file]) => [name, at(file)]);
  return Object.fromEntries(named) as SampleImages;

  async function make(file: string, format: string, backing: string | null, pieces: readonly Piece[]): Promise<void> {
    await create(
      {
        path: file,
        format,
        size: backing === null ? sampleSize : null,
        options: {},
        backing: backing === null ? null : { path: backing, format },
        unsafe: false,
      },
      job,
    );
    await changeInPlace(file, { verb: 'make-samples', open: { format, undo: 'none' } }, ({ node }) => {
      for (const { at: place, bytes } of pieces) writeGuest(node, bytes, place);
    });
  }
}

const text = (lines: readonly string[]): Uint8Array => new TextEncoder().encode(`${lines.join('\r\n')}\r\n`);

const diskFiles: readonly SampleFile[] = [
  {
    name: 'README',
    ending: 'TXT',
    bytes: text([
      'This disk was made by Platter, to try things on.',
      'It has one partition with a FAT16 file system and these files:',
      '  README.TXT  what you are reading',
      '  LOG.TXT     numbered lines, so that a place on the disk can be recognised',
      'A third file was deleted: its bytes are still here, and compacting gives their space back.',
      'Nothing else depends on this disk. Convert it, change it, break it, delete it.',
    ]),
  },
  { name: 'LOG', ending: 'TXT', bytes: numberedLines('the log', 3 * 1024 * 1024) },
  { name: 'OLDLOG', ending: 'TXT', bytes: numberedLines('a deleted log', 2 * 1024 * 1024), deleted: true },
];

const note: SampleFile = {
  name: 'OVERLAY',
  ending: 'TXT',
  bytes: text(['This file is in the layer above. The disk below it does not have it.']),
};

function same(one: Piece, other: Piece): boolean {
  return one.at === other.at && Buffer.compare(one.bytes, other.bytes) === 0;
}

/** The first folder that had to be made; undefined: all were there. Throws `storage/open`. */
function makeFolder(folder: string): string | undefined {
  try {
    return fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw fromSystem('storage/open', error, { file: folder });
  }
}

/** Throws `image/target-exists` for the first file that is there. */
function refuseExisting(files: readonly string[]): void {
  for (const file of files) {
    if (fs.lstatSync(file, { throwIfNoEntry: false }) !== undefined) {
      throw new ImageError('image/target-exists', { name: file }, { file });
    }
  }
}

/** Removes a folder that was made here and whose folders below hold nothing; one with anything in it stays. */
function removeEmpty(folder: string): void {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmpty(path.join(folder, entry.name));
  }
  if (fs.readdirSync(folder).length === 0) fs.rmdirSync(folder);
}

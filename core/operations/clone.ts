// A copy of all files of an image, with shared blocks where the file system has such a thing.
import path from 'node:path';
import { copyFile, isTaken, removeFiles } from '../block/file-copy.ts';
import { ImageError } from '../errors/image-error.ts';
import { resolveReference } from '../formats/gate.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';

/** One file of the image and where its copy goes. */
interface FilePair {
  readonly from: string;
  readonly to: string;
}

export interface ClonedImage {
  /** The copies, the one that was named first. */
  readonly files: readonly string[];
  /** Bytes that were copied; 0: all blocks are shared. */
  readonly copied: number;
}

/**
 * Copies the image at `file` to `copy`: the file, and the further files of the image (extents, data file) under the same names into the
 * folder of `copy`. The layer below stays where it is. The originals are opened read-only. On an error nothing is left.
 * Throws what opening throws, `clone/exists`, `clone/same-folder` and `clone/elsewhere` for images of several files, `storage/*`,
 * `request/cancelled`.
 */
export function cloneImage(file: string, options: OpenOptions, copy: string, job: Job): ClonedImage {
  const { node, driver } = openImage(file, { ...options, writable: false, withBacking: false, forRepair: true });
  const made: string[] = [];
  try {
    const further = node.files.slice(1).map(({ storage }) => storage.name);
    const dataFile = driver.facts(node).specific?.data['data-file'];
    if (typeof dataFile === 'string') further.push(resolveReference(file, dataFile));
    const pairs: FilePair[] = [{ from: file, to: copy }];
    for (const from of new Set(further)) {
      if (from !== file) pairs.push({ from, to: placeOf(from, file, copy) });
    }
    for (const { to } of pairs) {
      if (isTaken(to)) throw new ImageError('clone/exists', { name: to }, { file: to });
    }
    let copied = 0;
    for (const { from, to } of pairs) {
      copied += copyFile(from, to, { lock: options.share === true ? 'shared-any' : 'read', cache: options.cache }, job);
      made.push(to);
    }
    return { files: made, copied };
  } catch (error) {
    removeFiles(made);
    throw error;
  } finally {
    node.close();
  }
}

function placeOf(from: string, file: string, copy: string): string {
  const relative = path.relative(path.dirname(path.resolve(file)), path.resolve(from));
  const where = { file: from };
  if (path.isAbsolute(relative) || relative.startsWith('..'))
    throw new ImageError('clone/elsewhere', { name: from }, where);
  const folder = path.dirname(path.resolve(copy));
  if (folder === path.dirname(path.resolve(file))) throw new ImageError('clone/same-folder', { name: from }, where);
  return path.join(folder, relative);
}

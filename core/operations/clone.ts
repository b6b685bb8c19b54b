// A copy of all files of an image, with shared blocks where the file system has such a thing.
import fs from 'node:fs';
import path from 'node:path';
import { openFile } from '../block/file.ts';
import { cloneFile, copyRange } from '../block/host/transfer.ts';
import type { Storage } from '../block/storage.ts';
import { MiB } from '../block/units.ts';
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

const pieceLength = 4 * MiB;

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
      if (fs.existsSync(to)) throw new ImageError('clone/exists', { name: to }, { file: to });
    }
    let copied = 0;
    for (const { from, to } of pairs) {
      made.push(to);
      copied += copyOne(from, to, options, job);
    }
    return { files: made, copied };
  } catch (error) {
    for (const name of made) fs.rmSync(name, { force: true });
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

/** The bytes that had to be copied. */
function copyOne(from: string, to: string, { share, cache }: OpenOptions, job: Job): number {
  if (cloneFile(from, to)) return 0;
  fs.mkdirSync(path.dirname(to), { recursive: true });
  const source = openFile(from, { writable: false, lock: share === true ? 'shared-any' : 'read', cache });
  try {
    const target = openFile(to, { writable: true, lock: 'write', create: 'new', mode: 0o644 });
    try {
      return copyBytes(source, target, job);
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
}

function copyBytes(source: Storage, target: Storage, job: Job): number {
  let copied = 0;
  let buffer: Uint8Array | null = null;
  for (let at = 0; at < source.size;) {
    job.throwIfCancelled();
    job.progress({ phase: 'copy', done: at, total: source.size });
    const { kind, length } = source.extentAt(at, Math.min(pieceLength, source.size - at));
    if (kind === 'data') {
      let done = copyRange(source, at, target, at, length);
      if (done === 0) {
        buffer ??= new Uint8Array(pieceLength);
        const piece = buffer.subarray(0, length);
        source.readAt(piece, at);
        target.writeAt(piece, at);
        done = length;
      }
      copied += done;
      at += done;
    } else {
      at += length;
    }
  }
  target.truncate(source.size);
  target.flush();
  return copied;
}

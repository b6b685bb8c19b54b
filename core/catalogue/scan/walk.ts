// The files under a folder: every regular file once, in bounded memory, whatever lies in its way.
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem, ImageError } from '../../errors/image-error.ts';

/** A file, or what stands in the way of one. `path` is relative to the folder, with `/` between its parts. */
export type Found =
  | { readonly kind: 'file'; readonly path: string; readonly stat: FileStat }
  /** `closed`: it is a folder that cannot be looked into, so that nothing is known of what lies in it. */
  | { readonly kind: 'problem'; readonly path: string; readonly error: ImageError; readonly closed?: boolean };

/** What tells whether a file is still the same without opening it. Numbers beyond 2^53 as text. */
export interface FileStat {
  readonly device: string;
  readonly inode: string;
  readonly mtimeNs: string;
  readonly length: number;
  readonly allocated: number;
}

/** Folders in folders at most; deeper ones are a problem of their own. */
const deepest = 64;

/** Files that this program makes for itself, and folders of no interest. */
const ignoredName = /^\.(platter-probe-|.+\.partial-[0-9a-f]{8}$|.+\.platter-journal$)/;

/**
 * Walks `root` depth first, names in order. Links to files are followed, links to folders are not (they could lead round in circles, and
 * what they lead to belongs to where it is). Names that are not UTF-8 and folders that cannot be read are problems. Throws
 * `datastore/unreachable` only when `root` itself cannot be listed.
 */
export function* walk(root: string): Generator<Found, void, void> {
  yield* walkFolder(root, '', 0);
}

function* walkFolder(root: string, folder: string, depth: number): Generator<Found, void, void> {
  let entries: fs.Dirent<Buffer>[];
  try {
    entries = fs.readdirSync(path.join(root, folder), { withFileTypes: true, encoding: 'buffer' });
  } catch (error) {
    const failed = fromSystem('storage/open', error, { file: path.join(root, folder) });
    if (folder === '') {
      const detail = { name: root, datastore: '', reason: failed.message };
      throw new ImageError('datastore/unreachable', detail, { file: root }, failed);
    }
    yield { kind: 'problem', path: folder, error: failed, closed: true };
    return;
  }
  entries.sort((a, b) => Buffer.compare(a.name, b.name));
  for (const entry of entries) {
    const name = entry.name.toString('utf8');
    const relative = folder === '' ? name : `${folder}/${name}`;
    if (!Buffer.from(name, 'utf8').equals(entry.name)) {
      const error = new ImageError('image/name-encoding', {}, { file: path.join(root, relative) });
      yield { kind: 'problem', path: relative, error };
    } else if (ignoredName.test(name)) {
      continue;
    } else if (entry.isDirectory()) {
      if (depth < deepest) yield* walkFolder(root, relative, depth + 1);
      else yield { kind: 'problem', path: relative, error: new ImageError('gate/depth', { allowed: deepest }) };
    } else if (entry.isFile() || entry.isSymbolicLink()) {
      const found = statFile(root, relative, entry.isSymbolicLink());
      if (found !== null) yield found;
    }
  }
}

/** Null: gone meanwhile, or a link to something that is no file. */
function statFile(root: string, relative: string, isLink: boolean): Found | null {
  const file = path.join(root, relative);
  try {
    const stat = fs.statSync(file, { bigint: true });
    return stat.isFile() ? { kind: 'file', path: relative, stat: statOf(stat) } : null;
  } catch (error) {
    const failed = fromSystem('storage/open', error, { file });
    if (failed.detail.errno !== 'ENOENT') return { kind: 'problem', path: relative, error: failed };
    if (!isLink) return null;
    return { kind: 'problem', path: relative, error: new ImageError('image/dangling-link', {}, { file }) };
  }
}

/**
 * What a file or block device is now; null: it is not there, is something else (opening a pipe would wait for ever), or cannot be asked
 * about. Links are followed.
 */
export function statFileNow(file: string): FileStat | null {
  try {
    const stat = fs.statSync(file, { bigint: true });
    return stat.isFile() || stat.isBlockDevice() ? statOf(stat) : null;
  } catch {
    return null;
  }
}

/** The parts of a stat that the catalogue keeps. */
function statOf(stat: fs.BigIntStats): FileStat {
  return {
    device: String(stat.dev),
    inode: String(stat.ino),
    mtimeNs: String(stat.mtimeNs),
    length: Number(stat.size),
    allocated: Number(stat.blocks) * 512,
  };
}

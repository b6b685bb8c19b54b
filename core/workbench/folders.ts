// A page of a folder for a path picker: folders first, names in order, nothing outside of the fence.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromSystem } from '../errors/image-error.ts';
import { leadsTo, standsBelow } from '../block/host/names.ts';
import type { Datastore } from '../catalogue/datastores.ts';
import type { FolderPage, Room } from './contract.ts';
import { isWithin, requireWithin, type Fence } from './fence.ts';

/** Lists `folder`; null: the home folder, or the first one that may be reached. Throws `access/outside`, `storage/open`. */
export function listFolder(fence: Fence, folder: string | null, offset: number, limit: number): FolderPage {
  const wanted = path.resolve(folder ?? fence.roots?.[0] ?? os.homedir());
  requireWithin(fence, wanted);
  let entries: fs.Dirent[];
  try {
    entries = fs.readdirSync(wanted, { withFileTypes: true });
  } catch (error) {
    throw fromSystem('storage/open', error, { file: wanted });
  }
  const known = entries.map((entry) => ({ name: entry.name, kind: kindOf(wanted, entry) }));
  const rank = { folder: 0, file: 1, other: 2 };
  known.sort((a, b) => rank[a.kind] - rank[b.kind] || (a.name < b.name ? -1 : 1));
  const parent = path.dirname(wanted);
  return {
    path: wanted,
    parent: parent !== wanted && isWithin(fence, parent) ? parent : null,
    entries: known
      .slice(offset, offset + limit)
      .map((entry) => ({ ...entry, ...factsOf(path.join(wanted, entry.name)) })),
    total: known.length,
  };
}

/** The room where `file` is, or would be made. Throws `access/outside`, `storage/open`. */
export function roomAt(fence: Fence, stores: readonly Datastore[], file: string): Room {
  let folder = path.resolve(file);
  requireWithin(fence, folder);
  while (statOf(folder)?.isDirectory() !== true && path.dirname(folder) !== folder) folder = path.dirname(folder);
  try {
    const { blocks, bavail, bsize } = fs.statfsSync(folder);
    const store = stores.find(({ path: root }) => standsBelow(folder, root) || leadsTo(folder)?.path === root);
    return {
      folder,
      free: bavail * bsize,
      total: blocks * bsize,
      datastore: store === undefined ? null : { id: store.id, name: store.name },
      largestFile: store?.capabilities?.maxFileSize ?? null,
    };
  } catch (error) {
    throw fromSystem('storage/open', error, { file: folder });
  }
}

type Kind = FolderPage['entries'][number]['kind'];

function kindOf(folder: string, entry: fs.Dirent): Kind {
  if (entry.isDirectory()) return 'folder';
  if (entry.isFile() || entry.isBlockDevice()) return 'file';
  if (!entry.isSymbolicLink()) return 'other';
  const stat = statOf(path.join(folder, entry.name));
  if (stat === null) return 'other';
  return stat.isDirectory() ? 'folder' : stat.isFile() || stat.isBlockDevice() ? 'file' : 'other';
}

function factsOf(file: string): { size: number | null; changedAt: number | null } {
  const stat = statOf(file);
  if (stat === null) return { size: null, changedAt: null };
  return { size: stat.isFile() ? stat.size : null, changedAt: Math.floor(stat.mtimeMs) };
}

function statOf(file: string): fs.Stats | null {
  try {
    return fs.statSync(file);
  } catch {
    return null; // a dangling link, or gone meanwhile
  }
}

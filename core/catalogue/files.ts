// What is done to the files of images as files: renamed or moved within a file system, deleted, cloned over.
import fs from 'node:fs';
import path from 'node:path';
import { openFile } from '../block/file.ts';
import { forgetJournal } from '../block/journal/place.ts';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import { allowing } from '../formats/gate.ts';
import type { Job } from '../job.ts';
import { overlay } from '../operations/overlay.ts';
import type { Catalogue } from './catalogue.ts';
import { imageRecord, remember } from './images.ts';
import { childEdges, dependentsOf, parentEdge } from './lineage.ts';
import { linkFiles } from './relink.ts';
import { placeOf, readNewImage, rereadImage, type Placed } from './reread.ts';
import { refreshLineage } from './lineage.ts';

/** Throws `image/has-dependents` unless forced or nobody reads through the image. */
export function refuseWithDependents(catalogue: Catalogue, id: string, force: boolean): void {
  refuseDependents(catalogue, id, dependentsOf(catalogue, id), force);
}

/** The same for those of them that count. */
export function refuseDependents(
  catalogue: Catalogue,
  id: string,
  dependents: readonly string[],
  force: boolean,
): void {
  if (force || dependents.length === 0) return;
  const files = dependents.slice(0, 3).map((one) => placeOf(catalogue, one).file);
  const named = files.join(', ') + (dependents.length > 3 ? ', …' : '');
  throw new ImageError('image/has-dependents', {
    name: placeOf(catalogue, id).file,
    count: dependents.length,
    named,
  });
}

/**
 * Gives the file of an image another path in its datastore (relative to it), tells its children, and itself where its parent is from there.
 * While that lasts the file has both names: whoever is interrupted leaves a chain that is whole under the old one or the new one. Images of
 * several files move to another folder together and keep their names. Throws `image/target-exists`, `image/outside-datastore`,
 * `image/parts-named`, `storage/*`, and what relinking throws.
 */
export async function moveImage(catalogue: Catalogue, id: string, target: string, job: Job): Promise<void> {
  const place = placeOf(catalogue, id);
  const to = path.resolve(place.root, target);
  const relative = path.relative(place.root, to);
  if (relative.startsWith('..') || path.isAbsolute(relative)) {
    throw new ImageError('image/outside-datastore', { name: target, root: place.root });
  }
  const moves = movesOf(catalogue, place, to);
  for (const { to: name } of moves) {
    if (fs.existsSync(name)) throw new ImageError('image/target-exists', { name }, { file: name });
  }
  const children = childEdges(catalogue, id).map(({ childId }) => placeOf(catalogue, childId));
  const parent = parentEdge(catalogue, id);
  requireFree(place);
  const both = giveNames(moves);
  try {
    if (parent !== null && parent.fullPath !== null && path.dirname(to) !== path.dirname(place.file)) {
      await linkFiles(
        to,
        place.format,
        parent.fullPath,
        parent.referenceFormat ?? formatOfParent(catalogue, parent.parentId),
        job,
      );
    }
    for (const child of children) await linkFiles(child.file, child.format, to, place.format, job);
  } catch (error) {
    await takeBack(catalogue, place, moves, children, both);
    throw error;
  }
  if (both) for (const { from } of moves) fs.unlinkSync(from);
  // It speaks of the file under its old name.
  forgetJournal(place.file);
  catalogue.database.transaction(() => {
    catalogue.database.run('update image set path = :path where id = :id', {
      id,
      path: relative.split(path.sep).join('/'),
    });
    remember(catalogue, id, 'move', `${place.file} → ${to}`);
  });
  for (const one of [id, ...children.map((child) => child.id)]) rereadImage(catalogue, one);
}

interface Move {
  readonly from: string;
  readonly to: string;
}

/** The file and its parts. Parts are named in the image, which is not rewritten for it. */
function movesOf(catalogue: Catalogue, place: Placed, to: string): Move[] {
  const { parts } = imageRecord(catalogue, place.id);
  if (parts.length > 0 && path.basename(to) !== path.basename(place.file)) {
    throw new ImageError('image/parts-named', { name: place.file, count: parts.length + 1 }, { file: place.file });
  }
  const folder = path.dirname(place.file);
  const beside = parts.map((part) => ({
    from: part.path,
    to: path.join(path.dirname(to), path.relative(folder, part.path)),
  }));
  return [{ from: place.file, to }, ...beside];
}

/** Nobody else holds it: a running machine would go on writing under the old name. */
function requireFree({ file }: Placed): void {
  openFile(file, { writable: true, lock: 'write' }).close();
}

/** The new names beside the old ones; where the file system has no second names, instead of them (false). */
function giveNames(moves: readonly Move[]): boolean {
  const given: string[] = [];
  try {
    for (const { from, to } of moves) {
      fs.mkdirSync(path.dirname(to), { recursive: true });
      fs.linkSync(from, to);
      given.push(to);
    }
    return true;
  } catch (error) {
    for (const name of given) fs.unlinkSync(name);
    const failed = fromSystem('storage/write', error, { file: moves[0]?.to });
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(String(failed.facts.errno))) throw failed;
  }
  for (const { from, to } of moves) fs.renameSync(from, to);
  return false;
}

/** The old names again, and the children told so. */
async function takeBack(
  catalogue: Catalogue,
  place: Placed,
  moves: readonly Move[],
  children: readonly Placed[],
  both: boolean,
): Promise<void> {
  const quiet = { progress: () => {}, throwIfCancelled: () => {} };
  if (!both) for (const { from, to } of moves) fs.renameSync(to, from);
  const parent = parentEdge(catalogue, place.id);
  if (parent?.fullPath !== null && parent?.fullPath !== undefined) {
    await linkFiles(
      place.file,
      place.format,
      parent.fullPath,
      parent.referenceFormat ?? formatOfParent(catalogue, parent.parentId),
      quiet,
    );
  }
  for (const child of children) await linkFiles(child.file, child.format, place.file, place.format, quiet);
  if (both) for (const { to } of moves) fs.unlinkSync(to);
}

function formatOfParent(catalogue: Catalogue, id: string | null): string | null {
  return id === null ? null : placeOf(catalogue, id).format;
}

/**
 * Deletes the files of an image. Refused while others read through it (`force` overrides) or hold it open. What the catalogue knew of it
 * goes with it. Throws `image/has-dependents`, `storage/locked`, `storage/*`.
 */
export function deleteImage(catalogue: Catalogue, id: string, force: boolean): void {
  const place = placeOf(catalogue, id);
  refuseWithDependents(catalogue, id, force);
  const { parts, gone } = imageRecord(catalogue, id);
  if (!gone) {
    requireFree(place);
    try {
      // The file that names the others goes first: what is left then is no image any more.
      for (const file of [place.file, ...parts.map((part) => part.path)]) fs.rmSync(file, { force: true });
    } catch (error) {
      throw fromSystem('storage/write', error, { file: place.file });
    }
    forgetJournal(place.file);
  }
  catalogue.database.run('delete from image where id = :id', { id });
  refreshLineage(catalogue);
}

/** A linked clone: a new image of the same format over this one, at `target` (relative to the datastore). Gives its id. */
export async function cloneImage(
  catalogue: Catalogue,
  id: string,
  target: string,
  format: string | null,
  job: Job,
): Promise<string> {
  const place = placeOf(catalogue, id);
  const to = path.resolve(place.root, target);
  if (path.relative(place.root, to).startsWith('..')) {
    throw new ImageError('image/outside-datastore', { name: target, root: place.root });
  }
  if (fs.existsSync(to)) throw new ImageError('image/target-exists', { name: to }, { file: to });
  const baseOptions = { format: place.format, policy: allowing(catalogue.policy, place.file) };
  await overlay({ base: place.file, baseOptions, path: to, format, options: {} }, job);
  const clone = readNewImage(catalogue, place.datastoreId, place.root, to);
  remember(catalogue, clone, 'clone', place.file);
  return clone;
}

// Loose files: images that somebody opens where they lie, without their folder becoming a datastore.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import type { Job } from '../job.ts';
import type { Catalogue } from './catalogue.ts';
import { imageRecord, resolveImage } from './images.ts';
import { readNewImage, rereadImage } from './reread.ts';
import { describeFile } from './scan/describe.ts';
import type { ScanResult } from './scan/scan.ts';

interface Row {
  readonly id: string;
  readonly path: string;
  readonly kind: string;
}

/**
 * The id of the image in that file, read now. One that is not known becomes an image of the datastore that it lies in, or a loose one: its
 * folder gets a row that is never scanned or watched. Throws `storage/open`, and `image/none` for a file that is no image.
 */
export function openImageFile(catalogue: Catalogue, name: string): string {
  let file: string;
  try {
    file = fs.realpathSync(name);
  } catch (error) {
    throw fromSystem('storage/open', error, { file: name });
  }
  const known = knownAt(catalogue, file);
  if (known !== null) rereadImage(catalogue, known);
  if (describeFile(file) === null) throw new ImageError('image/none', { name }, { file });
  if (known !== null) return known;
  const store = storeFor(catalogue, file);
  return readNewImage(catalogue, store.id, store.path, file);
}

/** By what it is, not by what a person called another one. */
function knownAt(catalogue: Catalogue, file: string): string | null {
  try {
    const id = resolveImage(catalogue, file);
    return fs.realpathSync(imageRecord(catalogue, id).file) === file ? id : null;
  } catch (error) {
    if (error instanceof ImageError) return null;
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

function storeFor({ database }: Catalogue, file: string): Row {
  const folder = path.dirname(file);
  return database.transaction(() => {
    const stores = database.all<Row>('select id, path, kind from datastore');
    const found =
      stores.find((store) => store.kind === 'folder' && (store.path === folder || isBelow(store.path, folder))) ??
      stores.find((store) => store.kind === 'loose' && store.path === folder);
    if (found !== undefined) return found;
    const id = crypto.randomUUID();
    database.run(
      `insert into datastore (id, name, path, kind, created_at) values (:id, :name, :folder, 'loose', :now)`,
      // A person may have called a datastore like this folder.
      { id, name: isTaken(database, folder) ? `${folder} (${id})` : folder, folder, now: Date.now() },
    );
    return { id, path: folder, kind: 'loose' };
  });
}

function isTaken(database: Catalogue['database'], name: string): boolean {
  return database.one('select 1 from datastore where name = :name', { name }) !== null;
}

function isBelow(folder: string, other: string): boolean {
  const relative = path.relative(folder, other);
  return relative !== '' && !relative.startsWith('..') && !path.isAbsolute(relative);
}

/** Looks again into the loose images of a folder, and at nothing else in it. Counts as `scan` does. Throws `request/cancelled`. */
export function rereadLoose(catalogue: Catalogue, datastore: string, job: Job): ScanResult {
  const { database } = catalogue;
  const images = database.all<{ id: string }>('select id from image where datastore_id = :datastore', { datastore });
  for (const { id } of images) {
    job.throwIfCancelled();
    rereadImage(catalogue, id);
  }
  const now = database.one<{ there: number; problems: number }>(
    `select count(*) as there, count(problem_code) as problems from image where datastore_id = :datastore and gone_at is null`,
    { datastore },
  );
  const there = now?.there ?? 0;
  dropEmpty(database, datastore);
  return {
    files: there,
    read: there,
    added: 0,
    changed: 0,
    moved: 0,
    gone: images.length - there,
    problems: now?.problems ?? 0,
  };
}

/** A folder of which nothing is known any more needs no row. */
function dropEmpty(database: Catalogue['database'], datastore: string): void {
  database.run(
    `delete from datastore where id = :datastore and kind = 'loose' and not exists
       (select 1 from image where datastore_id = :datastore)`,
    { datastore },
  );
}

/** Forgets a loose image with what was written to it; touches no file. Throws `image/unknown`, `image/not-loose`. */
export function forgetLoose(catalogue: Catalogue, id: string): void {
  const { database } = catalogue;
  const { file } = imageRecord(catalogue, id);
  database.transaction(() => {
    const store = database.one<{ id: string; kind: string }>(
      'select d.id, d.kind from image i join datastore d on d.id = i.datastore_id where i.id = :id',
      { id },
    );
    if (store?.kind !== 'loose') throw new ImageError('image/not-loose', { name: file }, { file });
    database.run('delete from image where id = :id', { id });
    dropEmpty(database, store.id);
  });
}

/** A folder becomes a datastore: the loose images in it and below are its own from now on, with what a person wrote to them. */
export function takeOverLoose(database: Catalogue['database'], datastore: string, folder: string): void {
  const stores = database.all<Row>(`select id, path, kind from datastore where kind = 'loose'`);
  for (const store of stores.filter((one) => one.path === folder || isBelow(folder, one.path))) {
    const prefix = path.relative(folder, store.path).split(path.sep).join('/');
    database.run(`update image set datastore_id = :datastore, path = :prefix || path where datastore_id = :loose`, {
      datastore,
      prefix: prefix === '' ? '' : `${prefix}/`,
      loose: store.id,
    });
    database.run('delete from datastore where id = :id', { id: store.id });
  }
}

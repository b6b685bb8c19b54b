// The catalogue: what the program remembers of datastores, images and their lineage.
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import { followFiles, type GatePolicy } from '../formats/gate.ts';
import { migrate } from './migrations/migrate.ts';
import { openDatabase, type Database } from './sqlite.ts';

/** An open catalogue. One thread of a program owns it; further programs may have it open at the same time. */
export interface Catalogue {
  readonly path: string;
  readonly database: Database;
  /** What the images that are opened through it may pull in. */
  readonly policy: GatePolicy;
  /** A catalogue that could not be used was put here when this one was opened; null: nothing was wrong. */
  readonly setAside: SetAside | null;
  close(): void;
}

export interface SetAside {
  /** Where the old file is now. */
  readonly path: string;
  /** Why it could not be used. */
  readonly reason: ImageError;
  /** Rows that a person wrote (names, notes, tags) which could be read from it and wait in the new catalogue's settings. */
  readonly saved: number;
}

/**
 * Opens the catalogue, and makes it if there is none. A file that is damaged or was written by a newer version is renamed, never
 * overwritten; scanning fills the new one. `policy`: what images may pull in that are opened through it. Throws `catalogue/storage`, `catalogue/busy`.
 */
export function openCatalogue(file: string, policy: GatePolicy = followFiles): Catalogue {
  makeFolder(file);
  let setAside: SetAside | null = null;
  let database: Database;
  try {
    database = openWhole(file);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if (error.code !== 'catalogue/damaged' && error.code !== 'catalogue/newer') throw error;
    const byHand = readWrittenByHand(file);
    setAside = { path: moveAside(file), reason: error, saved: byHand.length };
    database = openWhole(file);
    keepWrittenByHand(database, byHand);
  }
  return { path: file, database, policy, setAside, close: () => database.close() };
}

/** The catalogue if there is one; null: this user has none, and asking must not make one. Throws as `openCatalogue`. */
export function openExistingCatalogue(file: string, policy: GatePolicy = followFiles): Catalogue | null {
  return fs.existsSync(file) ? openCatalogue(file, policy) : null;
}

function openWhole(file: string): Database {
  const database = openDatabase(file);
  try {
    const sound = database.one<{ quick_check: string }>('pragma quick_check(1)')?.quick_check ?? 'no answer';
    if (sound !== 'ok') throw new ImageError('catalogue/damaged', { name: file, reason: sound }, { file });
    migrate(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function makeFolder(file: string): void {
  try {
    fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fromSystem('catalogue/storage', error, { file }, { name: file });
  }
}

/** Renames the file and its log beside; gives the new name. */
function moveAside(file: string): string {
  const stamp = new Date().toISOString().replace(/[:.]/g, '-');
  const aside = `${file}.set-aside-${stamp}`;
  try {
    fs.renameSync(file, aside);
    for (const ending of ['-wal', '-shm']) {
      if (fs.existsSync(file + ending)) fs.renameSync(file + ending, aside + ending);
    }
  } catch (error) {
    throw fromSystem('catalogue/storage', error, { file }, { name: file });
  }
  return aside;
}

/** A name, note or tag that a person gave to an image, by the path of the image. */
export interface WrittenByHand {
  readonly path: string;
  readonly name: string | null;
  readonly note: string | null;
  readonly tags: readonly string[];
}

/** What can still be read from a catalogue that cannot be used. Whatever goes wrong: nothing; the file itself is kept. */
function readWrittenByHand(file: string): WrittenByHand[] {
  try {
    const database = openDatabase(file);
    try {
      const rows = database.all<{ path: string; name: string | null; note: string | null; tags: string | null }>(
        `select d.path || '/' || i.path as path, n.name, n.note,
                (select group_concat(tag, char(10)) from image_tag t where t.image_id = i.id) as tags
         from image i join datastore d on d.id = i.datastore_id left join image_note n on n.image_id = i.id
         where n.image_id is not null or exists (select 1 from image_tag t where t.image_id = i.id)`,
      );
      return rows.map((row) => ({ ...row, tags: row.tags === null ? [] : row.tags.split('\n') }));
    } finally {
      database.close();
    }
  } catch (error) {
    if (error instanceof ImageError) return [];
    throw error;
  }
}

const savedSetting = 'written-by-hand';

function keepWrittenByHand(database: Database, rows: readonly WrittenByHand[]): void {
  if (rows.length === 0) return;
  database.run('insert or replace into setting (name, value) values (:name, :value)', {
    name: savedSetting,
    value: JSON.stringify(rows),
  });
}

/** What waits to be given back to images as scanning finds them again. */
export function savedByHand(database: Database): readonly WrittenByHand[] {
  const row = database.one<{ value: string }>('select value from setting where name = :name', { name: savedSetting });
  return row === null ? [] : (JSON.parse(row.value) as WrittenByHand[]);
}

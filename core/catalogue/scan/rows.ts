// The rows that a scan reads and writes.
import crypto from 'node:crypto';
import type { WrittenByHand } from '../catalogue.ts';
import type { Database } from '../sqlite.ts';
import type { Described, Description } from './describe.ts';
import { statFileNow, type FileStat } from './walk.ts';

/** An image as the catalogue knew it before a scan. */
export interface KnownImage {
  readonly id: string;
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly mtimeNs: string;
  readonly length: number;
  readonly gone: boolean;
  readonly problem: boolean;
  /** What is wrong with it may be over although its file has not changed: it could not be opened, or a file that it needs was missing. */
  readonly passing: boolean;
  /** What is the same when it is moved to another file system; null: nothing is. */
  readonly content: string | null;
  readonly parts: readonly { readonly path: string; readonly mtimeNs: string; readonly length: number }[];
}

/** An image that a scan found where there was none. */
export interface FreshImage {
  readonly path: string;
  readonly stat: FileStat;
  readonly described: Exclude<Described, null>;
}

export function knownImages(database: Database, datastore: string): Map<string, KnownImage> {
  const parts = new Map<string, { path: string; mtimeNs: string; length: number }[]>();
  const files = database.all<{ image_id: string; path: string; mtime_ns: string; length: number }>(
    `select f.image_id, f.path, f.mtime_ns, f.length from image_file f join image i on i.id = f.image_id
     where i.datastore_id = :datastore`,
    { datastore },
  );
  for (const { image_id, path, mtime_ns, length } of files) {
    parts.set(image_id, [...(parts.get(image_id) ?? []), { path, mtimeNs: mtime_ns, length }]);
  }
  const images = database.all<{
    id: string;
    path: string;
    device: string;
    inode: string;
    mtime_ns: string;
    file_length: number;
    gone_at: number | null;
    problem_code: string | null;
    own_id: string | null;
    fingerprint: string | null;
  }>(
    `select id, path, device, inode, mtime_ns, file_length, gone_at, problem_code, own_id, fingerprint
     from image where datastore_id = :datastore`,
    { datastore },
  );
  return new Map(
    images.map((row) => [
      row.path,
      {
        id: row.id,
        path: row.path,
        device: row.device,
        inode: row.inode,
        mtimeNs: row.mtime_ns,
        length: row.file_length,
        gone: row.gone_at !== null,
        problem: row.problem_code !== null,
        passing: row.problem_code !== null && passing.test(row.problem_code),
        content: keyOf(row.own_id, row.fingerprint, row.file_length),
        parts: parts.get(row.id) ?? [],
      },
    ]),
  );
}

function keyOf(own: string | null, fingerprint: string | null, length: number): string | null {
  return own === null && fingerprint === null ? null : `${own ?? ''} ${fingerprint ?? ''} ${length}`;
}

const passing = /^(storage|gate)\/|\/extent-open$|missing/;

/** See `KnownImage.content`. */
export function contentKey({ own, fingerprint }: Description, length: number): string | null {
  return keyOf(own?.id ?? null, fingerprint, length);
}

/** True when neither the file nor any further file of the image seems to have changed since it was read. */
export function isUnchanged(known: KnownImage, stat: FileStat): boolean {
  if (known.gone || known.passing || known.mtimeNs !== stat.mtimeNs || known.length !== stat.length) return false;
  if (known.device !== stat.device || known.inode !== stat.inode) return false;
  return known.parts.every((part) => {
    const now = statFileNow(part.path);
    return now !== null && now.mtimeNs === part.mtimeNs && now.length === part.length;
  });
}

/** Files of a datastore that are no images, as they were when they were looked into. */
export function knownOthers(database: Database, datastore: string): Map<string, { mtimeNs: string; length: number }> {
  const found = database.all<{ path: string; mtime_ns: string; length: number }>(
    'select path, mtime_ns, length from other_file where datastore_id = :datastore',
    { datastore },
  );
  return new Map(found.map(({ path, mtime_ns, length }) => [path, { mtimeNs: mtime_ns, length }]));
}

export function keepOther(database: Database, datastore: string, path: string, stat: FileStat): void {
  database.run(
    `insert or replace into other_file (datastore_id, path, mtime_ns, length) values (:datastore, :path, :mtimeNs, :length)`,
    { datastore, path, mtimeNs: stat.mtimeNs, length: stat.length },
  );
}

/**
 * Makes an image known, or writes down anew what is known by that path already: another program may have looked into the same file
 * meanwhile. Within a transaction, so that nobody comes between. Gives its id, and whether it is new.
 */
export function enterImage(database: Database, datastore: string, image: FreshImage): { id: string; isNew: boolean } {
  return database.transaction(() => {
    const known = atPath(database, datastore, image.path);
    const id = known ?? crypto.randomUUID();
    if (known === null) insertImage(database, { id, datastore, ...image });
    else updateImage(database, known, image.path, image.stat, image.described);
    return { id, isNew: known === null };
  });
}

/**
 * Writes what was found at a path to the image that was known as `id`, which may have been there under another path. Another program may have
 * forgotten it meanwhile, or entered the path as an image of its own: of two rows that one stays to which a person wrote something.
 */
export function updateKnown(database: Database, datastore: string, id: string, image: FreshImage): void {
  database.transaction(() => {
    const there = database.one('select 1 from image where id = :id', { id }) !== null;
    const other = atPath(database, datastore, image.path);
    if (!there || (other !== null && other !== id && isKept(database, other))) {
      if (there) setGone(database, id);
      enterImage(database, datastore, image);
      return;
    }
    if (other !== null && other !== id) database.run('delete from image where id = :id', { id: other });
    updateImage(database, id, image.path, image.stat, image.described);
  });
}

function atPath(database: Database, datastore: string, path: string): string | null {
  const row = database.one<{ id: string }>('select id from image where datastore_id = :datastore and path = :path', {
    datastore,
    path,
  });
  return row?.id ?? null;
}

interface NewImage extends FreshImage {
  readonly id: string;
  readonly datastore: string;
}

function insertImage(database: Database, image: NewImage): void {
  const now = Date.now();
  database.run('delete from other_file where datastore_id = :datastore and path = :path', {
    datastore: image.datastore,
    path: image.path,
  });
  database.run(
    `insert into image (id, datastore_id, path, file_length, allocated, device, inode, mtime_ns, first_seen, read_at)
     values (:id, :datastore, :path, 0, 0, '', '', '', :now, :now)`,
    { id: image.id, datastore: image.datastore, path: image.path, now },
  );
  updateImage(database, image.id, image.path, image.stat, image.described);
}

/** Writes everything that a look into the file told; what a person wrote stays. */
export function updateImage(
  database: Database,
  id: string,
  path: string,
  stat: FileStat,
  described: Exclude<Described, null>,
): void {
  const description = described.kind === 'image' ? described.description : null;
  const error = described.kind === 'problem' ? described.error : null;
  if (error !== null && error.code.startsWith('storage/')) {
    // It cannot be opened just now: what it is and on whom it stands is not forgotten for that.
    database.run(
      `update image set path = :path, problem_code = :code, problem_text = :text, problem_detail = :detail, read_at = :now, gone_at = null,
         device = case device when '' then :device else device end, inode = case inode when '' then :inode else inode end,
         mtime_ns = case mtime_ns when '' then :mtimeNs else mtime_ns end,
         file_length = case mtime_ns when '' then :length else file_length end,
         allocated = case mtime_ns when '' then :allocated else allocated end
       where id = :id`,
      {
        id,
        path,
        code: error.code,
        text: error.message,
        detail: JSON.stringify(error.facts),
        now: Date.now(),
        ...stat,
      },
    );
    return;
  }
  database.run(
    `update image set path = :path, format = :format, subformat = :subformat, virtual_size = :virtualSize,
       file_length = :length, allocated = :allocated, cluster_size = :clusterSize, encrypted = :encrypted, dirty = :dirty,
       own_id = :ownId, own_version = :ownVersion, fingerprint = :fingerprint, device = :device, inode = :inode,
       mtime_ns = :mtimeNs, problem_code = :problemCode, problem_text = :problemText, problem_detail = :problemDetail,
       facts = :facts, read_at = :now, gone_at = null
     where id = :id`,
    {
      id,
      path,
      format: description?.format ?? null,
      subformat: description?.subformat ?? null,
      virtualSize: description?.virtualSize ?? null,
      length: stat.length,
      allocated: stat.allocated,
      clusterSize: description?.clusterSize ?? null,
      encrypted: Number(description?.encrypted ?? false),
      dirty: Number(description?.dirty ?? false),
      ownId: description?.own?.id ?? null,
      ownVersion: description?.own?.version ?? null,
      fingerprint: description?.fingerprint ?? null,
      device: stat.device,
      inode: stat.inode,
      mtimeNs: stat.mtimeNs,
      problemCode: error?.code ?? null,
      problemText: error?.message ?? null,
      problemDetail: error === null ? null : JSON.stringify(error.facts),
      facts: description === null ? null : JSON.stringify(description.facts),
      now: Date.now(),
    },
  );
  writeParts(database, id, description);
  writeSnapshots(database, id, description);
  writeReference(database, id, description);
}

function writeParts(database: Database, id: string, description: Description | null): void {
  database.run('delete from image_file where image_id = :id', { id });
  for (const { role, path, stat } of description?.parts ?? []) {
    const { length, allocated, device, inode, mtimeNs } = stat;
    database.run(
      `insert into image_file (image_id, role, path, length, allocated, device, inode, mtime_ns)
       values (:id, :role, :path, :length, :allocated, :device, :inode, :mtimeNs)`,
      { id, role, path, length, allocated, device, inode, mtimeNs },
    );
  }
}

function writeSnapshots(database: Database, id: string, description: Description | null): void {
  database.run('delete from snapshot where image_id = :id', { id });
  for (const snapshot of description?.snapshots ?? []) {
    database.run(
      `insert or replace into snapshot (image_id, id, name, taken_at, vm_state_size, disk_size)
       values (:image, :id, :name, :takenAt, :vmStateSize, :diskSize)`,
      {
        image: id,
        id: snapshot.id,
        name: snapshot.name,
        takenAt: snapshot.dateSeconds * 1000,
        vmStateSize: snapshot.vmStateSize,
        diskSize: snapshot.diskSize,
      },
    );
  }
}

/** The reference to the parent; where it leads is the business of `lineage.ts`, which also keeps what it saw when the same reference was there before. */
function writeReference(database: Database, id: string, description: Description | null): void {
  const parent = description?.parent ?? null;
  if (parent === null) {
    database.run('delete from lineage where child_id = :id', { id });
    return;
  }
  const values = {
    id,
    reference: parent.reference,
    format: parent.format,
    names: JSON.stringify(parent.names),
    expected: JSON.stringify(parent.expected),
  };
  const same = database.run(
    `update lineage set reference_format = :format, parent_names = :names, expected = :expected
     where child_id = :id and reference = :reference`,
    values,
  );
  if (same > 0) return;
  database.run(
    `insert or replace into lineage (child_id, reference, reference_format, parent_names, expected, state)
     values (:id, :reference, :format, :names, :expected, 'missing')`,
    values,
  );
}

/** An image whose file is no longer there: forgotten, unless somebody wrote something to it or others stand on it. */
export function setGone(database: Database, id: string): void {
  const needed = isKept(database, id) || database.one('select 1 from lineage where parent_id = :id', { id }) !== null;
  if (!needed) database.run('delete from image where id = :id', { id });
  else database.run('update image set gone_at = coalesce(gone_at, :now) where id = :id', { id, now: Date.now() });
}

/** The same for one that was not found at `path`, unless another program found it elsewhere meanwhile. */
export function setMissing(database: Database, id: string, path: string): void {
  if (database.one('select 1 from image where id = :id and path = :path', { id, path }) !== null) setGone(database, id);
}

/** A person wrote something to it. */
function isKept(database: Database, id: string): boolean {
  const row = database.one(
    `select 1 where exists (select 1 from image_note where image_id = :id) or exists (select 1 from image_tag where image_id = :id)`,
    { id },
  );
  return row !== null;
}

/** Files that turned out to be parts of other images (extents, data files) are no images themselves; how many were taken for such. */
export function dropParts(database: Database, datastore: string): number {
  const parts = database.all<{ id: string; path: string; mtime_ns: string; file_length: number }>(
    `select i.id, i.path, i.mtime_ns, i.file_length from image i where i.datastore_id = :datastore and exists
       (select 1 from image_file f where f.device = i.device and f.inode = i.inode and f.image_id <> i.id)`,
    { datastore },
  );
  for (const { id, path, mtime_ns, file_length } of parts) {
    database.run('delete from image where id = :id', { id });
    database.run(
      `insert or replace into other_file (datastore_id, path, mtime_ns, length) values (:datastore, :path, :mtimeNs, :length)`,
      { datastore, path, mtimeNs: mtime_ns, length: file_length },
    );
  }
  return parts.length;
}

/** Images there that cannot be opened. */
export function countProblems(database: Database, datastore: string): number {
  const row = database.one<{ count: number }>(
    'select count(*) as count from image where datastore_id = :datastore and problem_code is not null and gone_at is null',
    { datastore },
  );
  return row?.count ?? 0;
}

export function setScanned(database: Database, datastore: string): void {
  database.run('update datastore set scanned_at = :now where id = :datastore', { datastore, now: Date.now() });
}

/** Gives an image back what a person had written to it in a catalogue that was set aside. */
export function giveBack(database: Database, id: string, { name, note, tags }: WrittenByHand): void {
  if (name !== null || note !== null) {
    database.run('insert or replace into image_note (image_id, name, note) values (:id, :name, :note)', {
      id,
      name,
      note,
    });
  }
  for (const tag of tags)
    database.run('insert or ignore into image_tag (image_id, tag) values (:id, :tag)', { id, tag });
}

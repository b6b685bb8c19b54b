// Scanning a datastore: new and changed files are looked into, moved ones known again, missing ones remembered as gone.
import fs from 'node:fs';
import path from 'node:path';
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { breather } from '../../operations/breathe.ts';
import { savedByHand, type Catalogue } from '../catalogue.ts';
import { findDatastore, findDevice, isOtherDevice, type Datastore } from '../datastores.ts';
import { rereadLoose } from '../loose.ts';
import { refreshLineage } from '../lineage.ts';
import { describeFile, type Described } from './describe.ts';
import { walk, type FileStat, type Found } from './walk.ts';
import * as rows from './rows.ts';

export interface ScanParams {
  /** Name, id or folder of the datastore. */
  readonly datastore: string;
  /** Look into every file, also where nothing seems to have changed. */
  readonly everything?: boolean;
}

/** What a scan did, in files. */
export interface ScanResult {
  /** Regular files seen. */
  readonly files: number;
  /** Files that were opened. */
  readonly read: number;
  readonly added: number;
  readonly changed: number;
  readonly moved: number;
  readonly gone: number;
  /** Images with a problem of their own, of those seen. */
  readonly problems: number;
}

/** Rows written in one transaction. */
const batch = 200;

/**
 * Scans the datastore. What was done when it is cancelled or fails stays; nothing is called gone before the whole folder was seen.
 * Progress counts files (`done`) of those known from the last scan (`total`). Throws `datastore/unknown`, `datastore/unreachable`,
 * `request/cancelled`, `catalogue/*`.
 */
export async function scan(catalogue: Catalogue, params: ScanParams, job: Job): Promise<ScanResult> {
  const store = findDatastore(catalogue, params.datastore);
  const { id, path: root, name } = store;
  if (store.kind === 'loose') return rereadLoose(catalogue, id, job);
  const standing = rootOf(root);
  const closed: string[] = [];
  const own = ownFiles(catalogue);
  const { database } = catalogue;
  const known = rows.knownImages(database, id);
  const others = rows.knownOthers(database, id);
  const seen = new Set<string>();
  const fresh: rows.FreshImage[] = [];
  const count = { files: 0, read: 0, added: 0, changed: 0, moved: 0, gone: 0 };
  const total = known.size + others.size;
  const breathe = breather();
  let pending: (() => void)[] = [];
  const write = (): void => {
    const works = pending;
    pending = [];
    database.transaction(() => {
      // Somebody may have taken the datastore out of the catalogue meanwhile: its images cannot be entered any more.
      if (database.one('select 1 from datastore where id = :id', { id }) === null) {
        throw new ImageError('datastore/unknown', { name });
      }
      works.forEach((work) => work());
    });
  };
  for (const found of walkNamed(root, name)) {
    if (own.has(path.join(root, found.path))) continue;
    job.throwIfCancelled();
    await breathe();
    count.files++;
    if (count.files % 50 === 0) job.progress({ phase: 'scan', done: count.files, total: Math.max(total, count.files) });
    const before = known.get(found.path) ?? null;
    if (found.kind === 'file' && params.everything !== true) {
      if (before !== null && rows.isUnchanged(before, found.stat)) {
        seen.add(found.path);
        continue;
      }
      const other = others.get(found.path);
      if (other !== undefined && other.mtimeNs === found.stat.mtimeNs && other.length === found.stat.length) continue;
    }
    if (found.kind === 'problem' && found.closed === true) closed.push(`${found.path}/`);
    const described = look(root, found);
    if (isGoneMeanwhile(described)) continue;
    count.read++;
    const stat = found.kind === 'file' ? found.stat : noStat;
    if (described === null) {
      pending.push(() => rows.keepOther(database, id, found.path, stat));
    } else {
      seen.add(found.path);
      if (before === null) fresh.push({ path: found.path, stat, described });
      else {
        if (described.kind === 'image' || !before.problem) count.changed++;
        pending.push(() => rows.updateKnown(database, id, before.id, { path: found.path, stat, described }));
      }
    }
    if (pending.length >= batch) write();
    if (fresh.length >= batch && total === 0) pending.push(...insertAll(fresh.splice(0)));
  }
  write();
  job.progress({ phase: 'scan', done: count.files, total: count.files });

  const missing = [...known.values()].filter(
    (image) => !seen.has(image.path) && !closed.some((folder) => image.path.startsWith(folder)),
  );
  requireStanding(store, standing, missing, known);
  for (const image of matchMoved(fresh, missing)) {
    count.moved++;
    pending.push(() => rows.updateKnown(database, id, image.id, image.fresh));
  }
  pending.push(...insertAll(fresh));
  for (const image of missing) {
    if (!image.gone) count.gone++;
    pending.push(() => rows.setMissing(database, image.id, image.path));
  }
  pending.push(() => {
    count.added -= rows.dropParts(database, id);
  });
  pending.push(() => rows.setScanned(database, id));
  write();
  refreshLineage(catalogue);
  return { ...count, problems: rows.countProblems(database, id) };

  function insertAll(images: readonly rows.FreshImage[]): (() => void)[] {
    const saved = savedByHand(database);
    return images.map((image) => () => {
      const { id: row, isNew } = rows.enterImage(database, id, image);
      if (!isNew) return;
      count.added++;
      const byHand = saved.find((entry) => entry.path === path.join(root, image.path));
      if (byHand !== undefined) rows.giveBack(database, row, byHand);
    });
  }
}

/** The files of the catalogue, wherever it lies: closing one of them would take the locks from the database that has it open. */
function ownFiles({ path: file }: Catalogue): ReadonlySet<string> {
  const real = fs.realpathSync(file);
  return new Set(['', '-wal', '-shm'].map((ending) => real + ending));
}

/** What tells that a folder is the one that it was a moment ago; null: nothing is there. */
function rootOf(folder: string): string | null {
  try {
    const { dev, ino } = fs.statSync(folder, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}

/**
 * Images are gone only from a datastore that is there: throws `datastore/unreachable` when its folder was unmounted or renamed under the
 * scan, or when nothing at all is left of it and its folder lies on another device than it did.
 */
function requireStanding(
  { name: datastore, path: root, device }: Datastore,
  before: string | null,
  missing: readonly rows.KnownImage[],
  known: ReadonlyMap<string, rows.KnownImage>,
): void {
  const unreachable = (reason: string): ImageError =>
    new ImageError('datastore/unreachable', { name: root, datastore, reason }, { file: root });
  if (rootOf(root) !== before) throw unreachable('it went away while it was scanned');
  const there = [...known.values()].filter(({ gone }) => !gone).length;
  const left = there - missing.filter(({ gone }) => !gone).length;
  if (there === 0 || left > 0) return;
  const now = findDevice(root);
  if (now === null || device === null || !isOtherDevice(device, now)) return;
  throw unreachable(`it is empty, and lies on ${now.source} (${now.fileSystem}) in place of ${device.source}`);
}

/** Removed between being seen and being opened. */
function isGoneMeanwhile(described: Described): boolean {
  return (
    described?.kind === 'problem' &&
    described.error.code === 'storage/open' &&
    described.error.detail.errno === 'ENOENT'
  );
}

const noStat: FileStat = { device: '0', inode: '0', mtimeNs: '0', length: 0, allocated: 0 };

function* walkNamed(root: string, datastore: string): Generator<Found, void, void> {
  try {
    yield* walk(root);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'datastore/unreachable') throw error;
    throw new ImageError('datastore/unreachable', { ...error.detail, datastore }, error.where, error.cause);
  }
}

function look(root: string, found: Found): Described {
  if (found.kind === 'problem') return { kind: 'problem', error: found.error };
  return describeFile(path.join(root, found.path));
}

interface Moved {
  readonly id: string;
  readonly fresh: rows.FreshImage;
}

/**
 * Pairs files that appeared with images that are missing: the same file under another name, or (moved from another file system) the same
 * identity and content, where only one of each is. What is paired is taken out of both lists.
 */
function matchMoved(fresh: rows.FreshImage[], missing: rows.KnownImage[]): Moved[] {
  const moved: Moved[] = [];
  const pair = (
    keyOfFresh: (image: rows.FreshImage) => string | null,
    keyOfKnown: (image: rows.KnownImage) => string | null,
  ) => {
    const byKey = new Map<string, rows.KnownImage[]>();
    for (const image of missing) {
      const key = keyOfKnown(image);
      if (key !== null) byKey.set(key, [...(byKey.get(key) ?? []), image]);
    }
    for (const image of [...fresh]) {
      const key = keyOfFresh(image);
      const [only, second] = key === null ? [] : (byKey.get(key) ?? []);
      if (only === undefined || second !== undefined || key === null) continue;
      byKey.delete(key);
      fresh.splice(fresh.indexOf(image), 1);
      missing.splice(missing.indexOf(only), 1);
      moved.push({ id: only.id, fresh: image });
    }
  };
  pair(
    ({ stat }) => `${stat.device}:${stat.inode}`,
    ({ device, inode }) => `${device}:${inode}`,
  );
  pair(
    ({ described, stat }) => (described.kind === 'image' ? rows.contentKey(described.description, stat.length) : null),
    ({ content }) => content,
  );
  return moved;
}

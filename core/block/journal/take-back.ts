// Taking the last finished verb back, as long as nothing else wrote since; and what there is to take back.
import fs from 'node:fs';
import { ImageError } from '../../errors/image-error.ts';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { isSameFile, journalPath, markOf, type FileMark } from './place.ts';
import { readJournal, type Journal } from './read.ts';
import { rollBack, type FileToRestore } from './roll-back.ts';
import { isSame, openAll, type Opening } from './settle.ts';
import { foreignPage } from './verify.ts';

/** A verb that was or can be taken back. */
export interface TakenBack {
  readonly verb: string;
  readonly command: string;
  /** When it began, milliseconds since 1970. */
  readonly time: number;
  readonly files: readonly string[];
  /** Bytes that were (or would be) put back. */
  readonly bytes: number;
}

/**
 * Takes back the last verb that changed the image `name`, whose open file is `image`. `dryRun`: says what would be done, after the same
 * checks. Throws `undo/nothing`, `undo/changed`, `undo/damaged`, `undo/version`, `storage/*`.
 */
export function takeBack(name: string, image: Storage, opening: Omit<Opening, 'share'>, dryRun: boolean): TakenBack {
  const file = journalPath(name);
  if (!fs.existsSync(file)) throw new ImageError('undo/nothing', { name }, { file: name });
  const storage = openFile(file, { writable: !dryRun, lock: 'none' });
  let others: readonly FileToRestore[] = [];
  try {
    const journal = readJournal(storage);
    if (journal?.state !== 'done' || journal.files[0] === undefined || !isSame(journal.files[0], image)) {
      throw new ImageError('undo/nothing', { name }, { file: name });
    }
    const files = openAll(journal, storage, image, { ...opening, share: false });
    if (files === null) throw changed(name, journal, 'a file of it is gone or another one now');
    others = files.slice(1);
    for (const one of files) {
      const reason = whatChanged(one, storage);
      if (reason !== null) throw changed(name, journal, reason);
    }
    const bytes = dryRun ? oldBytes(journal) : rollBack(journal, storage, files);
    const { verb, command, time } = journal;
    return { verb, command, time, files: files.map((one) => one.storage.name), bytes };
  } finally {
    for (const one of others) one.storage.close();
    storage.close();
  }
}

function changed(name: string, { verb }: Journal, reason: string): ImageError {
  return new ImageError('undo/changed', { name, verb, reason }, { file: name });
}

function whatChanged({ file, storage }: FileToRestore, journal: Storage): string | null {
  const { result } = file;
  if (result === null || storage.descriptor === null) return 'the journal does not say how it left it';
  const mark = markOf(storage.descriptor, storage.name);
  if (mark.size !== result.size) return `it has ${mark.size} bytes, and had ${result.size} then`;
  if (mark.modified !== result.modified) return 'something else has written to it';
  const page = foreignPage(file, storage, journal);
  return page === null ? null : `it has other bytes at offset ${page}`;
}

function oldBytes(journal: Journal): number {
  return journal.files.reduce((sum, { old }) => sum + old.reduce((bytes, { length }) => bytes + length, 0), 0);
}

/** The verb that `takeBack` would take back, from a quick look; null: nothing, or nothing that could be read. Never throws for damage. */
export function lastVerb(name: string): Pick<TakenBack, 'verb' | 'command' | 'time'> | null {
  const file = journalPath(name);
  if (!fs.existsSync(file)) return null;
  let storage: Storage | null = null;
  try {
    storage = openFile(file, { writable: false, lock: 'none' });
    const journal = readJournal(storage, true);
    const main = journal?.files[0];
    if (journal?.state !== 'done' || main === undefined) return null;
    const stat = fs.statSync(name, { bigint: true });
    const mark: Pick<FileMark, 'inode' | 'born'> = { inode: stat.ino, born: stat.birthtimeNs };
    const untouched = Number(stat.size) === main.result?.size && stat.mtimeNs === main.result.modified;
    if (!untouched || !isSameFile(main, mark)) return null;
    return { verb: journal.verb, command: journal.command, time: journal.time };
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  } finally {
    storage?.close();
  }
}

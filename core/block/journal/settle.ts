// What a journal beside an image means for one who opens it: take the unfinished verb back, or show the image as it was before it.
import fs from 'node:fs';
import path from 'node:path';
import { ImageError } from '../../errors/image-error.ts';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { isUnfinished, markOthers } from './group.ts';
import { notice } from './notices.ts';
import { isSameFile, journalPath, markOf, removeJournal, setAside } from './place.ts';
import { readJournal, type Journal, type JournalFile } from './read.ts';
import { rollBack, type FileToRestore } from './roll-back.ts';
import { foreignPage } from './verify.ts';
import { JournalView } from './view.ts';
import { JournalWriter } from './write.ts';

/** How an image is being opened. */
export interface Opening {
  readonly writable: boolean;
  /** Beside whoever changes it at this moment. */
  readonly share: boolean;
  /** Opens another file of the same image, with the same access; throws when it may not be. */
  openOther(file: string, role: string): Storage;
}

/** The files of the image as they are to be seen; each is handed over when it is opened. */
export type Settled = (storage: Storage) => Storage;

const asItIs: Settled = (storage) => storage;
/** A file that changed later than this after the last sign of life of the verb was changed by something else. Nanoseconds. */
const slack = 10_000_000_000n;

/**
 * Looks for the journal of the image `name`, whose open file is `image`. Open for writing: what an unfinished verb changed is put back.
 * Open for reading: it is seen as it was, and nothing is written. A file that something else has changed since is left as it is.
 * Throws `storage/*` where putting back fails.
 */
export function settleJournal(name: string, image: Storage, opening: Opening): Settled {
  if (image.descriptor === null || image.identity?.startsWith('device:') === true) return asItIs;
  const file = journalPath(name);
  if (!fs.existsSync(file)) return asItIs;
  let storage: Storage | null = null;
  try {
    storage = openFile(file, { writable: opening.writable, lock: 'none' });
    const journal = readJournal(storage);
    if (journal === null || !concerns(journal, image) || !isUnfinished(journal, file)) {
      storage.close();
      // One that never was complete protects nothing.
      if (journal === null && opening.writable) removeJournal(file, false);
      return asItIs;
    }
    return settle(journal, storage, name, image, opening);
  } catch (error) {
    storage?.close();
    if (!(error instanceof ImageError)) throw error;
    if (error.code === 'undo/damaged') tellUnusable(name, file, error.message, opening);
    else if (opening.writable) throw error;
    else notice(new ImageError('undo/unreadable', { name, reason: error.message }, error.where, error));
    return asItIs;
  }
}

function concerns(journal: Journal, image: Storage): boolean {
  const main = journal.files[0];
  return main !== undefined && isSame(main, image);
}

/** True when `file` of a journal is the one that `storage` has open. */
export function isSame(file: JournalFile, storage: Storage): boolean {
  return storage.descriptor !== null && isSameFile(file, markOf(storage.descriptor, storage.name));
}

function settle(journal: Journal, storage: Storage, name: string, image: Storage, opening: Opening): Settled {
  const files = openAll(journal, storage, image, opening);
  const why = files === null ? 'a file of it is gone or another one now' : foreign(storage, files);
  const closeOthers = (): void => files?.slice(1).forEach((file) => file.storage.close());
  try {
    if (files === null || why !== null) {
      storage.close();
      tellUnusable(name, storage.name, why ?? '', opening);
      return asItIs;
    }
    if (opening.writable) {
      markOthers(journal, storage.name);
      rollBack(JournalWriter.takingBack(storage, journal), storage, files);
      notice(new ImageError('undo/rolled-back', { verb: journal.verb, name }, { file: storage.name }));
      return asItIs;
    }
  } finally {
    closeOthers();
  }
  notice(new ImageError('undo/shown', { verb: journal.verb, name }, { file: storage.name }));
  return viewThrough(journal, storage);
}

function tellUnusable(name: string, file: string, reason: string, opening: Opening): void {
  if (opening.writable) notice(new ImageError('undo/set-aside', { name, reason, aside: setAside(file) }, { file }));
  // Beside a verb that is at work right now, journal and image do not fit together for a moment.
  else if (!opening.share) notice(new ImageError('undo/foreign', { name, reason }, { file }));
}

/** All files of the journal, the image's own first; null: one of them is not there. One that the verb made may be gone again already. */
export function openAll(journal: Journal, storage: Storage, image: Storage, opening: Opening): FileToRestore[] | null {
  const opened: FileToRestore[] = [];
  const closeAll = (): void => opened.slice(1).forEach((file) => file.storage.close());
  for (const file of journal.files) {
    if (file.id === 0) {
      opened.push({ file, storage: image });
      continue;
    }
    try {
      const other = opening.openOther(path.resolve(path.dirname(storage.name), file.path), file.role);
      opened.push({ file, storage: other });
      if (isSame(file, other)) continue;
      if (file.made) {
        // The verb's own is gone, and this one is nobody's business.
        opened.pop();
        other.close();
        continue;
      }
      closeAll();
      return null;
    } catch (error) {
      if (file.made && error instanceof ImageError && error.detail.errno === 'ENOENT') continue;
      closeAll();
      if (error instanceof ImageError && error.detail.errno === 'ENOENT') return null;
      throw error;
    }
  }
  return opened;
}

/** Why the files are not what the verb left when it ended early; null: they are. */
export function foreign(storage: Storage, files: readonly FileToRestore[]): string | null {
  const last = storage.descriptor === null ? 0n : markOf(storage.descriptor, storage.name).modified;
  for (const { file, storage: target } of files) {
    const { descriptor } = target;
    if (descriptor !== null && markOf(descriptor, target.name).modified > last + slack) {
      return `'${target.name}' was changed later`;
    }
    const page = foreignPage(file, target, storage);
    if (page !== null) return `'${target.name}' has foreign bytes at offset ${page}`;
  }
  return null;
}

/** The journal stays open as long as a file is seen through it. */
function viewThrough(journal: Journal, storage: Storage): Settled {
  let views = 0;
  return (inner) => {
    const file = journal.files.find((candidate) => isSame(candidate, inner));
    if (file === undefined) return inner;
    views++;
    return new JournalView(inner, file, storage, () => {
      views--;
      if (views === 0) storage.close();
    });
  };
}

// Putting old bytes back where a verb changed a file.
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem } from '../../errors/image-error.ts';
import type { Storage } from '../storage.ts';
import type { JournalFile } from './read.ts';
import { flushFolder, removeJournal } from './place.ts';
import { largestPiece } from './spec.ts';
import type { JournalWriter } from './write.ts';

/** A file of the journal, and the file itself, open for writing. */
export interface FileToRestore {
  readonly file: JournalFile;
  readonly storage: Storage;
}

/**
 * Makes the files what they were before the verb, flushes them, removes those that it made, and then the journal. Ended in the middle, it can be begun again.
 * Owns `storage`, the open journal, which `writer` (`JournalWriter.takingBack`) has marked. Throws `storage/*`.
 */
export function rollBack(writer: JournalWriter, storage: Storage, files: readonly FileToRestore[]): void {
  try {
    const known = files.filter(({ file }) => !file.made);
    for (const { file, storage: target } of known) restore(file, target, storage, () => writer.touch());
    for (const { storage: target } of known) target.flush();
    for (const { file, storage: target } of files) if (file.made) removeMade(target);
  } finally {
    storage.close();
  }
  removeJournal(storage.name, true);
}

/** Takes a file away that a verb had added to an image. Throws `storage/write`, `storage/flush`. */
export function removeMade({ name }: Storage): void {
  try {
    fs.rmSync(name, { force: true });
  } catch (error) {
    throw fromSystem('storage/write', error, { file: name });
  }
  flushFolder(path.dirname(name));
}

function restore(file: JournalFile, target: Storage, journal: Storage, atWork: () => void): void {
  if (target.size < file.size) target.truncate(file.size);
  const buffer = new Uint8Array(largestPiece);
  for (const { offset, length, at } of file.old) {
    atWork();
    if (at === null) target.zeroAt(offset, length);
    else {
      for (let done = 0; done < length; done += buffer.length) {
        const piece = buffer.subarray(0, Math.min(buffer.length, length - done));
        journal.readAt(piece, at + done);
        target.writeAt(piece, offset + done);
      }
    }
  }
  if (target.size > file.size) target.truncate(file.size);
}

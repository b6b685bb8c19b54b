// Putting old bytes back where a verb changed a file.
import type { Storage } from '../storage.ts';
import type { JournalFile } from './read.ts';
import { removeJournal } from './place.ts';
import { largestPiece } from './spec.ts';
import type { JournalWriter } from './write.ts';

/** A file of the journal, and the file itself, open for writing. */
export interface FileToRestore {
  readonly file: JournalFile;
  readonly storage: Storage;
}

/**
 * Makes the files what they were before the verb, flushes them and removes the journal. Ended in the middle, it can be begun again.
 * Owns `storage`, the open journal, which `writer` (`JournalWriter.takingBack`) has marked. Throws `storage/*`.
 */
export function rollBack(writer: JournalWriter, storage: Storage, files: readonly FileToRestore[]): void {
  try {
    for (const { file, storage: target } of files) restore(file, target, storage, () => writer.touch());
    for (const { storage: target } of files) target.flush();
  } finally {
    storage.close();
  }
  removeJournal(storage.name, true);
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

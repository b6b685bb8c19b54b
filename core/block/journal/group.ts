// Images that one verb changed together: all are finished when the first one is, and put back together until then.
import fs from 'node:fs';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { journalPath } from './place.ts';
import { readJournal, type Journal } from './read.ts';
import { JournalWriter } from './write.ts';

/**
 * True when `journal` is that of a verb which ended early (or is being taken back): the image is to be put back. A journal of a group that
 * does not say that it is done is done all the same when the first one of the group is, or is gone: it goes only after that, or after it
 * has marked the others. Throws what reading the first one throws.
 */
export function isUnfinished(journal: Journal, file: string): boolean {
  if (journal.state !== 'running') return false;
  const first = journal.group?.members[0];
  if (journal.undoing || first === undefined) return true;
  const decides = journalPath(first);
  if (decides === file) return true;
  if (!fs.existsSync(decides)) return false;
  const storage = openFile(decides, { writable: false, lock: 'none' });
  try {
    const other = readJournal(storage, true);
    return other !== null && other.group?.id === journal.group?.id && other.state === 'running';
  } finally {
    storage.close();
  }
}

/** Before the first journal of a group is used up by putting its image back: the others are marked to be put back too. Throws `storage/*`. */
export function markOthers(journal: Journal, file: string): void {
  for (const member of journal.group?.members.slice(1) ?? []) {
    const other = journalPath(member);
    if (other === file || !fs.existsSync(other)) continue;
    let storage: Storage | null = null;
    try {
      storage = openFile(other, { writable: true, lock: 'none' });
      const found = readJournal(storage);
      if (found === null || found.group?.id !== journal.group?.id || found.undoing) continue;
      JournalWriter.takingBack(storage, found);
    } finally {
      storage?.close();
    }
  }
}

// Images that one verb changed together: all are finished when the first one is, and put back together until then.
import fs from 'node:fs';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { journalPath } from './place.ts';
import { readJournal, type Journal } from './read.ts';
import { JournalWriter } from './write.ts';

/**
 * True when `journal` is that of a verb which ended early (or is being taken back): the image is to be put back. In a group the first journal
 * decides. One that does not say that it is done is done all the same when the first one is, or is gone: that goes only after it, or after it
 * has marked the others. One that is done is to be put back when the first one is marked so: it is the first that is marked. Throws what
 * reading the first one throws.
 */
export function isUnfinished(journal: Journal, file: string): boolean {
  const isRunning = journal.state === 'running';
  const first = journal.group?.members[0];
  if (journal.undoing || first === undefined) return isRunning;
  const decides = journalPath(first);
  if (decides === file) return isRunning;
  if (!fs.existsSync(decides)) return false;
  const storage = openFile(decides, { writable: false, lock: 'none' });
  try {
    const other = readJournal(storage, true);
    if (other === null || other.group?.id !== journal.group?.id) return false;
    return isRunning ? other.state === 'running' : other.undoing;
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

// Taking the last finished verb back, as long as nothing else wrote since; and what there is to take back.
import fs from 'node:fs';
import { ImageError } from '../../errors/image-error.ts';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { isUnfinished, markOthers } from './group.ts';
import { isSameFile, journalPath, markOf, realPath, type FileMark } from './place.ts';
import { readJournal, type Journal } from './read.ts';
import { rollBack, type FileToRestore } from './roll-back.ts';
import { foreign, isSame, openAll } from './settle.ts';
import { foreignPage } from './verify.ts';
import { JournalWriter } from './write.ts';

/** A verb that was or can be taken back. */
export interface TakenBack {
  readonly verb: string;
  /** What it did, in words. */
  readonly command: string;
  /** When it began, milliseconds since 1970. */
  readonly time: number;
  /** All files that were (or would be) put back. */
  readonly files: readonly string[];
  /** Bytes that were (or would be) put back. */
  readonly bytes: number;
  /** The verb had ended early. */
  readonly unfinished: boolean;
}

/** How files are opened for it. */
export interface TakingBack {
  /** Says what would be done, after the same checks. */
  readonly dryRun: boolean;
  /** Opens an image, locked, for writing unless it is a dry run. */
  openImage(file: string): Storage;
  /** Opens another file of the image `from`. */
  openOther(from: string, file: string, role: string): Storage;
}

/** One image, its journal, and its files. */
interface Member {
  readonly name: string;
  readonly image: Storage;
  readonly storage: Storage;
  readonly journal: Journal;
  readonly files: readonly FileToRestore[];
}

/**
 * Takes back the last verb that changed the image `name`, in all images that the verb changed together. Throws `undo/nothing`,
 * `undo/changed`, `undo/damaged`, `undo/version`, `storage/*`.
 */
export function takeBack(name: string, taking: TakingBack): TakenBack {
  const members: Member[] = [];
  try {
    const first = openMember(name, taking, members);
    const { verb, command, time, group } = first.journal;
    const unfinished = isUnfinished(first.journal, first.storage.name);
    for (const other of unfinished ? [] : (group?.members ?? [])) {
      if (realPath(other) === realPath(name)) continue;
      let member: Member;
      try {
        member = openMember(other, taking, members);
      } catch (error) {
        const gone = error instanceof ImageError && (error.code === 'undo/nothing' || error.detail.errno === 'ENOENT');
        if (gone) throw changed(name, verb, `'${other}', which it changed too, has no journal of it any more`);
        throw error;
      }
      if (member.journal.group?.id !== group?.id || member.journal.state !== 'done')
        throw changed(name, verb, `'${other}' was changed since`);
    }
    for (const { name: image, files, storage } of members) {
      const reason = unfinished ? foreign(storage, files) : whatChanged(files, storage);
      if (reason !== null) throw changed(image, verb, reason);
    }
    const bytes = members.reduce((sum, { journal }) => sum + oldBytes(journal), 0);
    const names = members.flatMap(({ files }) => files.map((file) => file.storage.name));
    if (!taking.dryRun) putBack(members);
    return { verb, command, time, files: names, bytes, unfinished };
  } finally {
    for (const { files, storage } of members) {
      for (const file of files) file.storage.close();
      storage.close();
    }
  }
}

/**
 * What was finished last is put back first; before the first change all are marked, so that whoever opens one later goes on. The one that
 * was finished first decides for all, and so is marked first.
 */
function putBack(members: readonly Member[]): void {
  const group = members[0]?.journal.group?.members ?? [];
  const sorted = [...members].sort((a, b) => group.indexOf(realPath(a.name)) - group.indexOf(realPath(b.name)));
  // Of a verb that ended early only this image is here.
  for (const { journal, storage } of members.length === 1 ? members : []) markOthers(journal, storage.name);
  const marked = sorted.map((member) => ({
    ...member,
    writer: JournalWriter.takingBack(member.storage, member.journal),
  }));
  for (const { writer, storage, files } of marked.reverse()) rollBack(writer, storage, files);
}

function openMember(name: string, taking: TakingBack, members: Member[]): Member {
  const file = journalPath(name);
  if (!fs.existsSync(file)) throw new ImageError('undo/nothing', { name }, { file: name });
  const image = taking.openImage(name);
  let storage: Storage | null = null;
  try {
    storage = openFile(file, { writable: !taking.dryRun, lock: 'none' });
    const journal = readJournal(storage);
    const main = journal?.files[0];
    const settled = journal !== null && (journal.state === 'done' || isUnfinished(journal, file));
    if (journal === null || !settled || main === undefined || !isSame(main, image)) {
      throw new ImageError('undo/nothing', { name }, { file: name });
    }
    const openOther = (other: string, role: string): Storage => taking.openOther(name, other, role);
    const files = openAll(journal, storage, image, { writable: !taking.dryRun, share: false, openOther });
    if (files === null) throw changed(name, journal.verb, 'a file of it is gone or another one now');
    const member = { name, image, storage, journal, files };
    members.push(member);
    return member;
  } catch (error) {
    storage?.close();
    image.close();
    throw error;
  }
}

function changed(name: string, verb: string, reason: string): ImageError {
  return new ImageError('undo/changed', { name, verb, reason }, { file: name });
}

/** Why the files are not what the finished verb left; null: they are. */
function whatChanged(files: readonly FileToRestore[], journal: Storage): string | null {
  for (const { file, storage } of files) {
    const { name, descriptor } = storage;
    const { result } = file;
    if (result === null || descriptor === null) return 'the journal does not say what it left';
    const mark = markOf(descriptor, name);
    if (mark.size !== result.size) return `'${name}' has ${mark.size} bytes, and had ${result.size} then`;
    if (mark.modified !== result.modified) return `something else has written to '${name}'`;
    const page = foreignPage(file, storage, journal);
    if (page !== null) return `'${name}' has other bytes at offset ${page}`;
  }
  return null;
}

function oldBytes(journal: Journal): number {
  return journal.files.reduce((sum, { old }) => sum + old.reduce((bytes, { length }) => bytes + length, 0), 0);
}

export interface LastVerb extends Pick<TakenBack, 'verb' | 'command' | 'time'> {
  /** All images that it changed (absolute paths), where it changed several. */
  readonly together: readonly string[];
}

/** The verb that `takeBack` would take back, from a quick look; null: nothing, or nothing that could be read. Never throws for damage. */
export function lastVerb(name: string): LastVerb | null {
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
    const { verb, command, time, group } = journal;
    return { verb, command, time, together: group?.members ?? [] };
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  } finally {
    storage?.close();
  }
}

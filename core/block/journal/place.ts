// Where the journal of an image lies, which file it is about, and names that must survive a power cut.
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem } from '../../errors/image-error.ts';

/** The journal of the image that `name` leads to: `.NAME.platter-journal` beside the file itself, not beside a link to it. */
export function journalPath(name: string): string {
  const file = realPath(name);
  return path.join(path.dirname(file), `.${path.basename(file)}.platter-journal`);
}

/** Where a name leads in the end; the name itself where that cannot be found out. */
export function realPath(name: string): string {
  try {
    return fs.realpathSync.native(name);
  } catch {
    return name; // opening it will say why
  }
}

/** What tells a file from all others that were ever under its name, and when it changed. Times in nanoseconds. */
export interface FileMark {
  readonly inode: bigint;
  /** 0: the file system does not say. */
  readonly born: bigint;
  readonly modified: bigint;
  readonly changed: bigint;
  readonly size: number;
  readonly mode: number;
  readonly owner: number;
  readonly group: number;
}

/** The mark of an open file. Throws `storage/read`. */
export function markOf(descriptor: number, name: string): FileMark {
  try {
    const stat = fs.fstatSync(descriptor, { bigint: true });
    return {
      inode: stat.ino,
      born: stat.birthtimeNs < 0n ? 0n : stat.birthtimeNs,
      modified: stat.mtimeNs,
      changed: stat.ctimeNs,
      size: Number(stat.size),
      mode: Number(stat.mode) & 0o777,
      owner: Number(stat.uid),
      group: Number(stat.gid),
    };
  } catch (error) {
    throw fromSystem('storage/read', error, { file: name });
  }
}

/** The same file: device numbers may change with a restart, the rest does not. */
export function isSameFile(a: Pick<FileMark, 'inode' | 'born'>, b: Pick<FileMark, 'inode' | 'born'>): boolean {
  return a.inode === b.inode && (a.born === b.born || a.born === 0n || b.born === 0n);
}

/** Bytes that a user may still write to the file system of `folder`; null: it cannot be told. */
export function freeSpace(folder: string): number | null {
  try {
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  } catch {
    return null; // a limit that cannot be known is none
  }
}

/** New, changed and removed names in a folder survive a power cut, where the system lets a folder be flushed. Throws `storage/flush`. */
export function flushFolder(folder: string): void {
  if (process.platform === 'win32') return;
  let descriptor: number;
  try {
    descriptor = fs.openSync(folder, 'r');
  } catch {
    return; // a folder that may be written but not read cannot be opened
  }
  try {
    fs.fsyncSync(descriptor);
  } catch (error) {
    const failed = fromSystem('storage/flush', error, { file: folder });
    if (failed.detail.errno !== 'EINVAL' && failed.detail.errno !== 'ENOTSUP') throw failed;
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Takes a journal away for good; one that is not there is as good. Throws `storage/write`, `storage/flush`. */
export function removeJournal(file: string, lasting: boolean): void {
  try {
    fs.rmSync(file, { force: true });
  } catch (error) {
    throw fromSystem('storage/write', error, { file });
  }
  if (lasting) flushFolder(path.dirname(file));
}

/** Forgets how to take back the last change of `name`, which was replaced or removed as a whole. Never throws. */
export function forgetJournal(name: string): void {
  try {
    fs.rmSync(journalPath(name), { force: true });
  } catch {
    // It is about another inode and will not be taken for anything else.
  }
}

/** Puts a journal out of the way for a person to look at; its new name. Throws `storage/write`. */
export function setAside(file: string): string {
  const aside = `${file}.set-aside`;
  try {
    fs.renameSync(file, aside);
  } catch (error) {
    throw fromSystem('storage/write', error, { file });
  }
  return aside;
}

/** Mode and owner of a journal as of the image that its bytes come from: whoever can read one can read the other. */
export function ownAs(descriptor: number, mark: Pick<FileMark, 'mode' | 'owner' | 'group'>): void {
  if (process.platform === 'win32') return;
  try {
    fs.fchownSync(descriptor, mark.owner, mark.group);
    fs.fchmodSync(descriptor, mark.mode);
  } catch (error) {
    fromSystem('storage/write', error, {}); // giving it away needs rights that not everybody has: it stays ours alone
  }
}

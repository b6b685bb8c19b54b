// A new image under its final name only when it is complete: written beside it, flushed, renamed.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { openFile, type FileOptions } from '../block/file.ts';
import type { FileShape } from '../block/host/calls.ts';
import { flushFolder, forgetJournal } from '../block/journal/place.ts';
import { host } from '../block/host/host.ts';
import type { Storage } from '../block/storage.ts';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import { resolveReference } from '../formats/gate.ts';

export interface NewTargetOptions {
  /** How the caller's cache setting (`-t`) bears on the files; `unsafe`: `complete` does not wait for the disk. */
  readonly cache?: FileOptions['cache'];
  /** What the files should be like on their file system. */
  readonly shape?: FileShape;
}

/** The shape that creation options ask for (`nocow`, `extent_size_hint`). */
export function shapeFrom(options: Readonly<Record<string, unknown>>): FileShape {
  const { nocow, extent_size_hint: hint } = options;
  return { noCow: nocow === true, extentSizeHint: typeof hint === 'number' ? hint : 0 };
}

/** The files of an image that does not exist yet. Exactly one of `complete` and `abandon` ends it; both may be called twice. */
export interface NewTarget {
  /** The path that will carry the image; symbolic links are followed. */
  readonly path: string;
  /** The file that is written until then. */
  readonly partial: string;
  /** Empty and writable. Its `close` does nothing: `complete` and `abandon` close it. */
  readonly storage: Storage;
  /** Written in place (block device): there is no other name, and nothing to rename. */
  readonly inPlace: boolean;
  /** A further file of the image; `reference` as the image records it, relative to the image. */
  createFile(reference: string, role: string): Storage;
  /** Flushes, closes, gives the files their names, and makes the names last. Throws `storage/flush`, `storage/write`. */
  complete(): void;
  /** Closes and removes what was written. Never throws for files that are gone. */
  abandon(): void;
}

interface PartialFile {
  readonly final: string;
  readonly partial: string;
  readonly storage: Storage;
  /** Really closes: the node that writes the image closes `storage` before it is flushed and renamed, which must not end it. */
  readonly close: () => void;
  /** Holds the lock on the file that will be replaced. */
  readonly replaced: Storage | null;
}

/** Partial files of this process, removed when it ends early. */
const unfinished = new Set<string>();
let watching = false;

function watchExit(): void {
  if (watching) return;
  watching = true;
  process.on('exit', () => {
    for (const partial of unfinished) fs.rmSync(partial, { force: true });
  });
}

/**
 * Begins a new image at `target`. An existing regular file stays as it is until `complete`, and keeps its mode and owner; while
 * another program holds it, `storage/locked` is thrown. A block device is written in place.
 */
export function newTarget(target: string, options: NewTargetOptions = {}): NewTarget {
  const files: PartialFile[] = [];
  const first = followLinks(target);
  if (isSpecial(first)) return inPlaceTarget(target, options);
  const add = (final: string): PartialFile => {
    const file = beginPartial(final, options);
    files.push(file);
    return file;
  };
  const { storage, partial } = add(first);
  let ended = false;
  const end = (): boolean => {
    const before = ended;
    ended = true;
    return before;
  };
  return {
    path: first,
    partial,
    storage,
    inPlace: false,
    createFile(reference) {
      const final = followLinks(resolveReference(first, reference));
      return add(final).storage;
    },
    complete() {
      if (end()) return;
      try {
        for (const file of files) {
          if (options.cache !== 'unsafe') file.storage.flush();
          file.close();
        }
        for (const file of [...files].reverse()) rename(file);
        if (options.cache !== 'unsafe') for (const folder of new Set(files.map(folderOf))) flushFolder(folder);
      } catch (error) {
        removeAll(files);
        throw error;
      }
      for (const { final, replaced } of files) {
        if (replaced === null) continue;
        replaced.close();
        forgetJournal(final);
      }
    },
    abandon() {
      if (end()) return;
      for (const file of files) {
        file.close();
        file.replaced?.close();
      }
      removeAll(files);
    },
  };
}

/** What runs that were killed left of a new image at `target`; also what somebody is writing of it now. */
export function leftoversOf(target: string): string[] {
  const folder = path.dirname(target);
  const begin = `.${path.basename(target).slice(0, 200)}.partial-`;
  return (fs.existsSync(folder) ? fs.readdirSync(folder) : [])
    .filter((name) => name.startsWith(begin) && /^[0-9a-f]{8}$/.test(name.slice(begin.length)))
    .map((name) => path.join(folder, name));
}

/** Removes them. Only for one who knows that nobody else is writing it now. */
export function removeLeftovers(target: string): void {
  for (const file of leftoversOf(target)) fs.rmSync(file, { force: true });
}

function inPlaceTarget(target: string, options: NewTargetOptions): NewTarget {
  const storage = openFile(target, { writable: true, lock: 'write', cache: options.cache });
  const close = storage.close.bind(storage);
  storage.close = () => {};
  let ended = false;
  return {
    path: target,
    partial: target,
    storage,
    inPlace: true,
    createFile(reference) {
      throw new ImageError('request/unsupported', {
        what: `An image of several files ('${reference}') cannot be written to a device`,
      });
    },
    complete() {
      if (ended) return;
      ended = true;
      if (options.cache !== 'unsafe') storage.flush();
      close();
    },
    abandon() {
      if (ended) return;
      ended = true;
      close();
    },
  };
}

function beginPartial(final: string, options: NewTargetOptions): PartialFile {
  watchExit();
  const existing = fs.statSync(final, { throwIfNoEntry: false });
  // Opening what will be replaced shows at once what would go wrong later: a folder, no permission, a program that uses it.
  const replaced = existing === undefined ? null : openFile(final, { writable: true, lock: 'write' });
  const name = path.basename(final).slice(0, 200);
  const partial = path.join(path.dirname(final), `.${name}.partial-${crypto.randomBytes(4).toString('hex')}`);
  try {
    const storage = openFile(partial, {
      writable: true,
      lock: 'none',
      create: 'new',
      mode: 0o644,
      cache: options.cache,
      shownAs: final,
    });
    unfinished.add(partial);
    const { shape } = options;
    if (shape !== undefined && (shape.noCow || shape.extentSizeHint > 0) && storage.descriptor !== null) {
      host().shapeNew(storage.descriptor, shape);
    }
    if (existing !== undefined && storage.descriptor !== null) keepOwner(storage.descriptor, existing);
    const close = storage.close.bind(storage);
    storage.close = () => {};
    return { final, partial, storage, close, replaced };
  } catch (error) {
    replaced?.close();
    throw error instanceof ImageError ? error.at({ file: final }) : error;
  }
}

/** Mode and owner of the file that is replaced. Giving a file away needs rights that not everybody has: then it stays ours. */
function keepOwner(descriptor: number, existing: fs.Stats): void {
  try {
    fs.fchownSync(descriptor, existing.uid, existing.gid);
  } catch (error) {
    fromSystem('storage/write', error, {});
  }
  fs.fchmodSync(descriptor, existing.mode & 0o7777);
}

function rename(file: PartialFile): void {
  try {
    fs.renameSync(file.partial, file.final);
  } catch (error) {
    throw fromSystem('storage/write', error, { file: file.final });
  }
  unfinished.delete(file.partial);
}

function removeAll(files: readonly PartialFile[]): void {
  for (const file of files) {
    file.replaced?.close();
    fs.rmSync(file.partial, { force: true });
    unfinished.delete(file.partial);
  }
}

function folderOf(file: PartialFile): string {
  return path.dirname(file.final);
}

/** Where a name leads, also when nothing is there yet. Throws `storage/open` for a loop of links. */
function followLinks(name: string): string {
  let current = name;
  for (let hops = 0; hops < 40; hops++) {
    let next: string;
    try {
      next = fs.readlinkSync(current);
    } catch {
      return current;
    }
    current = path.resolve(path.dirname(current), next);
  }
  throw new ImageError('storage/open', { errno: 'ELOOP', reason: 'Too many levels of symbolic links' }, { file: name });
}

function isSpecial(name: string): boolean {
  const stat = fs.statSync(name, { throwIfNoEntry: false });
  return stat !== undefined && !stat.isFile() && !stat.isDirectory();
}

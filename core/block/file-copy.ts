// A whole file copied beside it: with shared blocks where the file system has such a thing, its holes kept where it has not.
import fs from 'node:fs';
import path from 'node:path';
import type { Job } from '../job.ts';
import { openFile, type CacheMode, type LockMode } from './file.ts';
import { cloneFile, copyRange } from './host/transfer.ts';
import type { Storage } from './storage.ts';
import { MiB } from './units.ts';

const pieceLength = 4 * MiB;

/** Something has this name. */
export function isTaken(name: string): boolean {
  return fs.existsSync(name);
}

/** Takes files away; those that are gone already are no error. */
export function removeFiles(names: readonly string[]): void {
  for (const name of names) fs.rmSync(name, { force: true });
}

/**
 * Copies the file `from`, which is only read, to `to`, a name that is free (its folder is made). Gives the bytes that had to be copied;
 * 0: all blocks are shared. Flushed. Throws `storage/*`, `request/cancelled`; then nothing is left.
 */
export function copyFile(
  from: string,
  to: string,
  how: { lock: LockMode; cache: CacheMode | undefined },
  job: Job,
): number {
  fs.mkdirSync(path.dirname(path.resolve(to)), { recursive: true });
  if (cloneFile(from, to)) return 0;
  const source = openFile(from, { writable: false, ...how });
  try {
    const target = openFile(to, { writable: true, lock: 'write', create: 'new', mode: 0o644 });
    try {
      return copyBytes(source, target, job);
    } catch (error) {
      removeFiles([to]);
      throw error;
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
}

function copyBytes(source: Storage, target: Storage, job: Job): number {
  let copied = 0;
  let buffer: Uint8Array | null = null;
  for (let at = 0; at < source.size;) {
    job.throwIfCancelled();
    job.progress({ phase: 'copy', done: at, total: source.size });
    const { kind, length } = source.extentAt(at, Math.min(pieceLength, source.size - at));
    if (kind === 'hole') {
      at += length;
      continue;
    }
    let done = copyRange(source, at, target, at, length);
    if (done === 0) {
      buffer ??= new Uint8Array(pieceLength);
      const piece = buffer.subarray(0, length);
      source.readAt(piece, at);
      target.writeAt(piece, at);
      done = length;
    }
    copied += done;
    at += done;
  }
  target.truncate(source.size);
  target.flush();
  return copied;
}

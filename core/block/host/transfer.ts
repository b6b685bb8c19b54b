// What the bulk plane asks of the host: shared blocks, copies inside the host, and hints about the cache.
import fs from 'node:fs';
import { fromSystem } from '../../errors/image-error.ts';
import type { Storage } from '../storage.ts';
import { GiB, type HostOffset } from '../units.ts';
import { host } from './host.ts';

/**
 * Shares the blocks of `from` with `to`, so that nothing is moved; false: not possible here (other file systems, ends that are
 * not aligned to their blocks, no descriptor), copy instead. `to` grows where the stretch lies past its end. Throws `storage/write`.
 */
export function cloneRange(
  from: Storage,
  fromOffset: HostOffset,
  to: Storage,
  toOffset: HostOffset,
  length: number,
): boolean {
  if (from.descriptor === null || to.descriptor === null || length === 0) return false;
  try {
    const done = host().cloneRange(from.descriptor, fromOffset, to.descriptor, toOffset, length);
    if (done) to.noteWritten?.(toOffset, length);
    return done;
  } catch (error) {
    throw fromSystem('storage/write', error, { file: to.name, offset: toOffset });
  }
}

/**
 * Copies inside the host, without the bytes coming here; how many it did (it may be fewer than asked: ask again), 0: not possible
 * here or nothing there. Holes may become data. Throws `storage/write`.
 */
export function copyRange(
  from: Storage,
  fromOffset: HostOffset,
  to: Storage,
  toOffset: HostOffset,
  length: number,
): number {
  if (from.descriptor === null || to.descriptor === null || length === 0) return 0;
  try {
    const done = host().copyRange(from.descriptor, fromOffset, to.descriptor, toOffset, Math.min(length, GiB));
    if (done > 0) to.noteWritten?.(toOffset, done);
    return done;
  } catch (error) {
    throw fromSystem('storage/write', error, { file: to.name, offset: toOffset });
  }
}

/**
 * Makes `to`, which must not exist, a file that shares all its blocks with `from`; false: not possible here. The only way of sharing
 * blocks on APFS. Throws `storage/write`.
 */
export function cloneFile(from: string, to: string): boolean {
  try {
    fs.copyFileSync(from, to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    const failed = fromSystem('storage/write', error, { file: to });
    if (cannotClone.has(String(failed.facts.errno))) return false;
    throw failed;
  }
}

const cannotClone = new Set(['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY', 'EXDEV', 'EINVAL']);

/** Starts writing dirty bytes to the disk without waiting, so that `flush` finds little left to do. A hint; never throws. */
export function startWriteback(storage: Storage, offset: HostOffset, length: number): void {
  if (storage.descriptor !== null && length > 0) host().startWriteback(storage.descriptor, offset, length);
}

/** The host may forget its cached copy of a stretch; what is not on the disk yet stays. A hint; never throws. */
export function dropBehind(storage: Storage, offset: HostOffset, length: number): void {
  if (storage.descriptor !== null && length > 0) host().dropCache(storage.descriptor, offset, length);
}

/** The storage will be read from front to back: the host reads further ahead. A hint; never throws. */
export function adviseSequential(storage: Storage): void {
  if (storage.descriptor !== null) host().adviseSequential(storage.descriptor);
}

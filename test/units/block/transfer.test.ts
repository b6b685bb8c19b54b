// What the bulk plane asks of the host: shared blocks on XFS, copies inside the host, the cache.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { openFile, type FileOptions } from '../../../core/block/file.ts';
import {
  adviseSequential,
  cloneFile,
  cloneRange,
  copyRange,
  dropBehind,
  startWriteback,
} from '../../../core/block/host/transfer.ts';
import { MemoryStorage } from '../../../core/block/memory.ts';
import type { Storage } from '../../../core/block/storage.ts';
import { KiB, MiB } from '../../../core/block/units.ts';
import { describeWith } from '../../peers.ts';
import { coded, read, thrown } from './file-suite.ts';
import { mounted, refusal, scratchFolder, system } from './scratch.ts';

const folder = scratchFolder();
const linux = process.platform === 'linux' ? null : 'only Linux does this';
const fresh: FileOptions = { writable: true, lock: 'write', create: 'new' };
const reading: FileOptions = { writable: false, lock: 'none' };

function pair(where: string, name: string): [Storage, Storage] {
  fs.writeFileSync(path.join(where, `${name}-from`), coded(0, 8 * MiB));
  return [openFile(path.join(where, `${name}-from`), reading), openFile(path.join(where, `${name}-to`), fresh)];
}

/** A folder on a fresh XFS, whose files can share blocks. */
function sharingFolder(): { where: string; reason: string | null } {
  const disk = path.join(folder, 'xfs.img');
  fs.writeFileSync(disk, '');
  fs.truncateSync(disk, 512 * MiB);
  const where = path.join(folder, 'xfs');
  const made = linux ?? refusal('mkfs.xfs', '-q', '-m', 'reflink=1', disk);
  return { where, reason: made ?? mounted(where, '-o', 'loop', disk) };
}

const { where, reason } = sharingFolder();

describeWith({ unless: reason }, 'sharing blocks on XFS', () => {
  it('clones a stretch: the same bytes, no space', () => {
    const [from, to] = pair(where, 'range');
    expect(to.extentAt(0, 1).length).toBe(0);
    expect(cloneRange(from, MiB, to, 64 * KiB, 4 * MiB)).toBe(true);
    expect(to.size).toBe(4 * MiB + 64 * KiB);
    expect(read(to, 64 * KiB, 4 * MiB).equals(coded(MiB, 4 * MiB))).toBe(true);
    expect(to.extentAt(64 * KiB, 4 * MiB)).toEqual({ kind: 'data', length: 4 * MiB });
    to.flush();
    expect(system('filefrag', '-v', path.join(where, 'range-to'))).toContain('shared');
    to.writeAt(new Uint8Array(4096), 64 * KiB);
    expect(read(from, MiB, 4096).equals(coded(MiB, 4096))).toBe(true);
    from.close();
    to.close();
  });

  it('says no to what is not aligned', () => {
    const [from, to] = pair(where, 'odd');
    expect(cloneRange(from, 100, to, 0, 4096)).toBe(false);
    expect(cloneRange(from, 0, to, 0, 1000)).toBe(false);
    expect(to.size).toBe(0);
    from.close();
    to.close();
  });

  it('clones a whole file', () => {
    fs.writeFileSync(path.join(where, 'whole'), coded(0, MiB));
    expect(cloneFile(path.join(where, 'whole'), path.join(where, 'clone'))).toBe(true);
    expect(fs.readFileSync(path.join(where, 'clone')).equals(coded(0, MiB))).toBe(true);
    expect(system('filefrag', '-v', path.join(where, 'clone'))).toContain('shared');
    const error = thrown(() => cloneFile(path.join(where, 'whole'), path.join(where, 'clone')));
    expect([error.code, error.message]).toEqual(['storage/write', 'File exists']);
  });

  it('says no between two file systems', () => {
    fs.writeFileSync(path.join(folder, 'elsewhere'), coded(0, MiB));
    const from = openFile(path.join(folder, 'elsewhere'), reading);
    const to = openFile(path.join(where, 'across'), fresh);
    expect(cloneRange(from, 0, to, 0, 4096)).toBe(false);
    expect(cloneFile(path.join(folder, 'elsewhere'), path.join(where, 'across2'))).toBe(false);
    from.close();
    to.close();
  });
});

describeWith({ unless: linux }, 'inside the host', () => {
  it('copies a stretch, as far as it is there', () => {
    const [from, to] = pair(folder, 'copy');
    let done = 0;
    while (done < 5 * MiB) {
      const count = copyRange(from, 3 * MiB + done, to, 777 + done, 6 * MiB);
      expect(count).toBeGreaterThan(0);
      done += count;
    }
    expect(copyRange(from, 8 * MiB, to, 0, 4096)).toBe(0);
    expect(to.size).toBe(777 + 5 * MiB);
    expect(read(to, 777, 5 * MiB).equals(coded(3 * MiB, 5 * MiB))).toBe(true);
    from.close();
    to.close();
  });

  it('does not copy where there is no descriptor', () => {
    const memory = new MemoryStorage(coded(0, 4096));
    const to = openFile(path.join(folder, 'from-memory'), fresh);
    expect(copyRange(memory, 0, to, 0, 4096)).toBe(0);
    expect(cloneRange(memory, 0, to, 0, 4096)).toBe(false);
    startWriteback(memory, 0, 4096);
    dropBehind(memory, 0, 4096);
    adviseSequential(memory);
    to.close();
  });

  it('says what went wrong when it can copy and may not', () => {
    const [from] = pair(folder, 'denied');
    const to = openFile(path.join(folder, 'denied-to'), reading);
    const error = thrown(() => copyRange(from, 0, to, 0, 4096));
    expect([error.code, error.message]).toEqual(['storage/write', 'Bad file descriptor']);
    from.close();
    to.close();
  });
});

/** Bytes of a file in the page cache. */
function cached(file: string): number {
  return Number(system('fincore', '--bytes', '--noheadings', '--output', 'RES', file).trim());
}

describeWith({ unless: linux ?? refusal('fincore', '--version') }, 'the page cache', () => {
  it('forgets what it is told to, and only what is on the disk', () => {
    const file = path.join(folder, 'cached');
    const storage = openFile(file, fresh);
    storage.writeAt(coded(0, 8 * MiB), 0);
    expect(cached(file)).toBe(8 * MiB);
    startWriteback(storage, 0, 8 * MiB);
    storage.flush();
    adviseSequential(storage);
    dropBehind(storage, 0, 4 * MiB);
    expect(cached(file)).toBeLessThanOrEqual(4 * MiB);
    dropBehind(storage, 4 * MiB, 4 * MiB);
    expect(cached(file)).toBe(0);
    expect(read(storage, 0, MiB).equals(coded(0, MiB))).toBe(true);
    storage.close();
  });

  it('is left empty with cache mode none', () => {
    const file = path.join(folder, 'uncached');
    const storage = openFile(file, { ...fresh, cache: 'none' });
    storage.writeAt(coded(0, 32 * MiB), 0);
    storage.flush();
    storage.close();
    expect(cached(file)).toBe(0);
    const reader = openFile(file, { ...reading, cache: 'none' });
    for (let at = 0; at < 32 * MiB; at += MiB) read(reader, at, MiB);
    reader.close();
    expect(cached(file)).toBe(0);
    const kept = openFile(file, reading);
    read(kept, 0, MiB);
    kept.close();
    expect(cached(file)).toBeGreaterThanOrEqual(MiB);
  });
});

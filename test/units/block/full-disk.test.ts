// A disk that runs full: every way of taking space says so, and what was there before stays.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { openFile, type FileOptions } from '../../../core/block/file.ts';
import type { Storage } from '../../../core/block/storage.ts';
import { KiB, MiB } from '../../../core/block/units.ts';
import { describeWith } from '../../peers.ts';
import { coded, read, thrown } from './file-suite.ts';
import { mounted, scratchFolder } from './scratch.ts';

const folder = path.join(scratchFolder(), 'small');
const reason = mounted(folder, '-t', 'tmpfs', '-o', 'size=4m', 'none');
const fresh: FileOptions = { writable: true, lock: 'write', create: 'new' };

describeWith({ unless: reason }, 'a full disk', () => {
  it.each<[string, (storage: Storage) => void]>([
    ['writeAt', (storage) => storage.writeAt(new Uint8Array(8 * MiB).fill(1), MiB)],
    ['provide falloc', (storage) => storage.provide(MiB, 8 * MiB, 'falloc')],
    ['provide full', (storage) => storage.provide(MiB, 8 * MiB, 'full')],
  ])('%s says that no space is left', (_title, take) => {
    const file = path.join(folder, 'file');
    const storage = openFile(file, fresh);
    storage.writeAt(coded(0, 64 * KiB), 0);
    const error = thrown(() => take(storage));
    expect([error.code, error.message, error.detail.errno]).toEqual([
      'storage/write',
      'No space left on device',
      'ENOSPC',
    ]);
    expect(error.where).toEqual({ file, offset: MiB });
    expect(read(storage, 0, 64 * KiB).equals(coded(0, 64 * KiB))).toBe(true);
    storage.close();
    fs.rmSync(file);
  });

  it('zeroes and length cost nothing on it', () => {
    const file = path.join(folder, 'sparse');
    const storage = openFile(file, fresh);
    storage.truncate(64 * MiB);
    storage.zeroAt(0, 128 * MiB);
    expect([storage.size, storage.allocated()]).toEqual([128 * MiB, 0]);
    storage.close();
    fs.rmSync(file);
  });
});

// The same files as Storage where koffi does not load: slower, with no holes and no locks, and just as right.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../../core/block/file.ts';
import { host } from '../../../core/block/host/host.ts';
import { cloneRange, copyRange, dropBehind, startWriteback } from '../../../core/block/host/transfer.ts';
import { fileSuite } from './file-suite.ts';
import { scratchFolder } from './scratch.ts';

process.env.PLATTER_NO_KOFFI = '1';
fileSuite('without koffi', false);

const folder = scratchFolder();

describe('without koffi', () => {
  it('the fallback serves', () => {
    expect(host().name).toBe('fallback');
  });

  it('nothing is shared or copied by the host, and nobody is locked out', () => {
    const files = ['a', 'b'].map((name) => {
      const file = path.join(folder, name);
      fs.writeFileSync(file, Buffer.alloc(8192, name));
      return openFile(file, { writable: true, lock: 'write' });
    });
    const [a, b] = files;
    if (a === undefined || b === undefined) throw new Error('two files');
    expect(cloneRange(a, 0, b, 0, 4096)).toBe(false);
    expect(copyRange(a, 0, b, 0, 4096)).toBe(0);
    startWriteback(a, 0, 8192);
    dropBehind(a, 0, 8192);
    openFile(path.join(folder, 'a'), { writable: true, lock: 'write' }).close();
    for (const storage of files) storage.close();
    expect(fs.readFileSync(path.join(folder, 'b'))).toEqual(Buffer.alloc(8192, 'b'));
  });
});

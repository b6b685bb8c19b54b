// What a file as Storage must do on every host; run with koffi and without it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile, type CacheMode, type FileOptions } from '../../../core/block/file.ts';
import type { Storage } from '../../../core/block/storage.ts';
import { GiB, KiB, MiB } from '../../../core/block/units.ts';
import { isImageError, type ImageError } from '../../../core/errors/image-error.ts';
import { scratchFolder } from './scratch.ts';
import { processorTime } from '../../processor-time.ts';

/** Each byte says where it lies: the low bytes of its offset in steps of 8, so that a wrong one says where it came from. */
export function coded(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 8 <= length; at += 8) bytes.writeDoubleLE(offset + at + 1, at);
  return bytes;
}

export function thrown(action: () => unknown): ImageError {
  try {
    action();
  } catch (error) {
    if (isImageError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

export function read(storage: Storage, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xee);
  storage.readAt(bytes, offset);
  return bytes;
}

const readOnly: FileOptions = { writable: false, lock: 'read' };
const writing: FileOptions = { writable: true, lock: 'write' };

/** The tests; `sparse`: this host can say where holes are and make them. */
export function fileSuite(title: string, sparse: boolean): void {
  const folder = scratchFolder();
  let count = 0;
  const name = (): string => path.join(folder, `file-${count++}`);
  const withFile = (content: Uint8Array | number, use: (storage: Storage, file: string) => void, options = writing) => {
    const file = name();
    if (typeof content === 'number') {
      fs.writeFileSync(file, '');
      fs.truncateSync(file, content);
    } else fs.writeFileSync(file, content);
    const storage = openFile(file, options);
    try {
      use(storage, file);
    } finally {
      storage.close();
    }
  };

  describe(`${title}: opening`, () => {
    it('refuses a folder', () => {
      const error = thrown(() => openFile(folder, readOnly));
      expect(error.code).toBe('storage/directory');
      expect(error.where).toEqual({ file: folder });
      expect(thrown(() => openFile(folder, writing)).code).toBe('storage/directory');
    });

    it.skipIf(process.platform === 'win32').each([
      ['a named pipe', (file: string) => void spawnSync('mkfifo', [file])],
      ['a character device', (file: string) => fs.symlinkSync('/dev/zero', file)],
    ])('refuses %s at once', (found, make) => {
      const file = name();
      make(file);
      const begin = processorTime();
      for (const options of [readOnly, writing]) {
        const error = thrown(() => openFile(file, options));
        expect(error.code).toBe('storage/not-a-file');
        expect(error.message).toBe(`'${file}' is ${found}, not a regular file or a block device`);
      }
      expect(processorTime() - begin).toBeLessThan(1000);
    });

    it.skipIf(process.platform === 'win32')('refuses a socket', async () => {
      const file = name();
      const server = net.createServer();
      await new Promise<void>((resolve) => server.listen(file, resolve));
      const error = thrown(() => openFile(file, readOnly));
      await new Promise((resolve) => server.close(resolve));
      expect([error.code, error.detail.found]).toEqual(['storage/not-a-file', 'a socket']);
    });

    it('says what the system says about a name that leads nowhere', () => {
      const file = name();
      const error = thrown(() => openFile(file, readOnly));
      expect([error.code, error.message, error.detail.errno]).toEqual([
        'storage/open',
        'No such file or directory',
        'ENOENT',
      ]);
      fs.symlinkSync(file, file);
      expect(thrown(() => openFile(file, readOnly)).message).toBe('Too many levels of symbolic links');
      expect(thrown(() => openFile(`${file}\0.img`, readOnly)).message).toBe('Invalid argument');
      expect(thrown(() => openFile(path.join(folder, 'x'.repeat(300)), readOnly)).message).toBe('File name too long');
    });

    it('follows symbolic links, and knows two names of one file', () => {
      withFile(coded(0, 4096), (storage, file) => {
        const link = name();
        fs.symlinkSync(file, link);
        const hard = name();
        fs.linkSync(file, hard);
        for (const other of [link, hard]) {
          const second = openFile(other, { writable: false, lock: 'none' });
          expect(second.identity).toBe(storage.identity);
          expect(read(second, 0, 4096)).toEqual(coded(0, 4096));
          second.close();
        }
      });
    });

    it('creates a file with its mode, and refuses one that is there', () => {
      const file = name();
      const options: FileOptions = { ...writing, create: 'new', mode: 0o640, shownAs: 'disk.img' };
      const storage = openFile(file, options);
      expect([storage.name, storage.size, fs.statSync(file).mode & 0o777]).toEqual(['disk.img', 0, 0o640]);
      storage.close();
      const error = thrown(() => openFile(file, options));
      expect([error.message, error.where.file]).toEqual(['File exists', 'disk.img']);
    });

    it('leaves no descriptor behind when it refuses', () => {
      if (process.platform !== 'linux') return;
      const before = fs.readdirSync('/proc/self/fd').length;
      for (let i = 0; i < 50; i++) thrown(() => openFile(folder, readOnly));
      expect(fs.readdirSync('/proc/self/fd').length).toBe(before);
    });
  });

  describe(`${title}: reading and writing`, () => {
    it('reads what another program wrote, and writes what it reads', () => {
      const file = name();
      fs.writeFileSync(file, coded(0, 3 * MiB));
      const storage = openFile(file, writing);
      expect(read(storage, 12345 * 8, 70000)).toEqual(coded(12345 * 8, 70000));
      storage.writeAt(coded(8 * MiB, 1 * MiB), 5 * MiB);
      expect(storage.size).toBe(6 * MiB);
      storage.flush();
      storage.close();
      const content = fs.readFileSync(file);
      expect(content.length).toBe(6 * MiB);
      expect(content.subarray(0, 3 * MiB).equals(coded(0, 3 * MiB))).toBe(true);
      expect(content.subarray(3 * MiB, 5 * MiB).equals(Buffer.alloc(2 * MiB))).toBe(true);
      expect(content.subarray(5 * MiB).equals(coded(8 * MiB, 1 * MiB))).toBe(true);
    });

    it('places a read past the end', () => {
      withFile(coded(0, 1000), (storage, file) => {
        const error = thrown(() => read(storage, 900, 200));
        expect([error.code, error.detail, error.where]).toEqual([
          'storage/short-read',
          { found: 100, length: 200, size: 1000 },
          { file, offset: 900 },
        ]);
      });
    });

    it('says that a file shrank, for data and for holes', () => {
      for (const content of [coded(0, 64 * KiB), 64 * KiB]) {
        withFile(
          content,
          (storage, file) => {
            fs.truncateSync(file, 4096);
            const error = thrown(() => read(storage, 0, 8192));
            expect([error.code, error.detail]).toEqual(['storage/shrank', { expected: 65536, found: 4096 }]);
            expect(error.where).toEqual({ file, offset: 0 });
            if (sparse) expect(thrown(() => storage.extentAt(8192, 100)).code).toBe('storage/shrank');
          },
          readOnly,
        );
      }
    });

    it('refuses to write what is open for reading, and anything after close', () => {
      withFile(
        coded(0, 512),
        (storage) => {
          for (const change of [
            () => storage.writeAt(coded(0, 8), 0),
            () => storage.truncate(0),
            () => storage.zeroAt(0, 8),
            () => storage.provide(0, 8, 'full'),
          ]) {
            expect(thrown(change).code).toBe('storage/read-only');
          }
          storage.close();
          storage.close();
          for (const use of [() => read(storage, 0, 1), () => storage.flush(), () => storage.allocated()]) {
            expect(thrown(use).code).toBe('storage/closed');
          }
        },
        readOnly,
      );
    });

    it('refuses offsets that a number cannot hold exactly', () => {
      withFile(coded(0, 512), (storage) => {
        for (const use of [
          () => read(storage, Number.MAX_SAFE_INTEGER, 2),
          () => storage.writeAt(coded(0, 8), 2 ** 53),
          () => storage.truncate(2 ** 60),
          () => storage.zeroAt(2 ** 53 - 4, 8),
        ]) {
          expect(thrown(use).code).toBe('storage/too-large');
        }
        expect(() => read(storage, -1, 1)).toThrow(RangeError);
        expect(storage.size).toBe(512);
      });
    });

    it('says what the system says about a file that is too large for it', () => {
      withFile(coded(0, 512), (storage, file) => {
        const limited = thrown(() => storage.truncate(Number.MAX_SAFE_INTEGER - 1));
        expect([limited.code, limited.message, limited.where.file]).toEqual([
          'storage/truncate',
          'File too large',
          file,
        ]);
        expect(storage.size).toBe(512);
      });
    });

    it.each<CacheMode>(['writeback', 'writethrough', 'none', 'directsync', 'unsafe'])(
      'holds what was written, unaligned, with cache mode %s',
      (cache) => {
        const file = name();
        const storage = openFile(file, { ...writing, create: 'new', cache });
        for (let at = 0; at < 40; at++) storage.writeAt(coded(at * MiB, MiB + 8), at * MiB + 3);
        storage.zeroAt(5, 11);
        storage.flush();
        const reopened = openFile(file, { writable: false, lock: 'none', cache });
        for (let at = 0; at < 39; at++) expect(read(reopened, at * MiB + 3 + 16, 64)).toEqual(coded(at * MiB + 16, 64));
        expect(read(reopened, 5, 11)).toEqual(Buffer.alloc(11));
        reopened.close();
        storage.close();
      },
    );

    it('truncates in both directions', () => {
      withFile(coded(0, 1 * MiB), (storage, file) => {
        storage.truncate(100 * KiB + 1);
        expect([storage.size, fs.statSync(file).size]).toEqual([102401, 102401]);
        storage.truncate(2 * MiB);
        expect(read(storage, 102401, 1000)).toEqual(Buffer.alloc(1000));
        expect(storage.size).toBe(2 * MiB);
      });
    });
  });

  describe(`${title}: zeroes and space`, () => {
    it.each([
      [0, 4096],
      [4095, 2],
      [1, 1],
      [100_001, 333_333],
      [0, MiB],
      [MiB - 10, 20],
      [MiB + 5, 3 * MiB],
      [3 * MiB, 0],
    ])('zeroAt(%d, %d) makes zeroes of exactly that', (offset, length) => {
      const content = coded(0, MiB);
      withFile(content, (storage, file) => {
        storage.zeroAt(offset, length);
        const size = length === 0 ? MiB : Math.max(MiB, offset + length);
        const expected = Buffer.alloc(size);
        content.copy(expected);
        if (length > 0) expected.fill(0, offset, offset + length);
        expect(storage.size).toBe(size);
        expect(fs.readFileSync(file).equals(expected)).toBe(true);
      });
    });

    it.each(['falloc', 'full'] as const)('provide(%s) sets space aside and grows the file', (how) => {
      withFile(0, (storage, file) => {
        storage.provide(0, 3 * MiB + 512, how);
        const { size, blocks } = fs.statSync(file);
        expect([storage.size, size]).toEqual([3 * MiB + 512, 3 * MiB + 512]);
        expect(blocks * 512).toBeGreaterThanOrEqual(3 * MiB + 512);
        expect(storage.allocated()).toBe(blocks * 512);
        expect(fs.readFileSync(file).equals(Buffer.alloc(size))).toBe(true);
      });
    });

    it('provide(falloc) keeps what is there', () => {
      withFile(coded(0, 64 * KiB), (storage, file) => {
        storage.truncate(2 * MiB);
        storage.provide(10, 3 * MiB, 'falloc');
        const content = fs.readFileSync(file);
        expect(content.length).toBe(3 * MiB + 10);
        expect(content.subarray(0, 64 * KiB).equals(coded(0, 64 * KiB))).toBe(true);
        expect(content.subarray(64 * KiB).every((byte) => byte === 0)).toBe(true);
        expect(storage.allocated()).toBeGreaterThanOrEqual(3 * MiB);
      });
    });

    it('answers for every byte what kind it is', () => {
      withFile(coded(0, 64 * KiB), (storage) => {
        storage.truncate(GiB);
        storage.writeAt(coded(0, 4096), 512 * MiB);
        let at = 0;
        let holes = 0;
        while (at < storage.size) {
          const { kind, length } = storage.extentAt(at, storage.size);
          expect(length).toBeGreaterThan(0);
          if (kind === 'hole') holes += length;
          at += length;
        }
        expect(at).toBe(GiB);
        expect(holes).toBe(sparse ? GiB - 64 * KiB - 4096 : 0);
        expect(storage.extentAt(GiB, 100).length).toBe(0);
        expect(storage.extentAt(0, 100)).toEqual({ kind: 'data', length: 100 });
      });
    });

    it('an empty file has no extent and reads nothing', () => {
      withFile(0, (storage) => {
        expect(storage.extentAt(0, 10)).toEqual({ kind: 'data', length: 0 });
        storage.readAt(new Uint8Array(0), 0);
        storage.writeAt(new Uint8Array(0), 0);
        expect(storage.size).toBe(0);
      });
    });
  });
}

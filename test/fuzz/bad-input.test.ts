// Bad input by name: loops, names that are no paths, tables and streams that want all memory, sources that shrink, disks that are full.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { describeWith, type Finished, mustRun, runPlatter, runProgram, startPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const MiB = 1024 * 1024;
const cpuLimit = 2_000_000; // microseconds
const memoryLimit = 256 * MiB;

interface Bounded extends Finished {
  readonly peak: number;
  readonly cpu: number;
}

/** Runs our command and holds it to 2 s of processor time and 256 MiB. */
function bounded(args: readonly string[], cwd: string): Bounded {
  const report = path.join(cwd, '.usage');
  fs.rmSync(report, { force: true });
  const hook = `--import=file://${path.join(import.meta.dirname, 'report-usage.ts')}`;
  const finished = runPlatter(args, { cwd, env: { USAGE_FILE: report, NODE_OPTIONS: hook }, timeout: 30_000 });
  const { peak, cpu } = JSON.parse(fs.readFileSync(report, 'utf8')) as { peak: number; cpu: number };
  fs.rmSync(report);
  const title = `${args.join(' ')}: ${finished.stderr.slice(0, 500)}`;
  expect(finished.status, title).not.toBeNull();
  expect(cpu, title).toBeLessThan(cpuLimit);
  expect(peak, title).toBeLessThan(memoryLimit);
  expect(finished.stderr, title).not.toMatch(/^ {4}at |internal error/m);
  expect(finished.stderr.length, title).toBeLessThan(4096);
  return { ...finished, peak, cpu };
}

/** Every verb that reads must refuse; convert leaves nothing. */
function expectRefused(
  image: string,
  cwd: string,
  wording: RegExp,
  verbs: readonly string[] = ['convert', 'map', 'compare'],
): void {
  const lines: Record<string, string[]> = {
    info: ['info', image],
    'info --backing-chain': ['info', '--backing-chain', image],
    convert: ['convert', '-O', 'raw', image, 'refused.out'],
    map: ['map', image],
    compare: ['compare', image, image],
    check: ['check', image],
    measure: ['measure', '-O', 'qcow2', image],
  };
  for (const verb of verbs) {
    const before = fs.readdirSync(cwd).sort();
    const finished = bounded(lines[verb] ?? [], cwd);
    expect(finished.status, verb).toBe(verb === 'compare' ? 2 : 1);
    expect(finished.stderr, verb).toMatch(wording);
    expect(fs.readdirSync(cwd).sort(), verb).toEqual(before);
  }
}

/** Writes `bytes` over a file at `offset`. */
function patch(file: string, offset: number, bytes: Uint8Array | readonly number[]): void {
  const descriptor = fs.openSync(file, 'r+');
  fs.writeSync(descriptor, Uint8Array.from(bytes), 0, bytes.length, offset);
  fs.closeSync(descriptor);
}

const be32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const be64 = (value: number): number[] => [...be32(Math.floor(value / 2 ** 32)), ...be32(value >>> 0)];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'bad input', () => {
  const scratch = scratchFolder('bad-input');
  let folder: string;
  let made = 0;
  const img = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  const at = (name: string): string => path.join(folder, name);

  beforeEach(() => {
    folder = path.join(scratch, String(made++));
    fs.mkdirSync(folder);
  });

  describe('backing files that go round in a circle', () => {
    const wording = /infinite loop/;
    const loop = (...names: string[]): void => {
      for (const name of names) img('create', '-q', '-f', 'qcow2', name, '1M');
      for (const [index, name] of names.entries()) {
        img('rebase', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', names[(index + 1) % names.length] ?? name, name);
      }
    };
    const verbs = ['convert', 'map', 'compare', 'info --backing-chain', 'measure'];

    it('an image over itself', () => {
      loop('a.qcow2');
      expectRefused('a.qcow2', folder, wording, verbs);
    });
    it('two and three images', () => {
      loop('a.qcow2', 'b.qcow2');
      expectRefused('a.qcow2', folder, wording, verbs);
      loop('c.qcow2', 'd.qcow2', 'e.qcow2');
      expectRefused('d.qcow2', folder, wording, verbs);
    });
    it('through a symbolic and a hard link', () => {
      img('create', '-q', '-f', 'qcow2', 'a.qcow2', '1M');
      fs.symlinkSync('a.qcow2', at('soft'));
      img('rebase', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', 'soft', 'a.qcow2');
      expectRefused('a.qcow2', folder, wording, verbs);
      fs.linkSync(at('a.qcow2'), at('hard'));
      img('rebase', '-q', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', 'hard', 'a.qcow2');
      expectRefused('a.qcow2', folder, wording, verbs);
    });
    it('info without the chain still says what the image is', () => {
      loop('a.qcow2', 'b.qcow2');
      expect(bounded(['info', 'a.qcow2'], folder).stdout).toContain('backing file: b.qcow2');
    });
  });

  describe('names inside an image', () => {
    const overlay = (backing: string): void => {
      img('create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', backing, 'top.qcow2', '1M');
    };

    it('of 1023 bytes are read, of 1024 refused', () => {
      overlay('n'.repeat(1023));
      expect(bounded(['info', 'top.qcow2'], folder).stdout).toContain('n'.repeat(1023));
      expectRefused('top.qcow2', folder, /File name too long|No such file/);
      patch(at('top.qcow2'), 16, be32(1024));
      expectRefused('top.qcow2', folder, /Backing file name too long/, ['info', 'convert', 'map', 'compare']);
    });

    for (const name of [
      'json:{"driver":"raw","file":{"driver":"file","filename":"secret"}}',
      'nbd://127.0.0.1:9/x',
      'http://127.0.0.1:9/x',
      'https://127.0.0.1:9/x',
      'ssh://127.0.0.1/x',
      'blkdebug::secret',
      'fat:rw:/tmp',
      'vvfat:/tmp',
      'host_device:/dev/sda',
    ]) {
      it(`'${name}' as a backing file is not followed`, () => {
        fs.writeFileSync(at('secret'), 'x'.repeat(512));
        overlay(name);
        expectRefused('top.qcow2', folder, /not followed|not a path/);
        expect(bounded(['info', 'top.qcow2'], folder).stdout).toContain('top.qcow2');
      });
    }

    it('of a data file that is a description or a URL are not followed', () => {
      for (const name of ['json:{"x":1}  ', 'nbd://127.0.0.1', 'json:{"driver":']) {
        const real = 'd'.repeat(name.length);
        img('create', '-q', '-f', 'qcow2', '-o', `data_file=${real}`, 'disk.qcow2', '1M');
        const bytes = fs.readFileSync(at('disk.qcow2'));
        const place = bytes.indexOf(real);
        expect(place).toBeGreaterThan(0);
        patch(at('disk.qcow2'), place, Buffer.from(name));
        expectRefused('disk.qcow2', folder, /not followed|not a path/);
        fs.rmSync(at('disk.qcow2'));
      }
    });

    it('of a folder, a FIFO, a character device are refused', () => {
      fs.mkdirSync(at('folder'));
      mustMakeFifo(at('fifo'));
      for (const name of ['folder', 'fifo', '/dev/zero']) {
        overlay(name);
        expectRefused('top.qcow2', folder, /regular file|block device/);
        expectRefused(name, folder, /regular file|block device/, ['info', 'convert']);
      }
    });

    it('of a backing file that is missing are said', () => {
      overlay('gone.raw');
      expectRefused('top.qcow2', folder, /Could not open backing file.*No such file or directory/s);
    });
  });

  describe('figures that want all memory', () => {
    const fields: readonly [string, number, number[]][] = [
      ['an L1 table of 4 G entries', 36, be32(0xffffffff)],
      ['an L1 table of the largest size allowed', 36, be32((32 * MiB) / 8)],
      ['a refcount table of 4 G clusters', 56, be32(0xffffffff)],
      ['a refcount table of the largest size allowed', 56, be32((8 * MiB) / 65536)],
      ['4 G snapshots', 60, be32(0xffffffff)],
      ['65536 snapshots', 60, be32(65536)],
      ['a header of 4 GiB', 100, be32(0xffffffff)],
      ['a header extension of 4 GiB', 116, be32(0xffffffff)],
      ['a disk of 8 EiB', 24, be64(2 ** 63)],
      ['clusters of 2^31 bytes', 20, be32(31)],
      ['clusters of 2^255 bytes', 20, be32(255)],
      ['refcounts of 2^255 bits', 96, be32(255)],
    ];
    for (const [name, offset, bytes] of fields) {
      it(name, () => {
        img('create', '-q', '-f', 'qcow2', 'disk.qcow2', '1M');
        patch(at('disk.qcow2'), offset, bytes);
        for (const verb of [['info'], ['check'], ['map'], ['convert', '-O', 'raw']]) {
          const finished = bounded([...verb, 'disk.qcow2', ...(verb[0] === 'convert' ? ['out.raw'] : [])], folder);
          if (finished.status !== 0) expect(finished.stderr.trim()).not.toBe('');
          expect(fs.existsSync(at('out.raw'))).toBe(finished.status === 0 && verb[0] === 'convert');
          fs.rmSync(at('out.raw'), { force: true });
        }
      });
    }

    it('an empty disk of 64 TiB is mapped at once, one beyond what can be addressed exactly is refused', () => {
      const make = (size: string): void => {
        img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', 'huge.qcow2', size);
      };
      make('64T');
      expect(bounded(['map', '--output=json', 'huge.qcow2'], folder).status).toBe(0);
      expect(bounded(['check', 'huge.qcow2'], folder).status).toBe(0);
      make('2E');
      const refused = bounded(['map', '--output=json', 'huge.qcow2'], folder);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain('huge.qcow2');
    });
  });

  describe('compressed clusters', () => {
    /** An image of one compressed cluster whose stream is replaced by `stream`. */
    const withStream = (type: string, stream: Uint8Array): void => {
      const noise = Buffer.from(
        Array.from({ length: 65536 }, (_, i) => (i * 31 + (i >> 8) * 7) & (i % 3 === 0 ? 255 : 15)),
      );
      fs.writeFileSync(at('plain.raw'), noise);
      img('convert', '-c', '-O', 'qcow2', '-o', `compression_type=${type}`, 'plain.raw', 'bomb.qcow2');
      const bytes = fs.readFileSync(at('bomb.qcow2'));
      const l1 = Number(bytes.readBigUInt64BE(40));
      const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
      const entry = bytes.readBigUInt64BE(l2);
      expect(entry >> 62n).toBe(1n);
      const offset = Number(entry & ((1n << 54n) - 1n));
      const sectors = 127n; // the most that 64 KiB clusters can say: 7 bits beyond the first sector
      const room = Buffer.alloc(offset + 128 * 512);
      bytes.copy(room);
      Buffer.from(stream).copy(room, offset, 0, 128 * 512 - (offset % 512));
      room.writeBigUInt64BE((1n << 62n) | (sectors << 54n) | BigInt(offset), l2);
      fs.writeFileSync(at('bomb.qcow2'), room);
    };

    for (const [type, stream] of [
      ['zlib', zlib.deflateRawSync(Buffer.alloc(60 * MiB), { level: 9, windowBits: 12 })],
      ['zstd', zlib.zstdCompressSync(Buffer.alloc(512 * MiB))],
    ] as const) {
      it(`a ${type} stream of 64 KiB that would fill ${type === 'zlib' ? 60 : 512} MiB`, () => {
        withStream(type, stream);
        const finished = bounded(['convert', '-O', 'raw', 'bomb.qcow2', 'out.raw'], folder);
        expect(finished.status === 0 || finished.stderr.trim() !== '').toBe(true);
        expect(fs.existsSync(at('out.raw'))).toBe(finished.status === 0);
      });
    }

    it('a stream of noise is an error that names the place', () => {
      withStream('zlib', Buffer.alloc(65536, 0xff));
      const finished = bounded(['convert', '-O', 'raw', 'bomb.qcow2', 'out.raw'], folder);
      expect(finished.status).toBe(1);
      expect(finished.stderr).toMatch(/error while reading|Input\/output error|cannot be decoded/);
      expect(fs.existsSync(at('out.raw'))).toBe(false);
    });
  });

  it('a source that shrinks while it is read is an error, and leaves no target', async () => {
    fs.writeFileSync(at('source.raw'), Buffer.alloc(24 * MiB, 0x5a));
    const running = startPlatter(['convert', '-f', 'raw', '-O', 'qcow2', '-r', '8M', 'source.raw', 'out.qcow2'], {
      cwd: folder,
    });
    // The partial output shows that it has begun.
    for (
      let waited = 0;
      waited < 20_000 && !fs.readdirSync(folder).some((name) => name.includes('.partial-'));
      waited += 20
    ) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    fs.truncateSync(at('source.raw'), MiB);
    const finished = await running;
    expect(finished.status, finished.stderr).toBe(1);
    expect(finished.stderr).toMatch(/^qemu-img: .*(could be read|ends at|was .* bytes|Input\/output)/m);
    expect(fs.readdirSync(folder)).toEqual(['source.raw']);
  });

  describe('a full disk', () => {
    const mount = process.getuid?.() === 0 && fs.existsSync('/bin/mount');
    it.skipIf(!mount)(`of 4 MiB${mount ? '' : ' (skipped: mounting a small tmpfs needs root)'}`, (context) => {
      const disk = at('disk');
      fs.mkdirSync(disk);
      if (runProgram('/bin/mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]).status !== 0) {
        context.skip('a small tmpfs cannot be mounted here');
      }
      try {
        fs.writeFileSync(
          at('source.raw'),
          Buffer.from(Array.from({ length: 6 * MiB }, (_, i) => (i * 2654435761) >>> 24)),
        );
        for (const args of [
          ['convert', '-O', 'raw', 'source.raw', 'disk/out'],
          ['convert', '-O', 'qcow2', 'source.raw', 'disk/out'],
          ['convert', '-O', 'qcow2', '-o', 'preallocation=full', 'source.raw', 'disk/out'],
          ['convert', '-c', '-O', 'qcow2', 'source.raw', 'disk/out'],
          ['create', '-f', 'raw', '-o', 'preallocation=full', 'disk/out', '6M'],
          ['create', '-f', 'raw', '-o', 'preallocation=falloc', 'disk/out', '6M'],
          ['create', '-f', 'qcow2', '-o', 'preallocation=full', 'disk/out', '6M'],
        ]) {
          const finished = bounded(args, folder);
          expect(finished.status, args.join(' ')).toBe(1);
          expect(finished.stderr, args.join(' ')).toMatch(/No space left on device/);
          expect(fs.readdirSync(disk), args.join(' ')).toEqual([]);
        }
        // An old image of that name survives.
        fs.writeFileSync(path.join(disk, 'out'), 'old');
        expect(bounded(['convert', '-O', 'raw', 'source.raw', 'disk/out'], folder).status).toBe(1);
        expect(fs.readFileSync(path.join(disk, 'out'), 'utf8')).toBe('old');
      } finally {
        runProgram('/bin/umount', [disk]);
      }
    });
  });
});

function mustMakeFifo(name: string): void {
  const { status, stderr } = runProgram('mkfifo', [name]);
  if (status !== 0) throw new Error(`mkfifo ${name}: ${stderr}`);
}

// The qcow2 check against qemu-img's: the same lines, counts and figures on sound, damaged and odd images.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { checkQcow2 } from '../../../../core/formats/qcow2/check.ts';
import { Qcow2State } from '../../../../core/formats/qcow2/state.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { Crafted } from './crafted.ts';
import { copied, damages, extendedDamages, snapshotDamages } from './damages.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-check-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let number = 0;

function image(size = '4M', options = '', writes: readonly string[] = ['write 0 192k', 'write 1M 64k']): Crafted {
  return Crafted.create(path.join(folder, `${number++}.qcow2`), size, options, writes);
}

interface Verdict {
  /** Null where the check came to no figures. */
  readonly figures: Record<string, number> | null;
  readonly failure: string | null;
  readonly lines: readonly string[];
}

function ours(file: string): Verdict {
  const lines: string[] = [];
  const counts = { corruption: 0, leak: 0, error: 0 };
  const storage = openFile(file, { writable: false, lock: 'none' });
  try {
    const findings = checkQcow2(new Qcow2State(storage, { writable: false, forRepair: true }), silentJob);
    for (;;) {
      const next = findings.next();
      if (next.done !== true) {
        lines.push(...next.value.text.split('\n'));
        counts[next.value.severity] += next.value.count;
        continue;
      }
      const summary = next.value;
      const figures: Record<string, number> = {
        'image-end-offset': summary.imageEndOffset ?? 0,
        'total-clusters': summary.totalClusters ?? 0,
        'allocated-clusters': summary.allocatedClusters ?? 0,
        'fragmented-clusters': summary.fragmentedClusters ?? 0,
        'compressed-clusters': summary.compressedClusters ?? 0,
        corruptions: counts.corruption,
        leaks: counts.leak,
        'check-errors': counts.error,
      };
      return { figures: dropZeroes(figures), failure: null, lines };
    }
  } catch (error) {
    if (!isImageError(error)) throw error;
    return { figures: null, failure: error.message.split('\n')[0] ?? '', lines };
  } finally {
    storage.close();
  }
}

function dropZeroes(figures: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(figures).filter(([key, value]) => value !== 0 || key === 'check-errors'));
}

function theirs(file: string): Verdict {
  const { stdout, stderr } = runQemuImg(['check', '--output=json', '-f', 'qcow2', file]);
  const lines = withoutWarning(stderr)
    .split('\n')
    .filter((line) => line !== '');
  const own = lines.filter((line) => !/^qemu-img: (Check failed|Could not open)/.test(line));
  const shown = own.map((line) => line.replace(/^qemu-img: /, ''));
  if (stdout.trim() !== '') {
    const parsed = JSON.parse(stdout) as Record<string, number | string>;
    const figures = Object.entries(parsed).filter((row): row is [string, number] => typeof row[1] === 'number');
    return { figures: dropZeroes(Object.fromEntries(figures)), failure: null, lines: shown };
  }
  const failure = lines.find((line) => line.startsWith('qemu-img: ')) ?? '';
  const last = lines.findLast((line) => line.startsWith('qemu-img: ')) ?? failure;
  return { figures: null, failure: last.replace(/^qemu-img: (Could not open '[^']*': )?/, ''), lines: shown };
}

/** What qemu-img says about bitmaps when it opens an image; the check does not repeat it. */
function withoutWarning(text: string): string {
  return text.replace(/(qemu-img: )?warning: a program lacking bitmap support.*\nSome clusters .* to fix\./, '');
}

/** Both checks, which must agree; gives ours for further questions. */
function agree(crafted: Crafted): Verdict {
  const mine = ours(crafted.path);
  expect(mine).toEqual(theirs(crafted.path));
  return mine;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'check of sound qcow2 images', () => {
  const settings: [string, string, string?][] = [
    ['defaults', ''],
    ['version 2', 'compat=0.10'],
    ['512-byte clusters', 'cluster_size=512', '8M'],
    ['4 KiB clusters', 'cluster_size=4k', '40M'],
    ['2 MiB clusters', 'cluster_size=2M', '300M'],
    ...[1, 2, 4, 8, 16, 32, 64].map((bits): [string, string] => [`${bits}-bit refcounts`, `refcount_bits=${bits}`]),
    ['1-bit refcounts in 512-byte clusters', 'refcount_bits=1,cluster_size=512', '9M'],
    ['64-bit refcounts in 512-byte clusters', 'refcount_bits=64,cluster_size=512', '9M'],
    ['extended L2', 'extended_l2=on,cluster_size=128k', '30M'],
    ['lazy refcounts', 'lazy_refcounts=on'],
    ['metadata preallocated', 'preallocation=metadata', '100M'],
    ['odd size', '', '5000001'],
    ['no size', '', '0'],
  ];
  it.each(settings)('%s', (_name, options, size = '4M') => {
    const empty = image(size, options, []);
    agree(empty);
    if (size === '0') return;
    const written = image(size, options, [
      'write 0 130k',
      'write -z 200k 200k',
      'write 1M 3k',
      'write 3M 600k',
      'discard 3100k 64k',
    ]);
    const verdict = agree(written);
    expect(verdict.lines).toEqual([]);
    expect(verdict.figures).toMatchObject({ 'check-errors': 0 });
  });

  it('compressed clusters, zlib and zstd', () => {
    const source = image('20M', '', ['write -P 7 0 4M', 'write -P 9 5M 1M']);
    for (const options of ['', 'compression_type=zstd', 'cluster_size=4k', 'extended_l2=on', 'cluster_size=2M']) {
      const file = path.join(folder, `${number++}.qcow2`);
      const made = options === '' ? [] : ['-o', options];
      mustRun('qemu-img', ['convert', '-c', '-O', 'qcow2', ...made, source.path, file]);
      expect(agree(new Crafted(file)).figures?.['compressed-clusters']).toBeGreaterThan(0);
    }
  });

  it('snapshots, bitmaps, backing files', () => {
    const crafted = image('10M', '', ['write 0 1M', 'write 5M 1M']);
    for (const name of ['one', 'two', 'three']) {
      mustRun('qemu-img', ['snapshot', '-c', name, crafted.path]);
      mustRun('qemu-io', ['-c', `write ${number % 7}M 300k`, crafted.path]);
    }
    for (const bitmap of ['a', 'b']) mustRun('qemu-img', ['bitmap', '--add', crafted.path, bitmap]);
    agree(crafted);
    const overlay = path.join(folder, 'overlay.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', crafted.path, '-F', 'qcow2', overlay]);
    agree(new Crafted(overlay));
  });

  it('external data files', () => {
    for (const options of ['', ',data_file_raw=on', ',extended_l2=on']) {
      const data = path.join(folder, `${number}.data`);
      const crafted = image('10M', `data_file=${data}${options}`, ['write 0 1M', 'write 5M 1M', 'write -z 7M 1M']);
      agree(crafted);
    }
  });

  it('a file that ends inside its last cluster', () => {
    const crafted = image();
    agree(crafted.truncate(crafted.length - 1000));
    agree(crafted.truncate(crafted.length - 64000));
    agree(crafted.truncate(crafted.length - 64000));
    agree(crafted.truncate(crafted.length - 640));
  });

  it('a file that goes on behind its last cluster', () => {
    const crafted = image();
    agree(crafted.truncate(10_000_000));
    agree(crafted.truncate(2 ** 42));
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'check of damaged qcow2 images', () => {
  it.each(damages)('%s', (_name, damage) => {
    agree(damage(image()));
  });

  it('one L2 table behind two L1 entries', () => {
    const crafted = image('2G', '', ['write 0 192k', 'write 1G 64k']);
    agree(crafted.set(crafted.l1 + 8, crafted.get(crafted.l1)));
    agree(crafted.change(crafted.l2(), (e) => e | 2n));
  });

  it('1-bit refcounts that overflow', () => {
    const crafted = image('4M', 'refcount_bits=1');
    agree(crafted.set(crafted.l2(), crafted.get(crafted.l2() + 8)));
  });

  it('64-bit refcounts beyond what a number holds', () => {
    const crafted = image('4M', 'refcount_bits=64');
    agree(crafted.set(crafted.block() + 8 * 5, 0xffff_ffff_ffff_fff1n));
  });

  it.each(snapshotDamages)('snapshot: %s', (_name, damage) => {
    const crafted = image();
    mustRun('qemu-img', ['snapshot', '-c', 'snap', crafted.path]);
    agree(damage(crafted));
  });

  it('snapshots beside an external data file', () => {
    const crafted = image();
    mustRun('qemu-img', ['snapshot', '-c', 'snap', crafted.path]);
    const other = image('4M', `data_file=${path.join(folder, 'snap.data')}`);
    agree(other.set32(60, 1).set(64, 0x100000).bytes(0x100000, Buffer.alloc(80)));
  });

  const external: [string, (crafted: Crafted) => Crafted][] = [
    ['entry without copied bit', (c) => c.change(c.l2(), (e) => e & ~copied)],
    ['first entry', (c) => c.set(c.l2(), copied)],
    ['compressed entry', (c) => c.set(c.l2() + 8, 0x4000_0000_0005_0000n)],
    ['compressed entry with copied bit', (c) => c.set(c.l2() + 8, 0xc000_0000_0005_0000n)],
    ['unaligned entry', (c) => c.change(c.l2() + 8, (e) => e | 0x200n)],
    ['entry far away', (c) => c.set(c.l2() + 8, 0x80ff_ffff_ffff_0000n)],
  ];
  it.each(external)('external data file: %s', (_name, damage) => {
    agree(damage(image('4M', `data_file=${path.join(folder, `${number}.data`)}`)));
  });

  it.each(extendedDamages)('extended L2: %s', (_name, damage) => {
    agree(damage(image('4M', 'extended_l2=on')));
  });

  it('bitmaps: directory, table and data damaged; autoclear bit cleared', () => {
    const make = (): Crafted => {
      const crafted = image();
      mustRun('qemu-img', ['bitmap', '--add', crafted.path, 'first', '-g', '64k']);
      mustRun('qemu-img', ['bitmap', '--add', crafted.path, 'second']);
      return crafted;
    };
    // The bitmaps extension is the second one; its data is found by its type.
    const extension = (c: Crafted): number => {
      let at = 112;
      while (c.get32(at) !== 0x23852875) at += 8 + Math.ceil(c.get32(at + 4) / 8) * 8;
      return at + 8;
    };
    const directory = (c: Crafted): number => Number(c.get(extension(c) + 16));
    const table = (c: Crafted): number => Number(c.get(directory(c)));
    agree(make());
    const cleared = make();
    agree(cleared.set(88, 0));
    const damages: ((c: Crafted) => Crafted)[] = [
      (c) => c.set32(extension(c), 3),
      (c) => c.set32(extension(c), 1),
      (c) => c.set(directory(c), 0x200),
      (c) => c.set(directory(c), 0),
      (c) => c.set32(directory(c) + 12, 0xff),
      (c) => c.set32(directory(c) + 20, 8),
      (c) => c.set(extension(c) + 8, c.get(extension(c) + 8) - 8n),
      (c) => c.set(table(c), 0x40001n),
      (c) => c.set(table(c), 2n),
    ];
    for (const damage of damages) {
      // qemu-img does not open such an image; ours opens it for the check and says where the damage is.
      const damaged = damage(make());
      expect(theirs(damaged.path).figures).toBeNull();
      const verdict = ours(damaged.path);
      expect(verdict.failure).toBe('Check failed: Invalid argument');
      expect(verdict.lines.at(-1)).toMatch(/^ERROR bitmap /);
    }
    const data = make();
    agree(data.set(table(data), BigInt(data.l2())));
    const outside = make();
    agree(outside.set(table(outside), 0x1_0000_0000n));
  });

  it('the LUKS header is counted', () => {
    const file = path.join(folder, 'luks.qcow2');
    const secret = ['--object', 'secret,id=s,data=x'];
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    // qemu-img measures the speed of the machine, and gives up when that is busy.
    const make = (): boolean =>
      runQemuImg(['create', '-q', '-f', 'qcow2', ...secret, '-o', options, file, '4M']).status === 0;
    expect(Array.from({ length: 20 }).some(make)).toBe(true);
    const mine = ours(file);
    const image = `driver=qcow2,file.filename=${file},encrypt.key-secret=s`;
    const child = runQemuImg(['check', '--output=json', ...secret, '--image-opts', image]);
    const other = JSON.parse(child.stdout) as Record<string, number>;
    expect(mine.lines).toEqual([]);
    expect(mine.figures?.['image-end-offset']).toBe(other['image-end-offset']);
  });

  it('random damage to the tables of an image with snapshots', () => {
    const seed = Number(process.env.CHECK_SEED ?? Date.now() % 1_000_000);
    let state = seed;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fff_ffff;
      return Math.floor((state / 0x8000_0000) * below);
    };
    const sound = image('6M', 'cluster_size=4k', ['write 0 300k', 'write -z 1M 100k', 'write 5M 100k']);
    mustRun('qemu-img', ['snapshot', '-c', 'snap', sound.path]);
    mustRun('qemu-io', ['-c', 'write 100k 50k', sound.path]);
    for (let round = 0; round < Number(process.env.CHECK_ROUNDS ?? 60); round++) {
      const file = path.join(folder, 'random.qcow2');
      fs.copyFileSync(sound.path, file);
      const crafted = new Crafted(file);
      const tables = [
        crafted.l1,
        crafted.l2(),
        crafted.l2(2),
        crafted.refcountTable,
        crafted.block(),
        crafted.snapshots,
      ];
      for (let change = 0; change <= random(4); change++) {
        const at = (tables[random(tables.length)] ?? 0) + 8 * random(40);
        const bit = 1n << BigInt(random(64));
        const kind = random(3);
        if (kind === 0) crafted.change(at, (e) => e ^ bit);
        else if (kind === 1) crafted.set(at, BigInt(random(crafted.length)) * 512n);
        else crafted.set(at, copied | BigInt(4096 * random(crafted.length / 4096 + 2)));
      }
      try {
        agree(crafted);
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${String(error)}`, { cause: error });
      }
    }
  });
});

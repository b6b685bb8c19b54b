// bitmap and convert --bitmaps beside qemu-img: text, flags, and the bits themselves as qemu-nbd shows them.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { parseArguments } from '../../cli/args.ts';
import { run, spec } from '../../cli/commands/bitmap.ts';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { SeededRandom } from '../seeded-random.ts';
import { sameAsQemuImg } from './transcripts.ts';

function create(folder: string, name: string, size: string, ...options: readonly string[]): string {
  const file = path.join(folder, name);
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, file, size]);
  return file;
}

function write(file: string, ...commands: readonly string[]): void {
  mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file]);
}

/** a.qcow2 with bitmaps on, off (4 KiB) and used; broken.qcow2 with one that was in use; v2.qcow2. */
function prepare(folder: string): void {
  const a = create(folder, 'a.qcow2', '10M');
  mustRun('qemu-img', ['bitmap', '--add', a, 'on']);
  mustRun('qemu-img', ['bitmap', '--add', '--disable', '-g', '4k', a, 'off']);
  mustRun('qemu-img', ['bitmap', '--add', '-g', '1M', a, 'used']);
  write(a, 'write 1M 70k', 'write 5M 4k');
  create(folder, 'v2.qcow2', '1M', '-o', 'compat=0.10');
  create(folder, 'other.qcow2', '20M');
  const broken = create(folder, 'broken.qcow2', '10M');
  for (const name of ['good', 'bad']) mustRun('qemu-img', ['bitmap', '--add', broken, name]);
  markInUse(broken, 'bad');
  mustRun('qemu-img', ['create', '-q', '-f', 'raw', path.join(folder, 'r.img'), '1M']);
}

/** Sets the in-use flag of a bitmap in the directory. */
function markInUse(file: string, name: string): void {
  const bytes = fs.readFileSync(file);
  const at = bytes.lastIndexOf(Buffer.from(name)) - 24;
  bytes.writeUInt32BE(bytes.readUInt32BE(at + 12) | 1, at + 12);
  fs.writeFileSync(file, bytes);
}

sameAsQemuImg('bitmap', {
  prepare,
  lines: [
    'bitmap --add a.qcow2 new => a.qcow2',
    'bitmap --add a.qcow2 new',
    'bitmap --add --disable --enable -g 1k a.qcow2 fine => a.qcow2',
    'bitmap --add --merge on --clear --merge off a.qcow2 several => a.qcow2',
    'bitmap --add --merge nope a.qcow2 stays => a.qcow2',
    "bitmap --add a.qcow2 ''",
    'bitmap --add -g 4G a.qcow2 c',
    'bitmap --add -g foo a.qcow2 c',
    'bitmap a.qcow2 c',
    'bitmap -g 64k --remove a.qcow2 c',
    'bitmap -F raw --add a.qcow2 c',
    'bitmap --add a.qcow2',
    'bitmap --remove a.qcow2 nope',
    'bitmap --add --merge on -b a.qcow2 -F qcow2 other.qcow2 x => other.qcow2',
    'bitmap --add --merge on -b missing a.qcow2 x',
    'bitmap --enable broken.qcow2 bad',
    'bitmap --merge bad broken.qcow2 good',
    'convert --bitmaps -O qcow2 broken.qcow2 copy',
    'convert --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 skipped => skipped',
    'convert --bitmaps -O qcow2 broken.qcow2 a.qcow2 copy',
    'bitmap --remove broken.qcow2 bad => broken.qcow2',
    'convert --bitmaps -O qcow2 a.qcow2 copy.qcow2 => copy.qcow2',
    'convert --bitmaps -O qcow2 -o cluster_size=4k -c a.qcow2 small.qcow2 => small.qcow2',
    'convert --bitmaps -O qcow2 r.img copy2.qcow2',
    'convert --bitmaps -O raw a.qcow2 copy2.raw',
    'convert --bitmaps -O qcow2 -o compat=0.10 a.qcow2 copy2.qcow2',
  ],
});

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

/** The stretches of the disk whose bits are set, as QEMU reads them. */
function dirty(file: string, name: string): [offset: number, length: number][] {
  const server = ['qemu-nbd', '-r', '-f', 'qcow2', '-B', name, file];
  const map = mustRun('nbdinfo', [`--map=qemu:dirty-bitmap:${name}`, '--json', '--', '[', ...server, ']']);
  const entries = JSON.parse(map) as MapEntry[];
  return entries.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
}

describeWith({ peers: ['qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo'] }, 'the bits of bitmaps', () => {
  const folder = scratchFolder('bitmaps');
  /** A command line of `bitmap`, without a process of its own. */
  const platter = async (...args: readonly string[]): Promise<void> => {
    expect(await run(parseArguments(spec, args))).toBe(0);
  };

  it('QEMU keeps up to date what we made, and reads what we merged, whatever the granularities', async () => {
    const random = new SeededRandom(Number(process.env.SEED ?? 4711));
    const file = create(folder, 'bits.qcow2', '600M', '-o', 'cluster_size=4k');
    for (const [name, size] of [
      ['k1', '1k'],
      ['k64', '64k'],
      ['m2', '2M'],
    ]) {
      await platter('--add', '-g', size ?? '', file, name ?? '');
    }
    const at = (): string => `write ${random.below(600 * 1024) * 1024} ${1 + random.below(40)}k`;
    write(file, 'write 0 1k', 'write 599M 1M', ...Array.from({ length: 30 }, at));
    fs.copyFileSync(file, path.join(folder, 'theirs.qcow2'));
    const merges = [
      ['k1', '64k'],
      ['k64', '1k'],
      ['m2', '8k'],
      ['k1', '1k'],
      ['k64', '2M'],
    ] as const;
    for (const [index, [from, size]] of merges.entries()) {
      const how = ['bitmap', '--add', '--disable', '--merge', from, '-g', size];
      await platter(...how.slice(1), file, `merged${index}`);
      expect(runQemuImg([...how, path.join(folder, 'theirs.qcow2'), `merged${index}`])).toMatchObject({ status: 0 });
      const found = dirty(file, `merged${index}`);
      expect(found).toEqual(dirty(path.join(folder, 'theirs.qcow2'), `merged${index}`));
      expect(found.length).toBeGreaterThan(0);
    }
    expect(runQemuImg(['check', file])).toMatchObject({ status: 0 });
    await platter('--clear', file, 'merged0');
    expect(dirty(file, 'merged0')).toEqual([]);
    expect(dirty(file, 'k1')).toEqual(dirty(path.join(folder, 'theirs.qcow2'), 'k1'));
    expect(runQemuImg(['check', file])).toMatchObject({ status: 0 });
  });

  it('goes into another image, by merge and by convert', async () => {
    const from = create(folder, 'from.qcow2', '64M');
    await platter('--add', from, 'b');
    write(from, 'write 3M 1M', 'write 60M 64k');
    const into = create(folder, 'into.qcow2', '64M', '-o', 'cluster_size=512');
    await platter('--add', '--merge', 'b', '-b', from, '-F', 'qcow2', '-g', '512', into, 'c');
    expect(dirty(into, 'c')).toEqual(dirty(from, 'b'));
    const copy = path.join(folder, 'copy.qcow2');
    expect(runPlatter(['convert', '--bitmaps', '-O', 'qcow2', from, copy])).toMatchObject({ status: 0 });
    expect(dirty(copy, 'b')).toEqual(dirty(from, 'b'));
    expect(runQemuImg(['check', into])).toMatchObject({ status: 0 });
    expect(runQemuImg(['check', copy])).toMatchObject({ status: 0 });
    expect(runQemuImg(['compare', from, copy])).toMatchObject({ status: 0 });
  });

  it('all ones in a table are bits like others', async () => {
    const file = create(folder, 'ones.qcow2', '5M');
    await platter('--add', '--disable', file, 'ones');
    const bytes = fs.readFileSync(file);
    const entryAt = bytes.lastIndexOf(Buffer.from('ones')) - 24;
    bytes.writeBigUInt64BE(1n, Number(bytes.readBigUInt64BE(entryAt)));
    fs.writeFileSync(file, bytes);
    await platter('--add', '--disable', '--merge', 'ones', '-g', '4k', file, 'copy');
    expect(dirty(file, 'copy')).toEqual([[0, 5 * 1024 * 1024]]);
    expect(runQemuImg(['check', file])).toMatchObject({ status: 0 });
  });

  it('what is given up is free again', async () => {
    const file = create(folder, 'free.qcow2', '64M');
    const before = fs.statSync(file).size;
    for (let round = 0; round < 3; round++) {
      await platter('--add', '-g', '512', file, 'x');
      write(file, 'write 0 1M');
      await platter('--clear', '--merge', 'x', '--disable', file, 'x');
      await platter('--remove', file, 'x');
      expect(runQemuImg(['check', file])).toMatchObject({ status: 0 });
    }
    expect(JSON.parse(mustRun('qemu-img', ['info', '--output=json', file]))).not.toHaveProperty(
      'format-specific.data.bitmaps',
    );
    expect(fs.statSync(file).size - before).toBeLessThan(3 * 1024 * 1024);
  });
});

// Images that qemu-img and qemu-io made: same content and same map; damaged tables are refused with their place.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readGuest, resolve } from '../../../../core/block/read.ts';
import type { BlockNode } from '../../../../core/block/node.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import { describeWith, mustRun, runPeer, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { SeededRandom, seedOf } from '../../../seeded-random.ts';
import { contentAt, withImage } from '../new-image.ts';
import { Crafted } from './crafted.ts';

const MiB = 1024 * 1024;
const size = 5 * MiB + 1536;

interface MapEntry {
  start: number;
  length: number;
  depth: number;
  zero: boolean;
  data: boolean;
  offset?: number;
}

/** The runs of a disk as `map --output=json` prints them: equal neighbours joined; what no layer stores belongs to the deepest. */
function mapOf(node: BlockNode): MapEntry[] {
  const entries: MapEntry[] = [];
  for (const run of resolve(node)) {
    const { mapping } = run;
    const base = { start: run.start, length: run.length, depth: run.depth };
    let next: MapEntry;
    if (mapping.kind === 'zero') {
      next = { ...base, zero: true, data: false };
      if (mapping.reserved !== undefined) next.offset = mapping.reserved.offset;
    } else if (mapping.kind === 'data') next = { ...base, zero: false, data: true, offset: mapping.offset };
    else next = { ...base, zero: false, data: true };
    const last = entries.at(-1);
    const follows =
      last !== undefined &&
      last.depth === next.depth &&
      last.zero === next.zero &&
      last.data === next.data &&
      (last.offset === undefined ? next.offset === undefined : last.offset + last.length === next.offset);
    if (follows) last.length += next.length;
    else entries.push(next);
  }
  return entries;
}

/** Random commands for qemu-io on a disk of `size` bytes. */
function commands(random: SeededRandom, plain: boolean, old: boolean): string[] {
  const list: string[] = [];
  for (let i = 0; i < 40; i++) {
    const start = random.below(size / 512) * 512;
    const length = Math.min(size - start, (1 + random.below(random.oneIn(4) ? 1000 : 60)) * 512);
    const kind = random.below(8);
    if (kind === 0 && !plain) list.push(`write -q -c -P ${1 + random.below(250)} ${start - (start % MiB)} 64k`);
    else if (kind === 1 && !old) list.push(`write -q -z ${start} ${length}`);
    else if (kind === 2 && !old) list.push(`write -q -z -u ${start} ${length}`);
    else if (kind === 3) list.push(`discard -q ${start} ${length}`);
    else list.push(`write -q -P ${1 + random.below(250)} ${start} ${length}`);
  }
  return list;
}

const layouts = [
  '',
  'compat=0.10,cluster_size=4k',
  'cluster_size=512',
  'cluster_size=1k,refcount_bits=1',
  'cluster_size=2M',
  'cluster_size=16k,extended_l2=on',
  'extended_l2=on',
  'compression_type=zstd',
  'lazy_refcounts=on,refcount_bits=64',
  'preallocation=metadata,cluster_size=4k',
  'data_file=data.raw,cluster_size=4k',
  'data_file=data.raw,data_file_raw=on',
  'data_file=data.raw,extended_l2=on',
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'reading what qemu wrote', () => {
  const folder = scratchFolder('qcow2-reading');
  const cwd = folder;
  const file = path.join(folder, 'image.qcow2');

  describe.each(layouts)('%s', (options) => {
    it.each([0, 2 * MiB + 512, 8 * MiB])('over a layer of %i bytes', (below) => {
      if (below > 0 && (options.includes('data_file_raw') || options === 'preallocation=metadata,cluster_size=4k'))
        return;
      const random = new SeededRandom(seedOf(options) + below);
      for (const name of ['image.qcow2', 'data.raw', 'expected']) fs.rmSync(path.join(folder, name), { force: true });
      const backing: string[] = [];
      if (below > 0) {
        fs.writeFileSync(path.join(folder, 'base'), positionCoded(0, below, 3));
        backing.push('-b', 'base', '-F', 'raw');
      }
      const stated = options === '' ? [] : ['-o', options];
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...stated, ...backing, file, String(size)], { cwd });
      const plain = options.includes('data_file');
      // A compressed write covers a cluster that is not there yet, and nothing else.
      const list = commands(
        random,
        plain || options.includes('2M') || options.includes('prealloc'),
        options.includes('0.10'),
      );
      // Some are refused: compressed data never goes over other data.
      runPeer('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...list.flatMap((command) => ['-c', command]), file], { cwd });
      const expected = path.join(folder, 'expected');
      mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file, expected], { cwd });
      expect(difference(contentAt(file), fs.readFileSync(expected))).toBeNull();
      if (options.includes('prealloc') || options.includes('data_file')) return; // there qemu-img looks at the holes of the file
      const map = JSON.parse(mustRun('qemu-img', ['map', '--output=json', '-f', 'qcow2', file], { cwd })) as MapEntry[];
      const seen = withImage(file, {}, mapOf).map(({ start, length, zero, data }) => ({ start, length, zero, data }));
      expect(flat(seen)).toEqual(flat(map));
      const offsets = (entries: MapEntry[]): MapEntry[] =>
        entries.filter((entry) => entry.data && entry.depth === 0 && entry.offset !== undefined);
      const ours = offsets(withImage(file, {}, mapOf)).map(({ start, offset }) => [start, offset]);
      expect(ours).toEqual(offsets(map).map(({ start, offset }) => [start, offset]));
    });
  });

  /** Neighbours that differ in depth or place only are one. */
  function flat(entries: readonly Omit<MapEntry, 'depth'>[]): unknown[] {
    const joined: { start: number; length: number; zero: boolean; data: boolean }[] = [];
    for (const { start, length, zero, data } of entries) {
      const last = joined.at(-1);
      if (last !== undefined && last.zero === zero && last.data === data) last.length += length;
      else joined.push({ start, length, zero, data });
    }
    return joined;
  }

  it('answers for an empty disk of 64 TiB at once', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', file, '64T']);
    expect(withImage(file, {}, (node) => [...resolve(node)].length)).toBe(1);
  });

  describe('damaged tables', () => {
    const l1 = 0x30000;
    const far = 590 * MiB;
    const damage: readonly [
      title: string,
      code: string,
      change: (image: Crafted, l2: number) => void,
      options?: string,
    ][] = [
      ['an L2 table between clusters', 'qcow2/l2-offset', (i, l2) => i.set(l1, l2 + 512)],
      ['an L2 table beyond the file', 'qcow2/table-beyond-file', (i) => i.set(l1, 1n << 40n)],
      ['reserved bits of an L1 entry', 'qcow2/reserved-bits', (i) => i.change(l1, (entry) => entry | 2n)],
      ['a cluster between clusters', 'qcow2/cluster-offset', (i, l2) => i.change(l2, (entry) => entry + 512n)],
      ['a cluster beyond the file', 'qcow2/cluster-beyond-file', (i, l2) => i.set(l2, 1n << 40n)],
      ['reserved bits of an L2 entry', 'qcow2/reserved-bits', (i, l2) => i.change(l2, (entry) => entry | (1n << 60n))],
      ['a zero cluster in version 2', 'qcow2/zero-in-v2', (i, l2) => i.set(l2, 1), 'compat=0.10'],
      [
        'a reserved zero cluster in version 2',
        'qcow2/zero-in-v2',
        (i, l2) => i.change(l2, (entry) => entry | 1n),
        'compat=0.10',
      ],
      [
        'subclusters that are both',
        'qcow2/subcluster-bits',
        (i, l2) => i.set(l2 + 8, (1n << 32n) | 1n),
        'extended_l2=on',
      ],
      ['subclusters of no cluster', 'qcow2/subcluster-bits', (i, l2) => i.set(l2, 0).set(l2 + 8, 1), 'extended_l2=on'],
      [
        'a compressed cluster beyond the file',
        'qcow2/cluster-beyond-file',
        (i, l2) => i.set(l2, (1n << 62n) | (1n << 40n)),
      ],
      ['a compressed cluster of noise', 'packed/damaged', (i, l2) => i.set(l2, (1n << 62n) | 0x50000n)],
      [
        'a compressed cluster beside a data file',
        'qcow2/packed-external',
        (i, l2) => i.set(l2, 1n << 62n),
        'data_file=data.raw',
      ],
      [
        'a cluster elsewhere in a data file',
        'qcow2/external-offset',
        (i, l2) => i.set(l2, (1n << 63n) | 0x10000n),
        'data_file=data.raw',
      ],
    ];
    it.each(damage)('%s', (_title, code, change, options = '') => {
      for (const name of ['image.qcow2', 'data.raw']) fs.rmSync(path.join(folder, name), { force: true });
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), file, '4M'], {
        cwd,
      });
      mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 5 0 128k', file], { cwd });
      const image = new Crafted(file);
      const l2 = Number(image.get(l1) & 0xff_ffff_ffff_fe00n);
      change(image, l2);
      let found: unknown = null;
      try {
        withImage(file, {}, (node) => readGuest(node, new Uint8Array(128 * 1024), 0));
      } catch (error) {
        found = error;
      }
      expect(found).toBeInstanceOf(ImageError);
      const error = found as ImageError;
      expect(error.code).toBe(code);
      expect(error.where.file).toBe(file);
      expect(error.where.field ?? error.where.offset).toBeDefined();
      // What lies under another L2 table can still be read.
      expect(withImage(file, {}, (node) => node.map({ start: far, length: 512 }).kind)).toBe('zero');
      const peer = runQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', file, path.join(folder, 'out')], { cwd });
      if (
        [
          'qcow2/l2-offset',
          'qcow2/cluster-offset',
          'qcow2/zero-in-v2',
          'qcow2/subcluster-bits',
          'qcow2/packed-external',
          'qcow2/external-offset',
        ].includes(code)
      ) {
        expect(peer.stderr).toContain(error.message.replace(/\)$/, ''));
      }
    });
  });

  it('tells of encrypted images what the header says, and refuses their data by name', () => {
    const secret = ['--object', 'secret,id=s,data=secret'];
    for (const format of ['aes', 'luks']) {
      const options = `encrypt.format=${format},encrypt.key-secret=s${format === 'luks' ? ',encrypt.iter-time=50' : ''}`;
      const create = ['create', '-q', '-f', 'qcow2', ...secret, '-o', options, file, '4M'];
      // On a busy machine qemu-img cannot tell how fast it is, and gives up.
      let made = runQemuImg(create);
      for (let tries = 0; tries < 20 && made.stderr.includes('CPU usage'); tries++) made = runQemuImg(create);
      expect(made.status, made.stderr).toBe(0);
      withImage(file, { guestData: false }, (node) => {
        expect(node.size).toBe(4 * MiB);
        expect(() => node.map({ start: 0, length: 512 })).toThrow(expect.objectContaining({ code: 'qcow2/encrypted' }));
      });
    }
  });
});

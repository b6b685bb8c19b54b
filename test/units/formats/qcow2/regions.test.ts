// Regions of qcow2 files: every byte once, in agreement with what qemu-img maps and leaks, with entries in words.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { Region } from '../../../../core/formats/driver.ts';
import { qcow2Regions } from '../../../../core/formats/qcow2/regions.ts';
import { Qcow2State } from '../../../../core/formats/qcow2/state.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { Crafted } from './crafted.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-regions-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let number = 0;
const fresh = (): string => path.join(folder, `${number++}.qcow2`);
const writes = ['write 0 192k', 'write 1M 64k', 'write -z 2M 64k', 'write 3M 100k'];

function withState<T>(file: string, use: (state: Qcow2State) => T, dataFile: string | null = null): T {
  const storage = openFile(file, { writable: false, lock: 'none' });
  const data = dataFile === null ? null : openFile(dataFile, { writable: false, lock: 'none' });
  try {
    const state = new Qcow2State(storage, { writable: false, forRepair: true });
    state.dataFile = data;
    return use(state);
  } finally {
    storage.close();
    data?.close();
  }
}

/** The regions, which must cover the file without gap or overlap. */
function tiles(regions: Iterable<Region>, size: number): Region[] {
  const all = [...regions];
  let at = 0;
  for (const region of all) {
    expect(region.start, region.label).toBe(at);
    expect(region.length, region.label).toBeGreaterThan(0);
    at += region.length;
  }
  expect(at).toBe(size);
  return all;
}

function regionsOf(file: string): Region[] {
  return withState(file, (state) => tiles(qcow2Regions(state), state.storage.size));
}

interface MapRow {
  readonly offset?: number;
  readonly length: number;
  readonly data: boolean;
  readonly depth: number;
}

function mapOf(file: string): MapRow[] {
  return JSON.parse(mustRun('qemu-img', ['map', '--output=json', '-f', 'qcow2', file])) as MapRow[];
}

/** How many bytes of a stretch lie in regions with this label. */
function covered(regions: readonly Region[], label: string, start: number, length: number): number {
  return regions
    .filter((region) => region.label === label)
    .map((region) => Math.min(region.start + region.length, start + length) - Math.max(region.start, start))
    .filter((common) => common > 0)
    .reduce((sum, common) => sum + common, 0);
}

const total = (regions: readonly Region[], label: string): number =>
  regions.filter((region) => region.label === label).reduce((sum, { length }) => sum + length, 0);

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'regions of qcow2', () => {
  const settings: [string, string][] = [
    ['defaults', ''],
    ['version 2', 'compat=0.10'],
    ['512-byte clusters', 'cluster_size=512'],
    ['4 KiB clusters, 1-bit refcounts', 'cluster_size=4k,refcount_bits=1'],
    ['2 MiB clusters', 'cluster_size=2M'],
    ['extended L2', 'extended_l2=on'],
    ['metadata preallocated', 'preallocation=metadata'],
  ];
  it.each(settings)('%s: data lies where qemu-img maps it, nothing is lost', (_name, options) => {
    const { path: file, length } = Crafted.create(fresh(), '5000001', options, writes);
    const regions = regionsOf(file);
    expect(length).toBe(fs.statSync(file).size);
    for (const { offset, length: mapped, data, depth } of mapOf(file)) {
      if (offset === undefined || depth !== 0) continue;
      const label = data ? 'data clusters' : 'space set aside, reads as zeroes';
      const shared = covered(regions, label, offset, mapped);
      // A cluster with subclusters of both kinds counts as data.
      if (options !== 'extended_l2=on') expect(shared, `${offset}+${mapped}`).toBe(Math.min(mapped, length - offset));
    }
    expect(regions.filter(({ label }) => label.startsWith('lost'))).toEqual([]);
    expect(regions[0]).toMatchObject({ label: 'header', kind: 'header' });
    for (const label of ['L1 table', 'refcount table', 'refcount blocks', 'L2 tables']) {
      expect(regions.map((region) => region.label)).toContain(label);
    }
  });

  it('names header extensions, the backing file, bitmaps, snapshots', () => {
    const base = fresh();
    Crafted.create(base, '4M');
    const file = fresh();
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', file]);
    mustRun('qemu-io', ['-c', 'write 0 100k', file]);
    mustRun('qemu-img', ['snapshot', '-c', 'before', file]);
    mustRun('qemu-io', ['-c', 'write 0 30k', file]);
    mustRun('qemu-img', ['bitmap', '--add', file, 'changes']);
    mustRun('qemu-io', ['-c', 'write 2M 30k', file]);
    const regions = regionsOf(file);
    expect(regions.map(({ label }) => label)).toEqual(
      expect.arrayContaining([
        'header',
        'backing file format',
        'feature name table',
        'bitmaps extension',
        'end of header extensions',
        'backing file name',
        'snapshot table',
        'L1 table of snapshot 1',
        'bitmap directory',
        'table of bitmap "changes"',
        'data clusters of snapshots',
      ]),
    );
    const words = (label: string): string => readWords(file, label);
    expect(words('backing file name')).toContain(JSON.stringify(base));
    expect(words('snapshot table')).toContain('name = "before"');
    expect(words('bitmap directory')).toContain('name = "changes"');
    expect(words('bitmaps extension')).toContain('nb_bitmaps = 1');
    expect(words('header')).toContain('nb_snapshots = 1');
    expect(words('table of bitmap "changes"')).toMatch(/entry 0 = (bits at 0x|all zeroes)/);
  });

  function readWords(file: string, label: string): string {
    return withState(file, (state) =>
      [...qcow2Regions(state)]
        .filter((region) => region.label === label)
        .flatMap((region) => region.annotate(region))
        .map(({ field, value, fault }) => `${field} = ${value}${fault === null ? '' : ` (${fault})`}`)
        .join('\n'),
    );
  }

  it('leaked clusters are lost, clusters behind them free', () => {
    const crafted = Crafted.create(fresh(), '4M', '', writes);
    crafted.set(crafted.l2(), 0).truncate(crafted.length + 3 * 65536);
    const child = runQemuImg(['check', '--output=json', crafted.path]);
    const { leaks } = JSON.parse(child.stdout) as { leaks: number };
    const regions = regionsOf(crafted.path);
    expect(total(regions, 'lost clusters, referenced by nothing')).toBe(leaks * 65536);
    expect(total(regions, 'free clusters')).toBe(3 * 65536);
  });

  it('entries in words, with what is wrong with them', () => {
    const crafted = Crafted.create(fresh(), '4M', '', writes);
    crafted.set(crafted.l2() + 8 * 40, 0x4000_0000_0005_0123n).set(crafted.l2() + 8 * 41, 0x8000_0000_0005_0200n);
    const l2 = readWords(crafted.path, 'L2 tables').split('\n');
    expect(l2[0]).toBe('entry 0 = data at 0x50000, copied');
    expect(l2[3]).toBe('entry 3 = unallocated');
    expect(l2[32]).toBe('entry 32 = reads as zeroes');
    expect(l2[40]).toBe('entry 40 = compressed, at most 221 bytes at 0x50123');
    expect(l2[41]).toBe('entry 41 = data at 0x50200, copied (the offset is not that of a cluster)');
    expect(readWords(crafted.path, 'L1 table')).toBe('entry 0 = L2 table at 0x40000, copied');
    expect(readWords(crafted.path, 'refcount table').split('\n')[0]).toBe('entry 0 = refcount block at 0x20000');
    expect(readWords(crafted.path, 'refcount blocks').split('\n')[7]).toBe('cluster 7 = 1');
    const extended = Crafted.create(fresh(), '4M', 'extended_l2=on', ['write 64k 4k']);
    expect(readWords(extended.path, 'L2 tables').split('\n').slice(2, 4)).toEqual([
      'entry 1 = data at 0x50000, copied',
      'entry 1 subclusters = allocated: 3, zero: none',
    ]);
  });

  it('annotates only the window asked for', () => {
    const crafted = Crafted.create(fresh(), '4M', '', writes);
    withState(crafted.path, (state) => {
      for (const region of qcow2Regions(state)) {
        const window = { start: region.start + 20, length: 30 };
        for (const { start, length } of region.annotate(window)) {
          expect(start < window.start + window.length && start + length > window.start, region.label).toBe(true);
        }
        expect(region.annotate({ start: region.start + region.length, length: 100 })).toEqual([]);
      }
    });
  });

  it('external data files: the file has tables, the data file the data', () => {
    const data = path.join(folder, 'disk.data');
    const { path: file } = Crafted.create(fresh(), '4M', `data_file=${data}`, writes);
    const regions = regionsOf(file);
    expect(regions.map(({ kind }) => kind)).not.toContain('data');
    withState(
      file,
      (state) => {
        const mapped = tiles(qcow2Regions(state, 'data-file'), state.data.size);
        expect(covered(mapped, 'data clusters', 0, 192 * 1024)).toBe(192 * 1024);
        expect(covered(mapped, 'clusters that nothing maps', 4 * 65536, 65536)).toBe(65536);
      },
      data,
    );
  });

  it('cover damaged files too', () => {
    let seed = Number(process.env.REGIONS_SEED ?? 20261121);
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
      return Math.floor((seed / 0x8000_0000) * below);
    };
    const sound = Crafted.create(fresh(), '6M', 'cluster_size=4k', [
      'write 0 300k',
      'write -z 1M 100k',
      'write 5M 100k',
    ]);
    mustRun('qemu-img', ['snapshot', '-c', 'snap', sound.path]);
    mustRun('qemu-io', ['-c', 'write 100k 50k', sound.path]);
    let covering = 0;
    for (let round = 0; round < 300; round++) {
      const file = path.join(folder, 'random.qcow2');
      fs.copyFileSync(sound.path, file);
      const crafted = new Crafted(file);
      const tables = [
        0,
        crafted.l1,
        crafted.l2(),
        crafted.l2(2),
        crafted.refcountTable,
        crafted.block(),
        crafted.snapshots,
      ];
      for (let change = 0; change <= random(4); change++) {
        const at = (tables[random(tables.length)] ?? 0) + 8 * random(16);
        const bit = 1n << BigInt(random(64));
        if (random(2) === 0) crafted.change(at, (e) => e ^ bit);
        else crafted.set(at, BigInt(random(crafted.length)) * 512n);
      }
      try {
        regionsOf(file);
        withState(file, (state) => {
          for (const region of qcow2Regions(state)) region.annotate({ start: region.start, length: 4096 });
        });
        covering++;
      } catch (error) {
        if (!isImageError(error)) throw error;
      }
    }
    expect(covering).toBeGreaterThan(150);
  });
});

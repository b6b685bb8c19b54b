// The cluster map against qemu-img: totals of every format, single cells, details, entries that own a place, damaged images.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openImage } from '../../../core/formats/open.ts';
import type { MapLayer } from '../../../core/workbench/map/classes.ts';
import { ImageMap } from '../../../core/workbench/map/image-map.ts';
import type { Tile } from '../../../core/workbench/map/tile.ts';
import { describeWith } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface Opened {
  readonly map: ImageMap;
  readonly size: number;
  readonly files: readonly { readonly role: string; readonly size: number }[];
  readonly close: () => void;
}

function open(file: string): Opened {
  const { node, driver } = openImage(file, { share: true });
  let depth = 1;
  for (let below = node.backing; below !== null; below = below.backing) depth++;
  return {
    map: new ImageMap(node, driver, depth),
    size: node.size,
    files: node.files.map(({ role, storage }) => ({ role, size: storage.size })),
    close: () => node.close(),
  };
}

/** Asked again until it is refined, as a window does. */
function refined(
  map: ImageMap,
  view: string,
  layer: MapLayer,
  request: { level: number; first: number; cells: number },
): Tile {
  for (let count = 0; count < 200; count++) {
    const tile = map.tile(view, layer, request);
    if (tile.refined) return tile;
  }
  throw new Error('the map is never refined');
}

const total = (tile: Tile, ...classes: string[]): number =>
  classes.reduce((sum, name) => sum + (tile.totals[tile.classes.indexOf(name)] ?? 0), 0);
const share = (tile: Tile, name: string, cell: number): number =>
  tile.shares[(tile.classes.indexOf(name) * tile.shares.length) / tile.classes.length + cell] ?? 0;

interface QemuEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

function qemuMap(file: string): QemuEntry[] {
  const cwd = path.dirname(file);
  return JSON.parse(execFileSync('qemu-img', ['map', '--output=json', file], { cwd, encoding: 'utf8' })) as QemuEntry[];
}

const sum = (entries: readonly QemuEntry[], test: (entry: QemuEntry) => boolean): number =>
  entries.filter(test).reduce((bytes, { length }) => bytes + length, 0);

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'the cluster map of images that qemu-img made', () => {
  const folder = scratchFolder('map');
  const file = (name: string): string => path.join(folder, name);
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
  const qemuIo = (format: string, name: string, ...commands: string[]): void =>
    void execFileSync('qemu-io', ['-f', format, ...commands.flatMap((one) => ['-c', one]), name], { cwd: folder });

  /** Formats by the name of `qemu-img create -f`, with options; those that map shows data of as they are. */
  const formats = [
    ['raw', 'plain.raw', []],
    ['qcow2', 'plain.qcow2', []],
    ['qcow2', 'small.qcow2', ['-o', 'cluster_size=4k']],
    ['qcow2', 'sub.qcow2', ['-o', 'extended_l2=on']],
    ['qcow2', 'ahead.qcow2', ['-o', 'preallocation=metadata']],
    ['qcow2', 'two.qcow2', ['-o', 'data_file=two.data']],
    ['qcow', 'plain.qcow', []],
    ['vmdk', 'plain.vmdk', []],
    ['vmdk', 'split.vmdk', ['-o', 'subformat=twoGbMaxExtentSparse']],
    ['vdi', 'plain.vdi', []],
    ['vpc', 'plain.vhd', []],
    ['vhdx', 'plain.vhdx', []],
    ['qed', 'plain.qed', []],
  ] as const;

  beforeAll(() => {
    for (const [format, name, options] of formats) {
      qemuImg('create', '-q', '-f', format, ...options, name, '64M');
      qemuIo(format, name, 'write -P 1 0 1M', 'write -P 2 5M 300k', 'write -P 3 40M 8M', 'write -P 4 63M 64k');
    }
  });

  it.each(formats)('%s %s: totals equal qemu-img map', (format, name) => {
    const { map, size, close } = open(file(name));
    const tile = refined(map, 'guest', 'state', { level: 20, first: 0, cells: 1 });
    const entries = qemuMap(file(name));
    // qemu-img does not look into a VHDX and calls all of it data: there it is the three blocks of 8 MiB that were written to.
    const stored = format === 'vhdx' ? 24 * MiB : sum(entries, ({ data, zero }) => data && !zero);
    expect(total(tile, 'data')).toBe(stored);
    expect(total(tile, 'zero', 'reserved', 'unallocated')).toBe(size - stored);
    expect(total(tile, 'unreadable')).toBe(0);
    expect(tile).toMatchObject({ surveyed: size, fault: null });
    if (format === 'qcow2') {
      // What is stored, by the file's order: the same bytes.
      const order = refined(map, 'guest', 'order', { level: 20, first: 0, cells: 1 });
      expect(total(order, ...order.classes.filter((one) => one.startsWith('part-')))).toBe(stored);
      const extents = refined(map, 'guest', 'extents', { level: 20, first: 0, cells: 1 });
      expect(total(extents, 'scattered', 'short', 'medium', 'long')).toBe(stored);
    }
    close();
  });

  it.each(formats)('%s %s: the files are told apart to the last byte', (_, name) => {
    const { map, files, close } = open(file(name));
    for (const { role, size } of files) {
      const tile = refined(map, role, 'kinds', { level: 30, first: 0, cells: 1 });
      expect(tile.totals.reduce((bytes, one) => bytes + one, 0)).toBe(size);
      expect(tile.shares.reduce((bytes, one) => bytes + one, 0)).toBeGreaterThanOrEqual(254);
    }
    close();
  });

  it('cells of every level are what qemu-img says of their bytes', () => {
    const { map, size, close } = open(file('plain.qcow2'));
    const unit = map.unitOf('guest');
    expect(unit).toBe(64 * KiB);
    const entries = qemuMap(file('plain.qcow2'));
    for (const level of [0, 1, 3, 5, 10]) {
      const bytes = unit * 2 ** level;
      const cells = Math.ceil(size / bytes);
      const tile = refined(map, 'guest', 'state', { level, first: 0, cells });
      for (let cell = 0; cell < cells; cell++) {
        const [from, to] = [cell * bytes, Math.min(size, (cell + 1) * bytes)];
        const stored = entries
          .filter(({ data, zero }) => data && !zero)
          .reduce(
            (part, one) => part + Math.max(0, Math.min(to, one.start + one.length) - Math.max(from, one.start)),
            0,
          );
        expect(share(tile, 'data', cell)).toBe(
          stored === 0 ? 0 : Math.max(1, Math.round((255 * stored) / (to - from))),
        );
      }
    }
    close();
  });

  it('says which image of a chain supplies a place, and how much each does', () => {
    let below = 'plain.qcow2';
    for (const [index, at] of [0, 8, 16, 24].entries()) {
      const name = `layer${index}.qcow2`;
      qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', name);
      qemuIo('qcow2', name, `write -P 9 ${at}M 2M`, `write -z 41M ${64 * (index + 1)}k`);
      below = name;
    }
    const { map, close } = open(file(below));
    const tile = refined(map, 'guest', 'depth', { level: 0, first: 0, cells: 1024 });
    const entries = qemuMap(file(below));
    expect(tile.classes.filter((one) => one.startsWith('depth-'))).toHaveLength(5);
    for (let depth = 0; depth < 5; depth++) {
      expect(total(tile, `depth-${depth}`)).toBe(sum(entries, (one) => one.depth === depth && one.present));
    }
    expect(map.describe('guest', 9 * MiB)).toMatchObject({ kind: 'below', depth: 2, image: file('layer1.qcow2') });
    expect(map.describe('guest', 24 * MiB)).toMatchObject({ kind: 'data', depth: 0, stored: { role: 'file' } });
    expect(map.describe('guest', 41 * MiB)).toMatchObject({ kind: 'zero', depth: 0 });
    close();
  });

  it('places are where qemu-img says, and the entry that owns one holds that place', () => {
    for (const [format, name] of formats) {
      const { map, files, close } = open(file(name));
      const entry = qemuMap(file(name)).find(({ start, length }) => start <= 44 * MiB && 44 * MiB < start + length);
      const place = map.describe('guest', 44 * MiB);
      const offset = (entry?.offset ?? Number.NaN) + 44 * MiB - (entry?.start ?? 0);
      // qemu-img tells no places in a VHDX.
      if (format === 'vhdx') expect(place).toMatchObject({ kind: 'data', stored: { role: 'file' } });
      else expect(place, name).toMatchObject({ kind: 'data', stored: { offset } });
      const tables = place.entries.length;
      expect(tables, name).toBe(format === 'raw' ? 0 : ['vpc', 'vdi', 'vhdx'].includes(format) ? 1 : 2);
      const last = place.entries.at(-1);
      if (last !== undefined && ['qcow2', 'qcow', 'qed'].includes(format)) {
        expect(files.map(({ role }) => role)).toContain(last.role);
        const bytes = Buffer.alloc(8);
        const descriptor = fs.openSync(file(name), 'r');
        fs.readSync(descriptor, bytes, 0, 8, last.offset);
        fs.closeSync(descriptor);
        const word = format === 'qed' ? bytes.readBigUInt64LE() : bytes.readBigUInt64BE();
        const cluster = Number(word & 0x00ff_ffff_ffff_fe00n);
        expect(offset - cluster, name).toBeGreaterThanOrEqual(0);
        expect(offset - cluster, name).toBeLessThan(64 * KiB);
      }
      close();
    }
  });

  it('tells clusters that a snapshot shares, and compressed ones', () => {
    qemuImg('convert', '-O', 'qcow2', 'plain.qcow2', 'snap.qcow2');
    qemuImg('snapshot', '-c', 'one', 'snap.qcow2');
    qemuIo('qcow2', 'snap.qcow2', 'write -P 7 40M 1M');
    const snap = open(file('snap.qcow2'));
    const tile = refined(snap.map, 'guest', 'shared', { level: 0, first: 0, cells: 1024 });
    const stored = sum(qemuMap(file('snap.qcow2')), ({ data, zero }) => data && !zero);
    expect({ own: total(tile, 'own'), shared: total(tile, 'shared') }).toEqual({ own: MiB, shared: stored - MiB });
    const kept = refined(snap.map, 'file', 'kinds', { level: 0, first: 0, cells: 1024 });
    expect(total(kept, 'snapshot-data')).toBe(MiB);
    const host = snap.map.describe('guest', 45 * MiB).stored?.offset ?? 0;
    expect(snap.map.describe('file', host).entries.at(-1)).toMatchObject({ structure: 'refcount block', value: '2' });
    snap.close();
    qemuImg('convert', '-c', '-O', 'qcow2', 'plain.qcow2', 'packed.qcow2');
    const packed = open(file('packed.qcow2'));
    const state = refined(packed.map, 'guest', 'state', { level: 0, first: 0, cells: 1024 });
    expect(total(state, 'packed')).toBe(sum(qemuMap(file('packed.qcow2')), ({ data, zero }) => data && !zero));
    packed.close();
  });

  it('a damaged table spoils only what it maps', () => {
    fs.copyFileSync(file('small.qcow2'), file('torn.qcow2'));
    const { map: whole, close: closeWhole } = open(file('small.qcow2'));
    const [l1, l2] = whole.describe('guest', 41 * MiB).entries;
    closeWhole();
    const descriptor = fs.openSync(file('torn.qcow2'), 'r+');
    // One entry of an L2 table points into the middle of a cluster; one L1 entry to no table at all.
    fs.writeSync(descriptor, Buffer.from('8000000000000200', 'hex'), 0, 8, l2?.offset);
    fs.writeSync(descriptor, Buffer.from('8000000000000200', 'hex'), 0, 8, (l1?.offset ?? 0) - 2 * 8);
    fs.closeSync(descriptor);
    const { map, size, close } = open(file('torn.qcow2'));
    const tile = refined(map, 'guest', 'state', { level: 0, first: 0, cells: 16384 });
    // 4 KiB clusters: 512 entries of 4 KiB for one table.
    expect(total(tile, 'unreadable')).toBe(2 * MiB + 4 * KiB);
    expect(tile.totals.reduce((bytes, one) => bytes + one, 0)).toBe(size);
    expect(tile.fault).toMatchObject({ code: 'qcow2/l2-offset' });
    expect(share(tile, 'unreadable', (41 * MiB) / (4 * KiB))).toBe(255);
    expect(share(tile, 'data', (41 * MiB) / (4 * KiB) + 1)).toBe(255);
    const place = map.describe('guest', 41 * MiB);
    expect(place).toMatchObject({ kind: 'unreadable', entries: [{}, { offset: l2?.offset }] });
    expect(place.fault?.text).toContain('unaligned');
    close();
  });

  it('is there at once and gets finer, on a disk with more clusters than one answer walks over', () => {
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', 'full.qcow2', '256G');
    const { map, size, close } = open(file('full.qcow2'));
    const first = map.tile('guest', 'state', { level: 8, first: 0, cells: 16384 });
    const shown = Array.from({ length: 16384 }, (_, cell) =>
      first.classes.reduce((most, name) => Math.max(most, share(first, name, cell)), 0),
    );
    expect(shown.every((one) => one > 0)).toBe(true);
    const tile = refined(map, 'guest', 'state', { level: 8, first: 0, cells: 16384 });
    expect(tile.totals.reduce((bytes, one) => bytes + one, 0)).toBe(size);
    const detail = refined(map, 'guest', 'state', { level: 0, first: 1_000_000, cells: 4096 });
    expect(share(detail, 'data', 5) + share(detail, 'reserved', 5)).toBe(255);
    close();
  });
});

describe('the cells of the map', () => {
  it('end where the disk ends: what is asked beyond is empty', () => {
    const folder = scratchFolder('map-end');
    const file = path.join(folder, 'odd.raw');
    fs.writeFileSync(file, Buffer.alloc(10 * KiB + 512, 1));
    const { map, close } = open(file);
    const tile = map.tile('guest', 'state', { level: 0, first: 0, cells: 8 });
    expect([...tile.shares.subarray(0, 8)]).toEqual([255, 255, 255, 0, 0, 0, 0, 0]);
    expect(map.tile('guest', 'state', { level: 0, first: 1e9, cells: 4 }).refined).toBe(true);
    expect(() => map.describe('guest', 10 * KiB + 512)).toThrow('outside');
    close();
  });
});

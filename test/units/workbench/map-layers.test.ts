// Layers of the cluster map that need more than the mapping: counts, pieces of a file, disks in snapshots, findings on the disk;
// against refcounts and tables that the test reads from the file by itself, and against qemu-img.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openImage } from '../../../core/formats/open.ts';
import { guestPlaces, type GuestStretch } from '../../../core/workbench/images/guest-places.ts';
import type { MapLayer } from '../../../core/workbench/map/classes.ts';
import { ImageMap } from '../../../core/workbench/map/image-map.ts';
import type { Tile } from '../../../core/workbench/map/tile.ts';
import { describeWith } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const cluster = 64 * KiB;

/** The words of a file, as the specification lays them out: no reader of ours is asked. */
class Plain {
  readonly bytes: Buffer;

  constructor(file: string) {
    this.bytes = fs.readFileSync(file);
  }

  word(at: number): number {
    return Number(this.bytes.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
  }

  get clusters(): number {
    return Math.ceil(this.bytes.length / cluster);
  }

  /** Refcounts of 16 bits. */
  refcount(host: number): number {
    const perBlock = cluster / 2;
    const block = this.word(this.word(48) + Math.floor(host / perBlock) * 8);
    return block === 0 ? 0 : this.bytes.readUInt16BE(block + (host % perBlock) * 2);
  }

  /** Where the entry of a cluster of the disk stands, and the host offset in it. */
  entry(l1: number, guest: number): { at: number; host: number } {
    const at = this.word(l1 + Math.floor(guest / (cluster / 8)) * 8) + (guest % (cluster / 8)) * 8;
    return { at, host: this.word(at) };
  }
}

const total = (tile: Tile, name: string): number => tile.totals[tile.classes.indexOf(name)] ?? 0;
const share = (tile: Tile, name: string, cell: number): number =>
  tile.shares[(tile.classes.indexOf(name) * tile.shares.length) / tile.classes.length + cell] ?? 0;
const classAt = (tile: Tile, cell: number): string | undefined =>
  tile.classes.find((name) => share(tile, name, cell) === 255);

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'layers of the cluster map', () => {
  const folder = scratchFolder('map-layers');
  const file = (name: string): string => path.join(folder, name);
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
  const qemuIo = (name: string, ...commands: string[]): void =>
    void execFileSync('qemu-io', [...commands.flatMap((one) => ['-c', one]), name], { cwd: folder });

  function withMap<Result>(
    name: string,
    look: (map: ImageMap, ask: (view: string, layer: MapLayer, cells?: number, level?: number) => Tile) => Result,
  ): Result {
    const { node, driver } = openImage(file(name), { share: true });
    const map = new ImageMap(node, driver, 1);
    const ask = (view: string, layer: MapLayer, cells = 4096, level = 0): Tile => {
      for (let count = 0; count < 100; count++) {
        const tile = map.tile(view, layer, { level, first: 0, cells });
        if (tile.refined) return tile;
      }
      throw new Error('the map is never refined');
    };
    try {
      return look(map, ask);
    } finally {
      node.close();
    }
  }

  beforeAll(() => {
    qemuImg('create', '-q', '-f', 'qcow2', 'snap.qcow2', '64M');
    qemuIo('snap.qcow2', 'write -P 1 0 8M', 'write -P 2 40M 1M');
    qemuImg('snapshot', '-c', 'first', 'snap.qcow2');
    qemuIo('snap.qcow2', 'write -P 3 0 1M', 'write -P 4 20M 2M', 'discard 40M 512k');
    qemuImg('snapshot', '-c', 'second', 'snap.qcow2');
    for (const [index, name] of ['third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth'].entries()) {
      qemuImg('snapshot', '-c', name, 'snap.qcow2');
      qemuIo('snap.qcow2', `write -P 6 ${3 + index}M 128k`);
    }
    qemuIo('snap.qcow2', 'write -P 5 2M 64k');
  });

  it('counts every cluster of the file as its refcount blocks do', () => {
    const plain = new Plain(file('snap.qcow2'));
    const words = (count: number): string =>
      count < 4 ? `count-${count}` : count < 8 ? 'count-4' : count < 16 ? 'count-8' : 'count-16';
    const expected = Array.from({ length: plain.clusters }, (_, host) => words(plain.refcount(host)));
    // The snapshots make counts of several classes.
    expect(new Set(expected).size).toBeGreaterThanOrEqual(4);
    withMap('snap.qcow2', (map, ask) => {
      expect(map.layersOf('file')).toEqual(['kinds', 'counts', 'pieces']);
      expect(map.unitOf('file')).toBe(cluster);
      const tile = ask('file', 'counts');
      expect(expected.map((_, host) => classAt(tile, host))).toEqual(expected);
      for (const name of tile.classes) {
        const clusters = expected.filter((one) => one === name).length;
        const tail = name === expected.at(-1) ? plain.clusters * cluster - plain.bytes.length : 0;
        expect(total(tile, name), name).toBe(clusters * cluster - tail);
      }
      // The same, seen from further away.
      const far = ask('file', 'counts', 1, 20);
      expect(far.totals).toEqual(tile.totals);
      const { at: entry, host } = plain.entry(plain.word(40), 64);
      expect(map.describe('file', host)).toMatchObject({ count: plain.refcount(host / cluster) });
      expect(map.describe('file', entry)).toMatchObject({ count: plain.refcount(Math.floor(entry / cluster)) });
      expect(map.describe('guest', 64 * cluster)).toMatchObject({ count: plain.refcount(host / cluster) });
    });
  });

  it('shows the disk as it was in a snapshot, and what of it others have too', () => {
    qemuImg('convert', '-O', 'raw', '-l', 'first', 'snap.qcow2', 'first.raw');
    const raw = fs.readFileSync(file('first.raw'));
    const plain = new Plain(file('snap.qcow2'));
    const l1 = Number(plain.bytes.readBigUInt64BE(plain.word(64)));
    withMap('snap.qcow2', (map, ask) => {
      expect(map.layersOf('guest')).toEqual(['state', 'extents', 'order', 'shared']);
      const then = ask('snapshot:1', 'state', 1024);
      const now = ask('guest', 'state', 1024);
      const shared = ask('snapshot:1', 'shared', 1024);
      for (let guest = 0; guest < 1024; guest++) {
        const hasData = raw.subarray(guest * cluster, (guest + 1) * cluster).some((byte) => byte !== 0);
        expect(classAt(then, guest), `${guest}`).toBe(hasData ? 'data' : 'unallocated');
        const { host } = hasData ? plain.entry(l1, guest) : { host: 0 };
        const whose = plain.refcount(host / cluster) > 1 ? 'shared-snapshot' : 'own-snapshot';
        expect(classAt(shared, guest), `${guest}`).toBe(hasData ? whose : 'none');
        if (hasData) expect(map.describe('snapshot:1', guest * cluster).stored?.offset).toBe(host);
      }
      // The first MiB was written anew, half a MiB discarded and 2 MiB added.
      expect(total(shared, 'own-snapshot')).toBe(MiB + 512 * KiB);
      expect(total(then, 'data')).toBe(9 * MiB);
      expect(total(now, 'data')).toBe(8 * MiB + 512 * KiB + 2 * MiB + 128 * KiB);
      expect(() => map.tile('snapshot:99', 'state', { level: 0, first: 0, cells: 1 })).toThrow(/snapshot/i);
    });
  });

  it('tells in how many pieces the disk lies in the file', () => {
    qemuImg('create', '-q', '-f', 'qcow2', 'pieces.qcow2', '1G');
    // Each other cluster of the first 4 MiB, the others behind them: 64 KiB pieces. Then 8 MiB in a row, and 70 MiB.
    const every = Array.from({ length: 64 }, (_, index) => index * cluster);
    const order = [...every.filter((_, index) => index % 2 === 0), ...every.filter((_, index) => index % 2 === 1)];
    qemuIo('pieces.qcow2', ...order.map((at) => `write -P 1 ${at} 64k`));
    qemuIo('pieces.qcow2', 'write -P 2 32M 8M', 'write -P 3 100M 70M');
    const entries = JSON.parse(qemuImg('map', '--output=json', 'pieces.qcow2')) as {
      start: number;
      length: number;
      data: boolean;
      offset?: number;
    }[];
    withMap('pieces.qcow2', (_map, ask) => {
      for (const [view, layer] of [
        ['guest', 'extents'],
        ['file', 'pieces'],
      ] as const) {
        const tile = ask(view, layer, 16384);
        expect(total(tile, 'scattered'), view).toBe(4 * MiB);
        expect(total(tile, 'short'), view).toBe(0);
        expect(total(tile, 'medium'), view).toBe(8 * MiB);
        expect(total(tile, 'long'), view).toBe(70 * MiB);
        expect(tile.totals.reduce((sum, bytes) => sum + bytes, 0)).toBe(
          view === 'guest' ? 1024 * MiB : fs.statSync(file('pieces.qcow2')).size,
        );
      }
      const tile = ask('file', 'pieces', 16384);
      const stored = entries.filter(({ data }) => data);
      const classOf = (length: number): string =>
        length < 256 * KiB ? 'scattered' : length < 4 * MiB ? 'short' : length < 64 * MiB ? 'medium' : 'long';
      for (const { offset = 0, length } of stored) {
        for (let at = offset; at < offset + length; at += cluster) {
          expect(classAt(tile, at / cluster)).toBe(classOf(length));
        }
      }
      expect(classAt(tile, 0)).toBe('not-disk');
    });
    // What has no tables has no pieces, and no counts.
    qemuImg('convert', '-O', 'raw', 'pieces.qcow2', 'plain.raw');
    withMap('plain.raw', (map) => {
      expect(map.layersOf('file')).toEqual(['kinds']);
      expect(map.layersOf('guest')).toEqual(['state', 'extents', 'order']);
      expect(() => map.tile('file', 'counts', { level: 0, first: 0, cells: 1 })).toThrow(/counts/);
    });
  });

  it('finds what of the disk hangs on places of the file', () => {
    function places(name: string, at: readonly number[]): GuestStretch[] {
      const { node, driver } = openImage(file(name), { share: true });
      try {
        const found: GuestStretch[] = [];
        for (let from: number | null = 0; from !== null;) {
          const step = guestPlaces({ node, driver }, 'file', at, from);
          found.push(...step.found);
          from = step.next;
        }
        return found;
      } finally {
        node.close();
      }
    }
    const plain = new Plain(file('snap.qcow2'));
    const l1 = plain.word(40);
    const one = plain.entry(l1, 100);
    const two = plain.entry(l1, 320);
    const far = plain.entry(l1, 1000);
    const found = places('snap.qcow2', [two.host + 512, one.at, far.at, l1, 0]);
    expect(found.sort((a, b) => a.index - b.index)).toEqual([
      { index: 0, start: 320 * cluster + 512, length: cluster },
      { index: 1, start: 100 * cluster, length: cluster },
      { index: 2, start: 1000 * cluster, length: cluster },
      { index: 3, start: 0, length: 64 * MiB },
    ]);
    // Subclusters: an entry is 16 bytes, and decides over a whole cluster.
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on', 'sub.qcow2', '64M');
    qemuIo('sub.qcow2', 'write -P 1 0 64k', 'write -P 1 48M 4k');
    const sub = new Plain(file('sub.qcow2'));
    const table = sub.word(sub.word(40));
    expect(places('sub.qcow2', [table + 700 * 16 + 8])).toEqual([{ index: 0, start: 700 * cluster, length: cluster }]);
    // One flat table, and one of tables.
    for (const [format, unit] of [
      ['vdi', MiB],
      ['vpc', 2 * MiB],
      ['vmdk', 64 * KiB],
    ] as const) {
      qemuImg('create', '-q', '-f', format, `t.${format}`, '512M');
      qemuIo(`t.${format}`, 'write -P 1 300M 64k');
      const { node, driver } = openImage(file(`t.${format}`), { share: true });
      const entry = driver.entriesOf?.(node, { guest: 300 * MiB }).at(-1);
      node.close();
      const [stretch] = places(`t.${format}`, [(entry?.offset ?? 0) + 1]);
      expect(stretch, format).toEqual({ index: 0, start: 300 * MiB, length: unit });
    }
  });
});

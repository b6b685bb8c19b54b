// Writing VMDK images of every subformat: random changes against a plain buffer; qemu-img, vmdkinfo and 7-Zip have the last word.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readGuest } from '../../../../core/block/read.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { describeWith, mustRun, runPeer } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { SeededRandom, chosenSeed } from '../../../seeded-random.ts';
import {
  changeAtRandom,
  checkByQemu,
  checkByUs,
  contentOf,
  createDisk,
  KiB,
  MiB,
  openNode,
  openWritable,
  readBySevenZip,
  wrongByQemu,
  wrongRegions,
} from './disks.ts';

const seed = chosenSeed('vmdk writes');
const subformats = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'] as const;

interface Row {
  readonly name: string;
  readonly size: number;
  readonly options: Record<string, OptionValue>;
}

const rows: readonly Row[] = [
  ...subformats.map((subformat) => ({ name: subformat, size: 5 * MiB + 512, options: { subformat } })),
  { name: 'zeroed grains', size: 3 * MiB, options: { zeroed_grain: true } },
  { name: 'preallocated', size: 3 * MiB - 1536, options: { preallocation: 'falloc' } },
  { name: 'preallocated flat', size: 3 * MiB, options: { subformat: 'monolithicFlat', preallocation: 'full' } },
  { name: 'smaller than a grain', size: 1536, options: {} },
];

function infoByQemu(file: string): Record<string, unknown> {
  const { stdout } = runPeer('qemu-img', ['info', '-f', 'vmdk', '--output=json', file]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

describeWith({ peers: ['qemu-img', 'vmdkinfo', '7z'] }, 'writing vmdk', () => {
  const folder = scratchFolder('vmdk-write');

  for (const { name, size, options } of rows) {
    it(`${name}: random changes`, () => {
      const file = createDisk(folder, `${name.replaceAll(' ', '-')}.vmdk`, { size, options });
      const random = new SeededRandom(seed + size);
      const model = new Uint8Array(size);
      for (let round = 0; round < 3; round++) {
        const node = openWritable(file);
        expect(node.size).toBe(size);
        changeAtRandom(node, model, random, 25);
        expect(difference(contentOf(node), model), `seed ${seed}, before flush`).toBeNull();
        if (round === 1) node.writeBack();
        else node.flush();
        expect(difference(contentOf(node), model), `seed ${seed}, after flush`).toBeNull();
        node.close();
        expect(checkByQemu(file)).toBe('');
        expect(checkByUs(file).filter((line) => !line.startsWith('leak'))).toEqual([]);
        expect(wrongByQemu(file, model), `seed ${seed}`).toBeNull();
      }
      const node = openNode(file);
      expect(wrongRegions(node)).toBeNull();
      node.close();
      expect(mustRun('vmdkinfo', [file])).toContain(`(${size} bytes)`);
      expect(difference(readBySevenZip(file).subarray(0, size), model), `7-Zip, seed ${seed}`).toBeNull();
    });
  }

  it('what qemu-img made goes on to be written, its redundant tables too', () => {
    for (const subformat of subformats) {
      const file = path.join(folder, `made-${subformat}.vmdk`);
      mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, file, '70M']);
      mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -q -P 7 100k 200k', file]);
      const model = new Uint8Array(70 * MiB);
      model.fill(7, 100 * KiB, 300 * KiB);
      const node = openWritable(file);
      for (const start of [0, 250 * KiB, 40 * MiB - 777, 70 * MiB - 3]) {
        const bytes = positionCoded(start, Math.min(123_456, model.length - start), 2);
        writeGuest(node, bytes, start);
        model.set(bytes, start);
      }
      node.flush();
      node.close();
      expect(checkByQemu(file)).toBe('');
      expect(checkByUs(file)).toEqual([]);
      expect(wrongByQemu(file, model)).toBeNull();
    }
  });

  it('a disk of several 2 GiB files is written across their borders', () => {
    const size = 4 * 1024 * MiB + 5 * MiB;
    for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
      const file = createDisk(folder, `split-${subformat}.vmdk`, { size, options: { subformat } });
      const node = openWritable(file);
      const start = 2 * 1024 * MiB - 100_000;
      writeGuest(node, new Uint8Array(200_000).fill(0x5a), start);
      writeGuest(node, new Uint8Array(4096).fill(0x5b), size - 4096);
      node.flush();
      expect(node.files.map(({ role }) => role)).toEqual(['file', 'extents.0', 'extents.1', 'extents.2']);
      node.close();
      expect(checkByQemu(file)).toBe('');
      const reads = [
        `read -P 0x5a ${start} 200000`,
        `read -P 0x5b ${size - 4096} 4096`,
        `read -P 0 ${start - 512} 512`,
      ];
      const pieces = mustRun('qemu-io', ['-f', 'vmdk', '-r', ...reads.flatMap((read) => ['-c', read]), file]);
      expect(pieces).not.toContain('failed');
      for (const name of fs.readdirSync(folder))
        if (name.startsWith(`split-${subformat}-`)) fs.rmSync(path.join(folder, name));
    }
  });

  it('sequential writing takes places of 2 MiB at once, without filling them', () => {
    const file = createDisk(folder, 'places.vmdk', { size: 64 * MiB });
    const node = openWritable(file);
    const place = node.reserve({ start: 0, length: 8 * MiB });
    expect(place).toMatchObject({ covers: { start: 0, length: 8 * MiB }, fresh: true });
    const next = node.reserve({ start: 8 * MiB, length: 2 * MiB });
    expect(next.offset).toBe(place.offset + 8 * MiB);
    node.close();
  });

  it('the first write of each session gives a new CID before any byte changes', () => {
    const file = createDisk(folder, 'cid.vmdk', { size: MiB, options: { cid: '0badcafe' } });
    const cid = (): string => /^CID=(\w+)/m.exec(fs.readFileSync(file, 'latin1'))?.[1] ?? '';
    expect(cid()).toBe('0badcafe');
    const unchanged = openWritable(file);
    unchanged.flush();
    unchanged.close();
    expect(cid()).toBe('0badcafe');
    const kept = openWritable(file, { runtime: { 'keep-cid': 'on' } });
    writeGuest(kept, new Uint8Array(10), 0);
    kept.flush();
    kept.close();
    expect(cid()).toBe('0badcafe');
    const node = openWritable(file);
    node.reserve({ start: 0, length: 1 });
    const first = cid();
    expect(first).toMatch(/^[0-9a-f]{8}$/);
    expect(first).not.toBe('0badcafe');
    writeGuest(node, new Uint8Array(10).fill(1), 0);
    expect(cid()).toBe(first);
    node.flush();
    node.close();
    expect(mustRun('qemu-img', ['info', file])).toContain(`cid: ${Number.parseInt(first, 16)}`);
    expect(() => openWritable(file, { runtime: { unknown: 'x' } })).toThrow(/Invalid parameter 'unknown'/);
  });

  it('sizes change in place where the subformat can hold it', () => {
    const random = new SeededRandom(seed);
    for (const subformat of ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse']) {
      let model = new Uint8Array(3 * MiB + 512);
      const file = createDisk(folder, `resize-${subformat}.vmdk`, { size: model.length, options: { subformat } });
      // Within the tables there are, beyond the directory's sectors, back, and to the same again.
      const sizes = [
        4 * MiB,
        30 * MiB,
        subformat === 'monolithicSparse' ? 9000 * MiB : 50 * MiB,
        2 * MiB + 1024,
        40 * MiB,
      ];
      for (const size of [model.length, ...sizes]) {
        const node = openWritable(file);
        node.resize(size);
        expect(node.size).toBe(size);
        const shown = Math.min(size, 50 * MiB);
        const grown = new Uint8Array(shown);
        grown.set(model.subarray(0, shown));
        model = grown;
        changeAtRandom(node, model, random, 10);
        if (size > shown) writeGuest(node, new Uint8Array(5000).fill(9), size - 5000);
        node.flush();
        const found = new Uint8Array(shown);
        readGuest(node, found, 0);
        expect(difference(found, model)).toBeNull();
        node.close();
        expect(checkByQemu(file)).toBe('');
        expect(
          checkByUs(file).filter((line) => !line.startsWith('leak')),
          `${subformat} ${size}`,
        ).toEqual([]);
        expect(mustRun('qemu-img', ['info', file])).toContain(`(${size} bytes)`);
        expect(mustRun('vmdkinfo', [file])).toContain(`(${size} bytes)`);
        if (size <= 50 * MiB) expect(wrongByQemu(file, model), `${subformat} ${size}, seed ${seed}`).toBeNull();
      }
      const text = fs.readFileSync(file, 'latin1');
      expect(text).toContain(`RW ${(40 * MiB) / 512} `);
      expect(text).toContain('ddb.geometry.cylinders = "81"');
    }
  });

  it('says why a size cannot change', () => {
    const stream = openWritable(
      createDisk(folder, 'no-1.vmdk', { size: MiB, options: { subformat: 'streamOptimized' } }),
    );
    expect(() => stream.resize(2 * MiB)).toThrow(/cannot be resized/);
    stream.close();
  });

  it.each(['twoGbMaxExtentFlat', 'twoGbMaxExtentSparse'])(
    '%s grows into further files and out of them',
    (subformat) => {
      const file = createDisk(folder, `over-${subformat}.vmdk`, { size: 2048 * MiB + MiB, options: { subformat } });
      const edge = 2048 * MiB;
      const far = 4096 * MiB;
      const node = openWritable(file);
      writeGuest(node, new Uint8Array(2 * MiB).fill(7), edge - MiB);
      node.resize(far + 2 * MiB);
      expect(node.size).toBe(far + 2 * MiB);
      writeGuest(node, new Uint8Array(MiB).fill(8), far - 512);
      node.flush();
      node.close();
      expect(infoByQemu(file)).toMatchObject({ 'virtual-size': far + 2 * MiB });
      const io = ['-f', 'vmdk', '-r', '-c', `read -P 7 ${edge - MiB} 2M`, '-c', `read -P 0 ${edge + MiB} 4M`];
      const reads = runPeer('qemu-io', [...io, '-c', `read -P 8 ${far - 512} 1M`, file]);
      expect([reads.status, reads.stdout.includes('failed')], reads.stdout).toEqual([0, false]);
      const smaller = openWritable(file);
      smaller.resize(edge - MiB + 512);
      expect(smaller.size).toBe(edge - MiB + 512);
      smaller.close();
      expect(infoByQemu(file)).toMatchObject({ 'virtual-size': edge - MiB + 512 });
      const again = openWritable(file);
      again.resize(edge + 4 * MiB);
      const bytes = new Uint8Array(2 * MiB);
      readGuest(again, bytes, edge - MiB);
      expect(
        bytes.subarray(0, 512).every((byte) => byte === 7) && bytes.subarray(512).every((byte) => byte === 0),
      ).toBe(true);
      again.close();
    },
  );
});

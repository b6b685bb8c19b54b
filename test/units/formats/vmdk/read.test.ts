// Reading VMDK images that others made: every subformat, ESX kinds, mixed extents; qemu-img must read the same bytes.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readGuest } from '../../../../core/block/read.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { describeWith, mustRun, runPeer } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { cowdFile, descriptorText, seSparseFile, writeDescriptorFile, type Grains } from './crafted.ts';
import {
  checkByUs,
  contentOf,
  createDisk,
  KiB,
  MiB,
  openNode,
  openWritable,
  readByQemu,
  wrongByQemu,
  wrongRegions,
} from './disks.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'reading vmdk', () => {
  const folder = scratchFolder('vmdk-read');
  const file = (name: string): string => path.join(folder, name);

  it('every subformat of qemu-img gives the same bytes in any range', () => {
    const size = 7 * MiB + 1536;
    const raw = file('source.raw');
    const content = new Uint8Array(size);
    for (const [start, length] of [
      [0, 700],
      [200 * KiB, 3 * MiB],
      [6 * MiB, 1],
      [size - 2000, 2000],
    ] as const) {
      content.set(positionCoded(start, length, 1), start);
    }
    fs.writeFileSync(raw, content);
    const subformats = [
      ...['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'],
    ];
    for (const subformat of subformats) {
      const name = file(`${subformat}.vmdk`);
      mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${subformat}`, raw, name]);
      const node = openNode(name);
      expect(difference(contentOf(node), content), subformat).toBeNull();
      for (const [start, length] of [
        [1, 511],
        [65535, 2],
        [size - 1, 1],
        [199 * KiB + 7, 130_001],
      ] as const) {
        const into = new Uint8Array(length);
        readGuest(node, into, start);
        expect(difference(into, content.slice(start, start + length), start), subformat).toBeNull();
      }
      expect(() => readGuest(node, new Uint8Array(2), size - 1)).toThrow(/outside the disk/);
      expect(wrongRegions(node)).toBeNull();
      node.close();
      expect(checkByUs(name)).toEqual([]);
    }
  });

  it('info and map say what qemu-img says', () => {
    for (const subformat of ['monolithicSparse', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized']) {
      const name = `facts-${subformat}.vmdk`;
      mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, name, '2100M'], {
        cwd: folder,
      });
      if (subformat !== 'streamOptimized') mustRun('qemu-io', ['-c', 'write -q -P 1 64k 64k', file(name)]);
      const theirs = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file(name)])) as Record<string, unknown>;
      const node = openNode(file(name));
      const facts = vmdk.facts(node);
      expect(facts.specific).toEqual(theirs['format-specific']);
      expect(facts.clusterSize ?? undefined).toEqual(theirs['cluster-size']);
      expect(node.size).toBe(theirs['virtual-size']);
      node.close();
    }
  });

  it('entries that say zero hide the parent, entries that say nothing do not', () => {
    const options = ['-q', '-f', 'vmdk', '-o', 'zeroed_grain=on'];
    mustRun('qemu-img', ['create', ...options, file('zero-base.vmdk'), '1M']);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -q -P 5 0 1M', file('zero-base.vmdk')]);
    mustRun('qemu-img', ['create', ...options, '-b', 'zero-base.vmdk', '-F', 'vmdk', file('zero-top.vmdk')]);
    mustRun('qemu-io', [
      '-f',
      'vmdk',
      '-c',
      'write -q -z 128k 128k',
      '-c',
      'write -q -P 6 512k 64k',
      file('zero-top.vmdk'),
    ]);
    const node = openNode(file('zero-top.vmdk'));
    const kinds = [0, 128 * KiB, 256 * KiB, 512 * KiB].map((start) => node.map({ start, length: MiB - start }).kind);
    expect(kinds).toEqual(['below', 'zero', 'below', 'data']);
    expect(difference(contentOf(node), readByQemu(file('zero-top.vmdk')))).toBeNull();
    node.close();
  });

  it('ESX server sparse extents, also written to: new tables, free sector', () => {
    for (const grainSectors of [1, 8, 128]) {
      const sectors = 4096 * grainSectors * 2 + 5;
      const grains = new Map<number, Uint8Array>();
      for (const grain of [0, 1, 2, 7, 4095, Math.floor((sectors - 1) / grainSectors)]) {
        grains.set(grain, positionCoded(grain * grainSectors * 512, grainSectors * 512, 6));
      }
      const name = file(`cowd-${grainSectors}.vmdk`);
      fs.writeFileSync(file(`cowd-${grainSectors}-delta.vmdk`), cowdFile(sectors, grainSectors, grains));
      const line = `RW ${sectors} VMFSSPARSE "cowd-${grainSectors}-delta.vmdk"`;
      writeDescriptorFile(folder, path.basename(name), descriptorText('vmfsSparse', [line]));
      const node = openNode(name);
      expect(node.size).toBe(sectors * 512);
      const content = contentOf(node);
      expect(difference(content, readByQemu(name))).toBeNull();
      expect(wrongRegions(node)).toBeNull();
      node.close();
      expect(checkByUs(name)).toEqual([]);

      const writing = openWritable(name);
      // The second table exists only after this; qemu-io 7.2 cannot do it.
      for (const start of [100, 5000 * grainSectors * 512 + 3, content.length - 700]) {
        const bytes = positionCoded(start, 600, 7);
        writeGuest(writing, bytes, start);
        content.set(bytes, start);
      }
      writing.flush();
      writing.close();
      expect(wrongByQemu(name, content)).toBeNull();
      expect(checkByUs(name)).toEqual([]);
      const extent = fs.readFileSync(file(`cowd-${grainSectors}-delta.vmdk`));
      expect(extent.readUInt32LE(28) * 512).toBe(extent.length);
    }
  });

  it('seSparse extents, read only', () => {
    const sectors = 8 * 4096 * 3 + 8 * 10 + 3;
    const grains: Grains = new Map<number, Uint8Array | 'zero' | 'unmapped'>([
      [0, positionCoded(0, 4096, 8)],
      [1, 'zero'],
      [2, 'unmapped'],
      [4095, positionCoded(4095 * 4096, 4096, 8)],
      [2 * 4096 + 1, positionCoded((2 * 4096 + 1) * 4096, 4096, 8)],
      [3 * 4096 + 10, positionCoded((3 * 4096 + 10) * 4096, 3 * 512, 8)],
    ]);
    fs.writeFileSync(file('se-sesparse.vmdk'), seSparseFile(sectors, grains));
    const text = descriptorText('seSparse', [`RW ${sectors} SESPARSE "se-sesparse.vmdk"`]);
    const name = writeDescriptorFile(folder, 'se.vmdk', text);
    const node = openNode(name);
    expect(difference(contentOf(node), readByQemu(name))).toBeNull();
    expect(node.map({ start: 4096, length: 100_000 })).toMatchObject({ kind: 'zero', explicit: true, length: 8192 });
    expect(node.map({ start: 3 * 4096, length: 100_000 })).toMatchObject({ kind: 'zero', explicit: false });
    expect(wrongRegions(node)).toBeNull();
    node.close();
    expect(checkByUs(name)).toEqual([]);
    expect(() => openWritable(name)).toThrow('No write support for seSparse images available');
  });

  it('seSparse extents with values that are not known are refused as qemu-img refuses them', () => {
    const changes: Record<string, (bytes: Buffer) => unknown> = {
      magic: (bytes) => bytes.writeUInt32LE(1, 0),
      version: (bytes) => bytes.writeUInt32LE(9, 8),
      grain: (bytes) => bytes.writeUInt32LE(16, 24),
      table: (bytes) => bytes.writeUInt32LE(32, 32),
      flags: (bytes) => bytes.writeUInt32LE(1, 40),
      reserved: (bytes) => bytes.writeUInt32LE(1, 64),
      padding: (bytes) => bytes.writeUInt8(1, 300),
      'volatile magic': (bytes) => bytes.writeUInt32LE(1, 512),
      journal: (bytes) => bytes.writeUInt32LE(1, 512 + 24),
      'volatile padding': (bytes) => bytes.writeUInt8(1, 512 + 100),
    };
    for (const [what, change] of Object.entries(changes)) {
      fs.writeFileSync(
        file('bad-se-x.vmdk'),
        seSparseFile(80, new Map(), (bytes) => void change(bytes)),
      );
      const name = writeDescriptorFile(
        folder,
        'bad-se.vmdk',
        descriptorText('seSparse', ['RW 80 SESPARSE "bad-se-x.vmdk"']),
      );
      const { stderr } = runPeer('qemu-img', ['info', '-f', 'vmdk', name]);
      const theirs = stderr.trim().split(`'${name}': `)[1] ?? '';
      expect(theirs, what).not.toBe('');
      expect(() => openNode(name), what).toThrow(theirs);
    }
  });

  it('extents of all kinds in one image, with one of zeroes, from one file and from many', () => {
    const flat = positionCoded(0, 4 * MiB, 9);
    fs.writeFileSync(file('mixed-flat.bin'), flat);
    createDisk(folder, 'mixed-sparse.vmdk', { size: MiB });
    const sparse = openWritable(file('mixed-sparse.vmdk'));
    writeGuest(sparse, positionCoded(0, 100_000, 10), 300_000);
    sparse.flush();
    const second = contentOf(sparse);
    sparse.close();
    const text = descriptorText('custom', [
      'RW 2048 FLAT "mixed-flat.bin" 4096',
      'RDONLY 100 ZERO',
      'RW 2048 SPARSE "mixed-sparse.vmdk"',
      'RDONLY 10 FLAT "mixed-flat.bin" 3',
      'NOACCESS 7 ZERO',
      'RW 1 VMFS "mixed-flat.bin"',
    ]);
    const name = writeDescriptorFile(folder, 'mixed.vmdk', text);
    const node = openWritable(name);
    const parts = [
      flat.subarray(4096 * 512, 4096 * 512 + MiB),
      new Uint8Array(100 * 512),
      second,
      flat.subarray(3 * 512, 13 * 512),
      new Uint8Array(7 * 512),
      flat.subarray(0, 512),
    ];
    const whole = Buffer.concat(parts);
    expect(difference(contentOf(node), whole)).toBeNull();
    expect(node.files.map(({ role }) => role)).toEqual(['file', 'extents.0', 'extents.2']);
    expect(wrongRegions(node)).toBeNull();
    // A write across the first border ends where nothing can be written.
    expect(() => writeGuest(node, new Uint8Array(1000), MiB - 500)).toThrow(
      /extents.1 cannot be written: it has no file/,
    );
    expect(() => writeGuest(node, new Uint8Array(1), 2 * MiB + 100 * 512)).toThrow(/the descriptor says RDONLY/);
    node.close();
  });
});

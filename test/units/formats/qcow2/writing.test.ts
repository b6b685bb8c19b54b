// What a writer must do beside writing: shared clusters, feature bits, sizes, the layer below, overlaps.
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { isWritable, type WritableNode } from '../../../../core/block/node.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { describeWith, mustRun, runPeer, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { contentAt, writing } from '../new-image.ts';
import { Crafted } from './crafted.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface Info {
  'virtual-size': number;
  'dirty-flag': boolean;
  'backing-filename'?: string;
  'backing-filename-format'?: string;
  'format-specific': { data: Record<string, unknown> };
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'a writer of qcow2', () => {
  const folder = scratchFolder('qcow2-writing');
  const cwd = folder;
  const file = path.join(folder, 'image.qcow2');

  beforeEach(() => fs.rmSync(file, { force: true }));

  const create = (size: string, options = '', ...more: string[]): Crafted => {
    mustRun(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), ...more, file, size],
      { cwd },
    );
    return new Crafted(file);
  };
  const io = (...commands: string[]): void => {
    mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file], { cwd });
  };
  const info = (): Info => JSON.parse(mustRun('qemu-img', ['info', '--output=json', file], { cwd })) as Info;
  const clean = (status = 0): void => {
    const check = runQemuImg(['check', '-f', 'qcow2', file], { cwd });
    expect(check.status, check.stdout + check.stderr).toBe(status);
  };
  /** Opens for writing and does not flush or close: a writer that dies. */
  const dying = (use: (node: WritableNode) => void): void => {
    const copy = path.join(folder, 'dying.qcow2');
    const { node } = openImage(file, { format: 'qcow2', writable: true });
    if (!isWritable(node)) throw new Error('read-only');
    use(node);
    fs.copyFileSync(file, copy);
    node.close();
    fs.renameSync(copy, file);
  };

  it('lays sequential writes into one run, also across L2 tables', () => {
    for (const [options, length] of [
      ['', 8 * MiB],
      ['cluster_size=512', 2 * MiB],
      ['extended_l2=on', 8 * MiB],
    ] as const) {
      fs.rmSync(file, { force: true });
      create('64M', options);
      writing(file, (node) => {
        const place = node.reserve({ start: 0, length });
        expect(place.covers.length).toBeGreaterThanOrEqual(options === 'cluster_size=512' ? 100 * KiB : 2 * MiB);
        place.storage.writeAt(positionCoded(0, place.covers.length, 1), place.offset);
        place.publish();
      });
      clean();
    }
  });

  it('changes a disk beside its snapshots without touching them', () => {
    create('8M', 'cluster_size=4k');
    io('write -q -P 1 0 3M');
    mustRun('qemu-img', ['snapshot', '-c', 'one', file]);
    const model = new Uint8Array(8 * MiB).fill(1, 0, 3 * MiB);
    writing(file, (node) => {
      const bytes = positionCoded(5000, 300_000, 2);
      writeGuest(node, bytes, 5000);
      model.set(bytes, 5000);
      expect(node.zero({ start: MiB, length: 64 * KiB })).toEqual({ start: MiB, length: 64 * KiB });
      model.fill(0, MiB, MiB + 64 * KiB);
      expect(node.release({ start: 2 * MiB, length: 64 * KiB })).toEqual({ start: 2 * MiB, length: 64 * KiB });
      model.fill(0, 2 * MiB, 2 * MiB + 64 * KiB);
    });
    clean();
    expect(difference(contentAt(file), model)).toBeNull();
    mustRun('qemu-img', ['snapshot', '-a', 'one', file]);
    expect(difference(contentAt(file), new Uint8Array(8 * MiB).fill(1, 0, 3 * MiB))).toBeNull();
    clean();
  });

  describe('feature bits', () => {
    const dirtyAt = (): bigint => new Crafted(file).get(72) & 1n;

    it('sets the dirty bit before it writes lazily, and takes it away when it closes', () => {
      create('8M', 'lazy_refcounts=on');
      dying((node) => {
        expect(dirtyAt()).toBe(0n);
        writeGuest(node, positionCoded(0, 4096, 1), 0);
        expect(dirtyAt()).toBe(1n);
      });
      expect(info()['dirty-flag']).toBe(true);
      writing(file, (node) => writeGuest(node, positionCoded(0, 4096, 1), 0));
      expect(dirtyAt()).toBe(0n);
      clean();
    });

    it('leaves the dirty bit where something was not flushed', () => {
      create('8M', 'lazy_refcounts=on');
      const { node } = openImage(file, { writable: true });
      if (!isWritable(node)) throw new Error('read-only');
      writeGuest(node, positionCoded(0, 4096, 1), 0);
      node.close();
      expect(dirtyAt()).toBe(1n);
    });

    it('writes lazily when it is told to, whatever the header says', () => {
      create('8M');
      writing(
        file,
        (node) => {
          writeGuest(node, positionCoded(0, 4096, 1), 0);
          expect(dirtyAt()).toBe(1n);
        },
        { runtime: { 'lazy-refcounts': 'on' } },
      );
      expect(dirtyAt()).toBe(0n);
      expect(() => openImage(file, { runtime: { 'lazy-refcounts': 'maybe' } })).toThrow(/expects 'on' or 'off'/);
      expect(() => openImage(file, { format: 'qcow2', runtime: { foo: '1' } })).toThrow(/foo/);
    });

    it.each([
      ['cluster_size=4k', 'write -q -P 5 0 6M'],
      ['cluster_size=512', 'write -q -P 5 0 6M'],
      ['cluster_size=512,refcount_bits=64', 'write -q -P 5 1M 6M'],
      ['extended_l2=on,cluster_size=16k', 'write -q -P 5 1k 6M'],
      ['', 'write -q -c -P 5 0 64k', 'write -q -P 6 1M 64k'],
    ])('mends what a dead lazy writer left: %s', (options, ...commands) => {
      create('8M', [options, 'lazy_refcounts=on'].filter((one) => one !== '').join(','));
      runPeer(
        'qemu-io',
        ['-f', 'qcow2', ...[...commands, 'flush', 'abort'].flatMap((command) => ['-c', command]), file],
        { cwd },
      );
      const before = contentAt(file);
      expect(info()['dirty-flag']).toBe(true);
      openImage(file, { writable: true }).node.close();
      expect(info()['dirty-flag']).toBe(false);
      clean();
      expect(difference(contentAt(file), before)).toBeNull();
    });

    it('mends an image that lost its refcount blocks', () => {
      const image = create('64M', 'lazy_refcounts=on,cluster_size=512');
      io('write -q -P 5 0 40M');
      mustRun('qemu-img', ['snapshot', '-c', 'one', file]);
      io('write -q -P 6 1M 2M');
      const table = Number(image.get(48));
      // All but the first entry; 1 << 0: the dirty bit.
      for (let i = 1; i < 64; i++) image.set(table + 8 * i, 0);
      image.set(72, 1n);
      const before = contentAt(file);
      openImage(file, { writable: true }).node.close();
      clean();
      expect(difference(contentAt(file), before)).toBeNull();
    });

    it('clears autoclear bits that it does not know, and those of bitmaps when the guest writes', () => {
      const image = create('8M');
      mustRun('qemu-img', ['bitmap', '--add', file, 'b0']);
      expect(info()['format-specific'].data.bitmaps).toHaveLength(1);
      image.change(88, (bits) => bits | (1n << 40n));
      openImage(file).node.close();
      expect(image.get(88)).toBe((1n << 40n) | 1n);
      openImage(file, { writable: true }).node.close();
      expect(image.get(88)).toBe(1n);
      writing(file, (node) => node.setBacking(null));
      expect(image.get(88)).toBe(1n);
      expect(info()['format-specific'].data.bitmaps).toHaveLength(1);
      writing(file, (node) => writeGuest(node, positionCoded(0, 512, 1), 0));
      expect(image.get(88)).toBe(0n);
      expect(info()['format-specific'].data.bitmaps).toBeUndefined();
    });
  });

  describe('the size', () => {
    it.each([
      '',
      'cluster_size=512',
      'compat=0.10,cluster_size=4k',
      'extended_l2=on',
      'data_file=data.raw',
      'data_file=data.raw,data_file_raw=on',
    ])('grows and shrinks: %s', (options) => {
      fs.rmSync(path.join(folder, 'data.raw'), { force: true });
      create('1025k', options);
      let model = positionCoded(0, 1025 * KiB, 1);
      writing(file, (node) => writeGuest(node, model, 0));
      for (const size of [600 * MiB, 1537 * KiB, 700 * KiB + 512, 2 * MiB]) {
        writing(file, (node) => {
          node.resize(size);
          expect(node.size).toBe(size);
        });
        const next = new Uint8Array(Math.min(size, 4 * MiB));
        next.set(model.subarray(0, Math.min(size, model.length)));
        model = next;
        clean();
        expect(info()['virtual-size']).toBe(size);
        if (size < 3 * MiB) {
          expect(difference(contentAt(file), model)).toBeNull();
          fs.writeFileSync(path.join(folder, 'expected'), model);
          mustRun(
            'qemu-img',
            ['compare', '-s', '-f', 'qcow2', '-F', 'raw', file, 'expected'].filter((a) => a !== '-s'),
            { cwd },
          );
        }
      }
    });

    it('shows zeroes, not a longer layer below, where it grew', () => {
      fs.writeFileSync(path.join(folder, 'base'), positionCoded(0, 3 * MiB, 1));
      for (const options of ['', 'compat=0.10,cluster_size=4k', 'extended_l2=on']) {
        fs.rmSync(file, { force: true });
        create('1000k', options, '-b', 'base', '-F', 'raw');
        const model = new Uint8Array(4 * MiB);
        model.set(positionCoded(0, 1000 * KiB, 1));
        writing(file, (node) => node.resize(4 * MiB));
        expect(difference(contentAt(file), model)).toBeNull();
        clean();
      }
    });

    it('in version 2 does not change beside snapshots; in version 3 it does, and they keep theirs', () => {
      create('4M', 'compat=0.10');
      mustRun('qemu-img', ['snapshot', '-c', 'one', file]);
      expect(() => writing(file, (node) => node.resize(MiB))).toThrow(/snapshots/);
      clean();
      fs.rmSync(file);
      create('4M');
      io('write -q -P 1 0 4M');
      mustRun('qemu-img', ['snapshot', '-c', 'one', file]);
      writing(file, (node) => node.resize(MiB));
      clean();
      writing(file, (node) => node.resize(2048 * MiB));
      clean();
      expect(info()['virtual-size']).toBe(2048 * MiB);
      mustRun('qemu-img', ['snapshot', '-a', 'one', file]);
      clean();
    });

    it('does not grow beyond what an L1 table can hold', () => {
      create('4M', 'cluster_size=512');
      expect(() => writing(file, (node) => node.resize(2 ** 40))).toThrow(/too large for file format/);
      clean();
      expect(info()['virtual-size']).toBe(4 * MiB);
    });
  });

  describe('the layer below', () => {
    it('is changed in the header, and nothing else there', () => {
      for (const name of ['base', 'other'])
        fs.writeFileSync(path.join(folder, name), positionCoded(0, MiB, name.length));
      const image = create('1M', '', '-b', 'base', '-F', 'raw');
      // An extension that nobody knows, in front of the feature names.
      const bytes = fs.readFileSync(file).subarray(112, 112 + 1024);
      image
        .set32(112, 0x12345678)
        .set32(116, 5)
        .bytes(120, Buffer.from('hello\0\0\0'))
        .bytes(128, bytes.subarray(0, 900));
      image.set(8, image.get(8) + 16n);
      expect(info()['backing-filename']).toBe('base');
      writing(file, (node) => node.setBacking({ path: 'other', format: 'raw' }));
      expect(info()).toMatchObject({ 'backing-filename': 'other', 'backing-filename-format': 'raw' });
      expect(difference(contentAt(file), positionCoded(0, MiB, 5))).toBeNull();
      expect(fs.readFileSync(file).includes('hello')).toBe(true);
      const long = 'x'.repeat(1023);
      writing(file, (node) => node.setBacking({ path: long, format: 'qcow2' }));
      expect(info()['backing-filename']).toBe(long);
      writing(file, (node) => node.setBacking(null), { withBacking: false });
      expect(info()['backing-filename']).toBeUndefined();
      expect(fs.readFileSync(file).includes('hello')).toBe(true);
      expect(fs.readFileSync(file).includes('extended L2 entries')).toBe(true);
      clean();
    });

    it('keeps header fields that nobody knows', () => {
      const image = create('1M');
      const known = fs.readFileSync(file).subarray(112, 512);
      image.set32(100, 128).bytes(112, Buffer.from('sixteen unknown.')).bytes(128, known);
      writing(file, (node) => node.setBacking({ path: 'base', format: 'raw' }), { withBacking: false });
      expect(fs.readFileSync(file).subarray(112, 128).toString()).toBe('sixteen unknown.');
      expect(image.get32(100)).toBe(128);
      expect(info()['backing-filename']).toBe('base');
      clean();
    });

    it('has a name that fits', () => {
      create('1M', 'cluster_size=512');
      writing(file, (node) => {
        expect(() => node.setBacking({ path: 'x'.repeat(1024), format: 'raw' })).toThrow(
          expect.objectContaining({ code: 'qcow2/backing-name' }),
        );
        expect(() => node.setBacking({ path: 'x'.repeat(600), format: 'raw' })).toThrow(
          expect.objectContaining({ code: 'qcow2/header-full' }),
        );
        expect(() => node.setBacking({ path: 'x', format: 'a-format-of-sixteen' })).toThrow(
          expect.objectContaining({ code: 'qcow2/backing-format-long' }),
        );
      });
      clean();
      expect(info()['backing-filename']).toBeUndefined();
    });
  });

  describe('overlaps', () => {
    const refuses = (structure: string): void => {
      const { node } = openImage(file, { writable: true });
      if (!isWritable(node)) throw new Error('read-only');
      expect(() => {
        writeGuest(node, positionCoded(0, 65536, 1), 128 * KiB);
        writeGuest(node, positionCoded(0, 65536, 1), 0);
      }).toThrow(expect.objectContaining({ code: 'qcow2/overlap', detail: { structure } }));
      node.close();
      expect(info()['format-specific'].data.corrupt).toBe(true);
      expect(() => openImage(file, { writable: true })).toThrow(expect.objectContaining({ code: 'qcow2/corrupt' }));
      expect(openImage(file).node.size).toBe(8 * MiB);
    };
    const l1 = 0x30000;
    const l2 = 0x40000;
    const refcountBlock = 0x20000;

    it.each([
      ['main header', 0, 0],
      ['refcount table', 1, 0x10000],
      ['refcount block', 2, refcountBlock],
      ['active L1 table', 3, l1],
      ['active L2 table', 4, l2],
    ])('are refused with the %s: a free cluster that is not free', (structure, cluster) => {
      const image = create('8M');
      io('write -q -P 1 0 64k');
      image.bytes(refcountBlock + 2 * cluster, Uint8Array.of(0, 0));
      refuses(structure);
    });

    it.each([
      ['refcount table', 0x10000],
      ['active L1 table', l1],
      ['active L2 table', l2],
      ['snapshot table', 0x70000],
    ])('are refused with the %s: an entry that points to it', (structure, offset) => {
      const image = create('8M');
      io('write -q -P 1 0 64k');
      if (structure === 'snapshot table') {
        mustRun('qemu-img', ['snapshot', '-c', 'one', file]);
        io('write -q -P 1 0 64k');
      }
      const at = structure === 'snapshot table' ? Number(image.get(64)) : offset;
      const table = Number(image.get(Number(image.get(40))) & 0xff_ffff_ffff_fe00n);
      image.set(table, (1n << 63n) | BigInt(at));
      const { node } = openImage(file, { writable: true });
      if (!isWritable(node)) throw new Error('read-only');
      expect(() => writeGuest(node, positionCoded(0, 512, 1), 0)).toThrow(
        expect.objectContaining({ code: 'qcow2/overlap', detail: { structure } }),
      );
      node.close();
      expect(info()['format-specific'].data.corrupt).toBe(true);
    });
  });
});

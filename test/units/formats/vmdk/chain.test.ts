// Deltas: chains of three, read and written; the parent is known by its CID, and a missing or changed one is refused with it.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readGuest } from '../../../../core/block/read.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { describeWith, mustRun } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import {
  checkByQemu,
  checkByUs,
  contentOf,
  createDisk,
  KiB,
  MiB,
  openNode,
  openWritable,
  wrongByQemu,
  wrongRegions,
} from './disks.ts';

const size = 3 * MiB + 512;

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'a chain of deltas', () => {
  const root = scratchFolder('vmdk-chain');
  let count = 0;
  const newFolder = (): string => {
    const folder = path.join(root, String(count++));
    fs.mkdirSync(folder);
    return folder;
  };

  /** base ← middle ← top, all ours, with something of each in the disk. */
  function chain(folder: string, zeroedGrains: boolean): { files: string[]; content: Uint8Array } {
    const content = new Uint8Array(size);
    const files: string[] = [];
    ['base.vmdk', 'middle.vmdk', 'top.vmdk'].forEach((name, layer) => {
      const parent = ['', 'base.vmdk', 'middle.vmdk'][layer];
      const file = createDisk(folder, name, {
        size,
        options: { zeroed_grain: zeroedGrains, ...(layer === 1 ? { subformat: 'twoGbMaxExtentSparse' } : {}) },
        ...(parent === undefined || parent === '' ? {} : { parent }),
      });
      const node = openWritable(file);
      for (const start of [layer * 300 * KiB, MiB + layer * 1000, size - 5000 + layer * 1000]) {
        const bytes = positionCoded(start, Math.min(400 * KiB, size - start), layer + 1);
        writeGuest(node, bytes, start);
        content.set(bytes, start);
      }
      expect(difference(contentOf(node), content)).toBeNull();
      node.flush();
      node.close();
      files.push(file);
    });
    return { files, content };
  }

  it('of three is written here and read by qemu-img', () => {
    for (const zeroed of [false, true]) {
      const { files, content } = chain(newFolder(), zeroed);
      for (const file of files) {
        expect(checkByQemu(file)).toBe('');
        expect(checkByUs(file)).toEqual([]);
      }
      const top = files[2] ?? '';
      expect(wrongByQemu(top, content)).toBeNull();
      const node = openNode(top);
      expect(vmdk.facts(node).backing).toEqual({ path: 'middle.vmdk', format: 'vmdk' });
      expect(wrongRegions(node)).toBeNull();
      node.close();
    }
  });

  it('of three by qemu-img is read here', () => {
    const folder = newFolder();
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', 'a.vmdk', String(size)], { cwd: folder });
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', 'a.vmdk', '-F', 'vmdk', 'b.vmdk'], { cwd: folder });
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -q -P 2 64k 500k', 'b.vmdk'], { cwd: folder });
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', 'b.vmdk', '-F', 'vmdk', 'c.vmdk'], { cwd: folder });
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -q -P 3 300k 100k', 'c.vmdk'], { cwd: folder });
    const top = path.join(folder, 'c.vmdk');
    const node = openNode(top);
    expect(wrongByQemu(top, contentOf(node))).toBeNull();
    expect(contentOf(node)[64 * KiB]).toBe(2);
    node.close();
    expect(checkByUs(top)).toEqual([]);
  });

  it('zeroes and gaps reach the layer below only where the table can say so', () => {
    const plain = openWritable(chain(newFolder(), false).files[2] ?? '');
    // Nothing is stored there in the top layer, so only writing can make it zero.
    expect(plain.zero({ start: 2 * MiB, length: 256 * KiB })).toBeNull();
    plain.close();
    const { files, content } = chain(newFolder(), true);
    const top = files[2] ?? '';
    const node = openWritable(top);
    expect(node.zero({ start: 0, length: 256 * KiB })).toEqual({ start: 0, length: 256 * KiB });
    content.fill(0, 0, 256 * KiB);
    expect(node.zero({ start: 256 * KiB + 1, length: 512 })).toBeNull();
    expect(difference(contentOf(node), content)).toBeNull();
    node.flush();
    node.close();
    expect(wrongByQemu(top, content)).toBeNull();
    const again = openWritable(top);
    expect(again.release({ start: 0, length: 256 * KiB })).toEqual({ start: 0, length: 256 * KiB });
    again.flush();
    const below = contentOf(again);
    expect(difference(below.slice(0, 256 * KiB), positionCoded(0, 256 * KiB, 1))).toBeNull();
    again.close();
    expect(wrongByQemu(top, below)).toBeNull();
  });

  it('with a changed parent is refused; unsafe opening still shows the top', () => {
    const { files } = chain(newFolder(), false);
    const [base, middle, top] = files as [string, string, string];
    const node = openWritable(base);
    writeGuest(node, new Uint8Array(1).fill(1), 0);
    node.flush();
    node.close();
    expect(() => openNode(middle)).toThrow(
      /The parent '.*base.vmdk' has changed since .*: its CID is \w{8}, expected is \w{8}/,
    );
    expect(() => openNode(top)).toThrow(/Could not open backing file: The parent .* has changed/);
    openNode(middle, { withBacking: false }).close();
    expect(checkByUs(middle)).toEqual([expect.stringMatching(/^corruption: ERROR: The parent .* has changed/)]);
  });

  it('with a missing, unnamed or foreign parent is refused with the CID that it looks for', () => {
    const folder = newFolder();
    const { files } = chain(folder, false);
    const [base, middle] = files as [string, string];
    const cid = /^CID=(\w+)/m.exec(fs.readFileSync(base, 'latin1'))?.[1] ?? '';
    fs.renameSync(base, `${base}.away`);
    expect(() => openNode(middle)).toThrow(
      new RegExp(`No such file or directory \\(looking for the image with CID ${cid}\\)`),
    );
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', base, '3M']);
    expect(() => openNode(middle)).toThrow(/looking for the image with CID/);
    const text = fs.readFileSync(middle, 'latin1').replace(/parentFileNameHint=.*\n/, '');
    fs.writeFileSync(middle, text.replace('#DDB', '#DDB\nddb.uuid.parent="1-2"'), 'latin1');
    expect(() => openNode(middle)).toThrow(`is a delta of an image with CID ${cid} (UUID 1-2), but does not name it`);
    openNode(middle, { withBacking: false }).close();
  });

  it('gets another parent, and none', () => {
    const folder = newFolder();
    const { files } = chain(folder, false);
    const [base, middle, top] = files as [string, string, string];
    const node = openWritable(top);
    node.setBacking({ path: 'base.vmdk', format: 'vmdk' });
    expect(() => node.setBacking({ path: 'nowhere.vmdk', format: null })).toThrow(/No such file/);
    expect(() => node.setBacking({ path: 'base.vmdk', format: 'raw' })).toThrow('backing_file must be a vmdk image');
    node.flush();
    node.close();
    fs.renameSync(middle, `${middle}.away`);
    const over = openNode(top);
    expect(over.backing?.name).toBe(base);
    expect(wrongByQemu(top, contentOf(over))).toBeNull();
    over.close();
    const again = openWritable(top);
    again.setBacking(null);
    again.flush();
    again.close();
    const alone = openNode(top);
    expect(alone.backing).toBeNull();
    expect(wrongByQemu(top, contentOf(alone))).toBeNull();
    alone.close();
  });

  it('can only be made over a VMDK', () => {
    const folder = newFolder();
    fs.writeFileSync(path.join(folder, 'raw.img'), Buffer.alloc(MiB));
    expect(() => createDisk(folder, 'x.vmdk', { size: MiB, parent: 'raw.img' })).toThrow();
  });

  it('hides what a longer parent has behind its old end before it grows', () => {
    const folder = newFolder();
    createDisk(folder, 'large.vmdk', { size: 4 * MiB });
    const parent = openWritable(path.join(folder, 'large.vmdk'));
    writeGuest(parent, new Uint8Array(4 * MiB).fill(1), 0);
    parent.flush();
    parent.close();
    const node = openWritable(createDisk(folder, 'small.vmdk', { size: MiB, parent: 'large.vmdk' }));
    node.resize(2 * MiB);
    const bytes = new Uint8Array(2 * MiB);
    readGuest(node, bytes, 0);
    expect([bytes.indexOf(0), bytes.lastIndexOf(1)]).toEqual([MiB, MiB - 1]);
    node.flush();
    node.close();
    const smaller = openWritable(path.join(folder, 'small.vmdk'));
    smaller.resize(MiB / 2);
    expect(smaller.size).toBe(MiB / 2);
    smaller.close();
  });
});

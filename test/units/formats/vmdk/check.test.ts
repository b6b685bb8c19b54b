// The check: each kind of damage is found once, named with its place, and told apart from what is only lost space.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { writeGuest } from '../../../../core/block/write.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runPeer } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { descriptorText, writeDescriptorFile } from './crafted.ts';
import {
  checkByUs,
  createDisk,
  KiB,
  MiB,
  openNode,
  openWritable,
  wrongByQemu,
  wrongRegions,
  writePacked,
} from './disks.ts';

/** Where a new disk of up to 4 GiB has its parts. */
const redundantTable = 22 * 512;
const directory = 26 * 512;
const table = 27 * 512;

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'checking vmdk', () => {
  const folder = scratchFolder('vmdk-check');
  let count = 0;

  /** Grains 0…15 stand at sectors 128, 256, …; then `change`. */
  function damaged(change: (bytes: Buffer) => unknown, options = {}): string {
    const file = createDisk(folder, `${count++}.vmdk`, { size: 4 * MiB, options });
    const node = openWritable(file);
    writeGuest(node, new Uint8Array(MiB).fill(1), 0);
    node.flush();
    node.close();
    expect(checkByUs(file)).toEqual([]);
    const bytes = fs.readFileSync(file);
    change(bytes);
    fs.writeFileSync(file, bytes);
    return file;
  }
  const both = (bytes: Buffer, entry: number, value: number): void => {
    bytes.writeUInt32LE(value, table + 4 * entry);
    bytes.writeUInt32LE(value, redundantTable + 4 * entry);
  };

  it('finds grains outside of the file as qemu-img does, and goes on', () => {
    const file = damaged((bytes) => {
      both(bytes, 3, 0x1000000);
      both(bytes, 5, 0x1000000);
    });
    const { status, stderr } = runPeer('qemu-img', ['check', '-f', 'vmdk', file]);
    expect(status).toBe(1);
    const ours = checkByUs(file);
    expect(ours[0]).toBe(`corruption: ${stderr.trim().split('\n')[0]}`);
    expect(ours[1]).toBe('corruption: ERROR: cluster offset for sector 640 points after EOF');
    // Their old places are lost.
    expect(ours.slice(2)).toEqual([
      'leak: Leaked grain at 262144: nothing points there',
      'leak: Leaked grain at 393216: nothing points there',
    ]);
  });

  it('finds grains and tables that share bytes', () => {
    const texts = (change: (bytes: Buffer) => unknown): string[] =>
      checkByUs(damaged(change)).filter((line) => !line.startsWith('leak'));
    expect(texts((bytes) => both(bytes, 4, 256))).toEqual([
      'corruption: ERROR: the grain at 131072 of sector 512 shares bytes with another one',
    ]);
    // Half a grain further: off the grid.
    expect(texts((bytes) => both(bytes, 4, 256 + 64))).toEqual([
      'corruption: ERROR: the grain at 163840 shares bytes with another one',
    ]);
    expect(texts((bytes) => both(bytes, 0, 1))).toEqual([
      'corruption: ERROR: sector 0: The grain of guest offset 0 stands at 512, inside the descriptor',
    ]);
    expect(texts((bytes) => bytes.writeUInt32LE(22, directory))).toEqual([
      'corruption: ERROR: the grain table at 11264 shares bytes with another one',
    ]);
    expect(texts((bytes) => both(bytes, 20, 27)).at(-1)).toBe(
      'corruption: ERROR: the grain table at 13824 shares bytes with a grain',
    );
    expect(texts((bytes) => bytes.writeUInt32LE(0x7fffffff, directory))[0]).toMatch(
      /could not get cluster_offset for sector 0: Grain table 0 \(at \d+\) reaches beyond/,
    );
    expect(texts((bytes) => bytes.writeUInt32LE(1, directory))[0]).toMatch(
      /Grain table 0 .* stands inside the descriptor/,
    );
  });

  it('compares both copies: one behind the other is no damage, two different grains are', () => {
    expect(checkByUs(damaged((bytes) => bytes.writeUInt32LE(0, redundantTable + 8)))).toEqual([
      'leak: The copies of grain table 0 differ: one of them is behind the other in 1 entries',
    ]);
    expect(checkByUs(damaged((bytes) => bytes.writeUInt32LE(128, redundantTable + 8)))).toEqual([
      'corruption: ERROR: the copies of the grain table name different grains for sector 256',
    ]);
    expect(checkByUs(damaged((bytes) => bytes.writeUInt32LE(0x7fffffff, 48)))).toEqual([
      expect.stringMatching(/^corruption: ERROR: redundant copy: The grain directory .* reaches beyond/),
    ]);
  });

  it('finds descriptors that do not fit their extents, and transfers as text', () => {
    expect(checkByUs(damaged((bytes) => bytes.write('RW 8191 ', bytes.indexOf('RW 8192 '), 'latin1')))).toEqual([]);
    expect(checkByUs(damaged((bytes) => bytes.write('RW 7000 ', bytes.indexOf('RW 8192 '), 'latin1')))).toEqual([
      'corruption: ERROR: the descriptor says 3584000 bytes for extent 0, its file has 4194304',
    ]);
    expect(checkByUs(damaged((bytes) => bytes.writeUInt8(0x0d, 73)))).toEqual([
      'corruption: ERROR: line ends in the header were changed: the file was transferred as text',
    ]);
    fs.writeFileSync(path.join(folder, 'short.bin'), Buffer.alloc(512));
    const text = descriptorText('monolithicFlat', ['RW 2 FLAT "short.bin" 0']);
    const file = writeDescriptorFile(folder, 'short.vmdk', text);
    expect(checkByUs(file)).toEqual([
      'corruption: ERROR: the descriptor says 1024 bytes for extent 0, its file has 512',
    ]);
  });

  it('finds space that zeroing by qemu-io left behind', () => {
    const file = path.join(folder, 'zeroed.vmdk');
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'zeroed_grain=on', file, '1M']);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -q -P 1 0 512k', '-c', 'write -q -z 64k 128k', file]);
    expect(checkByUs(file)).toEqual(['leak: Leaked 2 grains at 131072: nothing points there']);
    const node = openNode(file);
    const lost = [...vmdk.regions(node)].filter(({ label }) => label === 'not referenced');
    expect(lost).toMatchObject([{ start: 128 * KiB, length: 128 * KiB }]);
    expect(wrongRegions(node)).toBeNull();
    node.close();
  });

  it('holds every marker of a stream against its entry', () => {
    const file = createDisk(folder, 'stream.vmdk', { size: 4 * MiB, options: { subformat: 'streamOptimized' } });
    const node = openWritable(file);
    writePacked(node, new Uint8Array(4 * MiB).fill(7));
    node.flush();
    node.close();
    expect(checkByUs(file)).toEqual([]);
    const bytes = fs.readFileSync(file);
    bytes.writeUInt32LE(5, 64 * KiB);
    fs.writeFileSync(file, bytes);
    expect(checkByUs(file)).toEqual([
      expect.stringMatching(/ERROR: sector 0: The marker .* it is for sector 5, not 0/),
    ]);
  });

  it('tells the first of many findings one by one, the others as a number', () => {
    const file = damaged((bytes) => {
      for (let i = 0; i < 64; i++) both(bytes, i, 0x1000000);
    });
    const node = openNode(file, { forRepair: true });
    const found = [...(vmdk.check?.(node, silentJob) ?? [])].filter(({ severity }) => severity === 'corruption');
    node.close();
    expect(found).toHaveLength(51);
    expect(found.reduce((sum, { count: part }) => sum + part, 0)).toBe(64);
  });

  it('puts right what needs no guessing', () => {
    const file = damaged((bytes) => {
      bytes.writeUInt32LE(0, redundantTable + 8);
      bytes.writeUInt32LE(128, redundantTable + 12);
      bytes.write('RW 7000 ', bytes.indexOf('RW 8192 '), 'latin1');
    });
    const repair = (what: 'leaks' | 'all') => {
      const node = openWritable(file, { forRepair: true });
      try {
        return vmdk.repair?.(node, what, silentJob);
      } finally {
        node.close();
      }
    };
    const before = fs.readFileSync(file, 'latin1');
    expect(repair('leaks')).toEqual({ leaks: 0, corruptions: 0 });
    expect(fs.readFileSync(file, 'latin1')).toBe(before);
    expect(repair('all')).toEqual({ leaks: 1, corruptions: 2 });
    expect(checkByUs(file)).toEqual([]);
    expect(repair('all')).toEqual({ leaks: 0, corruptions: 0 });
    expect(wrongByQemu(file, Buffer.concat([Buffer.alloc(MiB, 1), Buffer.alloc(3 * MiB)]))).toBeNull();
  });
});

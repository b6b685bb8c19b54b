// compact with what the guest's file systems mark free: it is given back, and the file systems and their files stay whole.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import { check } from '../../../core/operations/check.ts';
import { describeWith, mustRun, peer, runPeer } from '../../peers.ts';

import { MiB } from '../../../core/block/units.ts';
import { at, compacted, digest, folder } from './compact-disks.ts';

const formats = ['raw', 'qcow2', 'vdi', 'vpc', 'vhdx', 'vmdk', 'qcow'];

describeWith(
  {
    peers: [
      'qemu-img',
      'qemu-io',
      'mke2fs',
      'debugfs',
      'e2fsck',
      'mkfs.fat',
      'mcopy',
      'mdel',
      'fsck.fat',
      'mkntfs',
      'ntfscp',
      'ntfscat',
      'ntfsfix',
      'sfdisk',
    ],
  },
  'compact --zero-unused',
  () => {
    const ext = { start: 1, length: 40 };
    const fat = { start: 41, length: 40 };
    const ntfs = { start: 81, length: 40 };
    const swap = { start: 121, length: 4 };
    const kept = crypto.randomBytes(5 * MiB);

    /** Every file system with a file that stays, and deleted files that took twice its space. */
    beforeAll(() => {
      fs.writeFileSync(path.join(folder, 'kept'), kept);
      const part = (name: string, { length }: { length: number }): string => {
        fs.writeFileSync(path.join(folder, name), '');
        fs.truncateSync(path.join(folder, name), length * MiB);
        return name;
      };
      mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', part('ext', ext)], at);
      fs.writeFileSync(path.join(folder, 'script'), 'write kept a\nwrite kept b\nwrite kept c\nrm a\nrm b\n');
      mustRun('debugfs', ['-w', '-f', 'script', 'ext'], at);
      mustRun('mkfs.fat', ['-F', '16', part('fat', fat)], at);
      for (const name of ['a', 'b', 'c']) mustRun('mcopy', ['-i', 'fat', 'kept', `::${name}`], at);
      mustRun('mdel', ['-i', 'fat', '::a', '::b'], at);
      mustRun('mkntfs', ['-q', '-F', '-f', part('ntfs', ntfs)], at);
      mustRun('ntfscp', ['-q', 'ntfs', 'kept', 'c'], at);
      fillFreeClusters('ntfs');
      part('swap', swap);
      const header = Buffer.alloc(4096, 0);
      header.write('SWAPSPACE2', 4086);
      fs.writeFileSync(path.join(folder, 'swap'), Buffer.concat([header, Buffer.alloc(swap.length * MiB - 4096, 5)]));
      part('guest.raw', { length: 130 });
      const lines = [ext, fat, ntfs, swap].map(({ start, length }) => `start=${start}MiB, size=${length}MiB`);
      mustRun('sfdisk', ['-q', 'guest.raw'], { ...at, input: `label: gpt\n${lines.join('\n')}\n` });
      const disk = fs.openSync(path.join(folder, 'guest.raw'), 'r+');
      for (const [name, { start }] of Object.entries({ ext, fat, ntfs, swap })) {
        const bytes = fs.readFileSync(path.join(folder, name));
        fs.writeSync(disk, bytes, 0, bytes.length, start * MiB);
      }
      fs.closeSync(disk);
    });

    const cutOut = (file: string, name: string, { start, length }: { start: number; length: number }): void => {
      const bytes = Buffer.alloc(length * MiB);
      const disk = fs.openSync(path.join(folder, file), 'r');
      fs.readSync(disk, bytes, 0, bytes.length, start * MiB);
      fs.closeSync(disk);
      fs.writeFileSync(path.join(folder, name), bytes);
    };

    it.each(formats)(
      '%s: gives back what was deleted; file systems are sound and their files the same',
      async (format) => {
        mustRun('qemu-img', ['convert', '-f', 'raw', '-O', format, 'guest.raw', 'guest'], at);
        const report = await compacted('guest', format, { zeroUnused: true });
        const systems = report.fileSystems.map(({ partition, kind, refused }) => [partition, kind, refused === null]);
        expect(systems).toEqual([
          [1, 'ext4', true],
          [2, 'fat16', true],
          [3, 'ntfs', true],
          [4, 'swap', false],
        ]);
        expect(report.before.allocated - (report.after?.allocated ?? 0)).toBeGreaterThan(
          format === 'vhdx' ? 20 * MiB : 25 * MiB,
        );
        if (format !== 'raw') {
          const options = { format };
          const checked = await check({ path: path.join(folder, 'guest'), options, limit: 9, repair: null }, silentJob);
          expect(checked).toMatchObject({ corruptions: 0, leaks: 0, errors: 0 });
        }
        mustRun('qemu-img', ['convert', '-f', format, '-O', 'raw', 'guest', 'after.raw'], at);
        cutOut('after.raw', 'ext2', ext);
        cutOut('after.raw', 'fat2', fat);
        cutOut('after.raw', 'ntfs2', ntfs);
        cutOut('after.raw', 'swap2', swap);
        expect(runPeer('e2fsck', ['-fn', 'ext2'], at)).toMatchObject({ status: 0 });
        mustRun('debugfs', ['-R', 'dump c dumped', 'ext2'], at);
        expect(digest('dumped')).toBe(digest('kept'));
        expect(runPeer('fsck.fat', ['-n', 'fat2'], at)).toMatchObject({ status: 0 });
        fs.rmSync(path.join(folder, 'dumped'));
        mustRun('mcopy', ['-i', 'fat2', '::c', 'dumped'], at);
        expect(digest('dumped')).toBe(digest('kept'));
        expect(runPeer('ntfsfix', ['-n', 'ntfs2'], at)).toMatchObject({ status: 0 });
        const got = crypto.createHash('sha256').update(ntfscat('ntfs2', 'c')).digest('hex');
        expect(got).toBe(digest('kept'));
        expect(digest('swap2')).toBe(digest('swap'));
      },
    );

    it('touches nothing when only an estimate is asked for', async () => {
      mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', 'guest.raw', 'guest'], at);
      const before = digest('guest');
      const report = await compacted('guest', 'qcow2', { zeroUnused: true, estimate: true });
      expect(report.after).toBe(null);
      expect(report.steps.unused).toBeGreaterThan(25 * MiB);
      expect(report.fileSystems.map(({ free }) => free > 20 * MiB)).toEqual([true, true, true, false]);
      expect(digest('guest')).toBe(before);
    });

    it('leaves a file system alone that was not unmounted', async () => {
      const bytes = fs.readFileSync(path.join(folder, 'guest.raw'));
      bytes.writeUInt16LE(0, ext.start * MiB + 1024 + 0x3a);
      fs.writeFileSync(path.join(folder, 'dirty.raw'), bytes);
      cutOut('dirty.raw', 'ext1', ext);
      const report = await compacted('dirty.raw', 'raw', { zeroUnused: true });
      expect(report.fileSystems[0]).toMatchObject({
        kind: 'ext4',
        free: 0,
        refused: 'it was not unmounted cleanly',
      });
      cutOut('dirty.raw', 'ext2', ext);
      expect(digest('ext2')).toBe(digest('ext1'));
    });
  },
);

/** What ntfscat finds in an NTFS. */
function ntfscat(...args: string[]): Buffer {
  const program = peer('ntfscat');
  if (program === null) throw new Error('ntfscat is not there');
  return execFileSync(program, ['-f', ...args], { cwd: folder, maxBuffer: 64 * MiB });
}

/** As if files had stood there: there is no program that deletes a file of an NTFS that is not mounted. */
function fillFreeClusters(image: string): void {
  const bitmap = ntfscat('-i', '6', image);
  const file = path.join(folder, image);
  const bytes = fs.readFileSync(file);
  const clusterSize = bytes.readUInt16LE(11) * (bytes[13] ?? 0);
  let filled = 0;
  for (let cluster = 0; filled < 10 * MiB && (cluster + 1) * clusterSize < bytes.length; cluster++) {
    if (((bitmap[cluster >> 3] ?? 0) & (1 << (cluster & 7))) !== 0) continue;
    bytes.fill(0x5a, cluster * clusterSize, (cluster + 1) * clusterSize);
    filled += clusterSize;
  }
  fs.writeFileSync(file, bytes);
}

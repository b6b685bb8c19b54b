// compact over images of every format: the file gets smaller, and qemu-img finds the same disk in it.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun } from '../../peers.ts';

import { KiB, MiB } from '../../../core/block/units.ts';
import { at, compacted, digest, folder, lengthOf, make, sameDisk, sound, toRaw } from './compact-disks.ts';

/** Format, creation options, how it is done, bytes of the file afterwards at most. */
const shrinking: readonly (readonly [string, string, string, number])[] = [
  ['qcow2', '', 'moves', 8 * MiB],
  ['qcow2', 'compat=0.10,cluster_size=4k', 'moves', 8 * MiB],
  ['qcow2', 'extended_l2=on,cluster_size=128k', 'moves', 9 * MiB],
  ['qcow2', 'lazy_refcounts=on,refcount_bits=1,cluster_size=2k', 'moves', 10 * MiB],
  ['qcow2', 'preallocation=falloc', 'moves', 8 * MiB],
  ['vdi', '', 'moves', 10 * MiB],
  ['vpc', '', 'moves', 13 * MiB],
  ['vhdx', 'block_size=1M', 'moves', 14 * MiB],
  ['qcow', '', 'rewrite', 8 * MiB],
  ['vmdk', '', 'rewrite', 8 * MiB],
];

/** The file keeps its length; of the disk it takes this much afterwards at most. */
const withHoles: readonly (readonly [string, string])[] = [
  ['raw', ''],
  ['vpc', 'subformat=fixed'],
  ['vdi', 'static=on'],
  ['vhdx', 'subformat=fixed'],
  ['vmdk', 'subformat=monolithicFlat'],
  ['qcow2', 'data_file=outside.raw,data_file_raw=on'],
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'compact', () => {
  it.each(shrinking)('%s (%s) by %s: the file gets smaller', async (format, options, way, most) => {
    make(format, options, 'disk');
    toRaw(format, 'disk', 'disk.raw');
    const before = digest('disk');
    const foreseen = await compacted('disk', format, { estimate: true });
    expect(digest('disk')).toBe(before);
    expect(foreseen).toMatchObject({ way, after: null });
    const report = await compacted('disk', format);
    expect(report).toEqual({ ...foreseen, after: report.after });
    const size = lengthOf('disk');
    expect(report.after?.length).toBe(size);
    expect(size).toBeLessThan(most);
    // Tables that become empty, and rounding to units, are not foreseen.
    expect(Math.abs(report.length - size)).toBeLessThan(2 * MiB);
    await sound(format, 'disk');
    sameDisk(format, 'disk', 'disk.raw');
    const again = await compacted('disk', format, { estimate: true });
    expect(again.steps).toMatchObject({ zero: 0, leaked: 0 });
    // And it can still be written to.
    const more = ['-c', 'write -q -P 9 2M 3M', '-c', 'write -q -P 9 26M 2M'];
    mustRun('qemu-io', ['-f', format, ...more, 'disk'], at);
    mustRun('qemu-io', ['-f', 'raw', ...more, 'disk.raw'], at);
    await sound(format, 'disk');
    sameDisk(format, 'disk', 'disk.raw');
  });

  it.each(withHoles)('%s (%s): zeroes become holes, the file keeps its length', async (format, options) => {
    fs.rmSync(path.join(folder, 'outside.raw'), { force: true });
    make(format, options, 'flat.vmdk', ['write -q -P 1 0 6M', 'write -q -P 2 20M 2M', 'write -q -P 0 0 5M']);
    toRaw(format, 'flat.vmdk', 'flat.raw');
    const report = await compacted('flat.vmdk', format);
    expect(report.way).toBe('holes');
    expect(report.after?.length).toBe(report.before.length);
    expect(report.before.allocated - (report.after?.allocated ?? 0)).toBeGreaterThanOrEqual(5 * MiB - 64 * KiB);
    expect(report.steps.zeroHoles).toBe(5 * MiB);
    await sound(format, 'flat.vmdk');
    sameDisk(format, 'flat.vmdk', 'flat.raw');
  });

  it.each(['streamOptimized', 'twoGbMaxExtentSparse'])(
    'a %s vmdk is written anew as what it was',
    async (subformat) => {
      make('vmdk', '', 'source.vmdk');
      const args = ['convert', '-O', 'vmdk', '-S', '0', '-o', `subformat=${subformat},adapter_type=lsilogic`];
      mustRun('qemu-img', [...args, 'source.vmdk', 'kind.vmdk'], at);
      toRaw('vmdk', 'kind.vmdk', 'kind.raw');
      const cid = /^\s+cid: .*$/m.exec(mustRun('qemu-img', ['info', 'kind.vmdk'], at))?.[0];
      expect(await compacted('kind.vmdk', null)).toMatchObject({ way: 'rewrite' });
      const info = mustRun('qemu-img', ['info', 'kind.vmdk'], at);
      expect(info).toContain(`create type: ${subformat}`);
      expect(info).toContain(cid ?? 'no cid');
      await sound('vmdk', 'kind.vmdk');
      sameDisk('vmdk', 'kind.vmdk', 'kind.raw');
    },
  );
});

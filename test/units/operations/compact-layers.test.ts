// compact of images that hold more than a plain disk: layers below, snapshots, compressed and encrypted clusters; and what is refused.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { isWritable } from '../../../core/block/node.ts';
import { readGuest } from '../../../core/block/read.ts';
import { writeGuest } from '../../../core/block/write.ts';
import { openImage } from '../../../core/formats/open.ts';
import { silentJob } from '../../../core/job.ts';
import { check } from '../../../core/operations/check.ts';
import { create, type CreateParams } from '../../../core/operations/create.ts';
import { describeWith, mustRun, runQemuImg } from '../../peers.ts';

import { KiB, MiB } from '../../../core/block/units.ts';
import { at, compacted, digest, folder, lengthOf, make, sameDisk, sound, toRaw } from './compact-disks.ts';

/** By ourselves: qemu-img measures the machine first, and gives up on a busy one. */
async function makeEncrypted(
  name: string,
  format: string,
  options: CreateParams['options'],
  size: number,
): Promise<void> {
  const secret = (): Uint8Array => Buffer.from('abc');
  await create(
    { path: path.join(folder, name), format, size, options, backing: null, unsafe: false, secret },
    silentJob,
  );
}

/** An overlay that holds data and zeroes over the base, and zeroes behind what the base holds. */
async function makeOverlay(format: string, options: string, base: string, name: string): Promise<void> {
  fs.rmSync(path.join(folder, name), { force: true });
  const [key = '', value = ''] = options.split('=');
  await create(
    {
      path: path.join(folder, name),
      format,
      size: null,
      options: options === '' ? {} : { [key]: key === 'block_size' ? MiB : value },
      backing: { path: base, format },
      unsafe: false,
    },
    silentJob,
  );
  const { node } = openImage(path.join(folder, name), { format, writable: true });
  if (!isWritable(node)) throw new Error('read-only');
  writeGuest(node, new Uint8Array(10 * MiB).fill(1), 0);
  writeGuest(node, new Uint8Array(6 * MiB), 4 * MiB);
  writeGuest(node, new Uint8Array(2 * MiB), 16 * MiB);
  node.flush();
  node.close();
}

function contentOf(name: string, format: string): Uint8Array {
  const { node } = openImage(path.join(folder, name), { format });
  const bytes = new Uint8Array(node.size);
  readGuest(node, bytes, 0);
  node.close();
  return bytes;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'compact', () => {
  it('compressed clusters of qcow2 move too, and stay compressed when the image is written anew', async () => {
    // Data in front of compressed clusters go away: those must move down.
    make('qcow2', 'cluster_size=4k', 'mixed.qcow2', [
      'write -q -P 1 0 4M',
      ...Array.from({ length: 60 }, (_, i) => `write -q -c -P ${i + 2} ${10 * 1024 + i * 4}k 4k`),
      'write -q -P 0 0 4M',
    ]);
    toRaw('qcow2', 'mixed.qcow2', 'mixed.raw');
    await compacted('mixed.qcow2', 'qcow2');
    expect(lengthOf('mixed.qcow2')).toBeLessThan(400 * KiB);
    await sound('qcow2', 'mixed.qcow2');
    sameDisk('qcow2', 'mixed.qcow2', 'mixed.raw');
    make('qcow2', '', 'loose.qcow2', ['write -q -P 5 0 20M']);
    mustRun('qemu-img', ['convert', '-O', 'qcow2', '-c', 'loose.qcow2', 'packed.qcow2'], at);
    toRaw('qcow2', 'packed.qcow2', 'packed.raw');
    const size = lengthOf('packed.qcow2');
    await compacted('packed.qcow2', 'qcow2', { rewrite: true });
    expect(lengthOf('packed.qcow2')).toBeLessThan(size + 256 * KiB);
    await sound('qcow2', 'packed.qcow2');
    sameDisk('qcow2', 'packed.qcow2', 'packed.raw');
  });

  it('what snapshots of qcow2 share stays, and they hold what they held', async () => {
    const name = 'snapshots.qcow2';
    make('qcow2', '', name, ['write -q -P 1 0 5M', 'write -q -P 0 3M 2M']);
    mustRun('qemu-img', ['snapshot', '-c', 'one', name], at);
    const more = ['write -q -P 0 0 3M', 'write -q -P 4 20M 5M', 'write -q -P 2 10M 5M', 'write -q -P 0 20M 4M'];
    mustRun('qemu-io', [...more.flatMap((command) => ['-c', command]), name], at);
    toRaw('qcow2', name, 'now.raw');
    mustRun('qemu-img', ['convert', '-l', 'one', '-O', 'raw', name, 'then.raw'], at);
    const report = await compacted(name, null);
    expect(report.steps.zero).toBe(7 * MiB);
    expect(report.before.length - lengthOf(name)).toBeGreaterThan(6 * MiB);
    await sound('qcow2', name);
    sameDisk('qcow2', name, 'now.raw');
    mustRun('qemu-img', ['convert', '-l', 'one', '-O', 'raw', name, 'after.raw'], at);
    expect(digest('after.raw')).toBe(digest('then.raw'));
    await expect(compacted(name, null, { rewrite: true })).rejects.toThrow(
      'cannot be written anew: it would lose its snapshots',
    );
  });

  it('clusters of an encrypted qcow2 move and can still be read', async () => {
    const object = ['--object', 'secret,id=s,data=abc'];
    const options = { 'encrypt.format': 'luks', 'encrypt.key-secret': 's', 'encrypt.iter-time': 10 };
    await makeEncrypted('secret.qcow2', 'qcow2', options, 30 * MiB);
    const described = 'driver=qcow2,encrypt.key-secret=s,file.filename=secret.qcow2';
    const commands = ['write -q -P 1 0 5M', 'write -q -P 2 20M 2M', 'write -q -P 0 0 4M'];
    mustRun('qemu-io', [...object, '--image-opts', ...commands.flatMap((c) => ['-c', c]), described], at);
    mustRun('qemu-img', ['convert', ...object, '--image-opts', '-O', 'raw', described, 'secret.raw'], at);
    const before = lengthOf('secret.qcow2');
    await compacted('secret.qcow2', 'qcow2', {
      options: { format: 'qcow2', runtime: { 'encrypt.key-secret': 's' }, secret: () => Buffer.from('abc') },
    });
    expect(before - lengthOf('secret.qcow2')).toBeGreaterThan(3 * MiB);
    mustRun('qemu-img', ['convert', ...object, '--image-opts', '-O', 'raw', described, 'secret2.raw'], at);
    expect(digest('secret2.raw')).toBe(digest('secret.raw'));
    expect(runQemuImg(['check', ...object, '--image-opts', described], at)).toMatchObject({ status: 0 });
  });

  it('leaked clusters of qcow2 are freed', async () => {
    make('qcow2', '', 'leak.qcow2', ['write -q -P 1 0 4M']);
    // The L2 table is forgotten: it and all data are counted, and nothing refers to them.
    const file = path.join(folder, 'leak.qcow2');
    const bytes = fs.readFileSync(file);
    bytes.fill(0, Number(bytes.readBigUInt64BE(40)), Number(bytes.readBigUInt64BE(40)) + 8);
    fs.writeFileSync(file, bytes);
    const report = await compacted('leak.qcow2', null);
    expect(report.steps.leaked).toBe(65 * 64 * KiB);
    expect(lengthOf('leak.qcow2')).toBeLessThan(512 * KiB);
    await sound('qcow2', 'leak.qcow2');
  });

  /** Whether zeroes over what is below can be given up. */
  const overlays: readonly (readonly [string, string, boolean])[] = [
    ['qcow2', '', true],
    ['qcow2', 'compat=0.10', false],
    ['vdi', '', true],
    ['vhdx', 'block_size=1M', true],
    ['vpc', '', false],
    ['vmdk', '', false],
    ['qcow', '', false],
  ];

  it.each(overlays)('an overlay in %s (%s) never shows the layer below', async (format, options, gains) => {
    const base = `base.${format}`;
    make(format, '', base, ['write -q -P 7 0 12M'], '20M');
    await makeOverlay(format, options, base, 'top');
    const before = contentOf('top', format);
    expect(before.subarray(0, 4 * MiB).every((byte) => byte === 1)).toBe(true);
    expect(before.subarray(4 * MiB, 10 * MiB).every((byte) => byte === 0)).toBe(true);
    const below = digest(base);
    const report = await compacted('top', format);
    expect(Buffer.compare(contentOf('top', format), before)).toBe(0);
    expect(digest(base)).toBe(below);
    expect(report.steps.zero > 4 * MiB).toBe(gains);
    if (gains) expect(report.before.length - lengthOf('top')).toBeGreaterThan(4 * MiB);
    const found = await check(
      { path: path.join(folder, 'top'), options: { format }, limit: 9, repair: null },
      silentJob,
    );
    expect(found).toMatchObject({ corruptions: 0, leaks: 0, errors: 0 });
  });

  it('says why where it cannot', async () => {
    make('qcow2', '', 'bad.qcow2', ['write -q -P 1 0 1M']);
    const bad = fs.readFileSync(path.join(folder, 'bad.qcow2'));
    // A second reference to a data cluster.
    const l2 = Number(bad.readBigUInt64BE(Number(bad.readBigUInt64BE(40))) & 0xff_ffff_ffff_fe00n);
    bad.copy(bad, l2 + 8, l2, l2 + 8);
    fs.writeFileSync(path.join(folder, 'bad.qcow2'), bad);
    await expect(compacted('bad.qcow2', null)).rejects.toThrow(/The image has errors/);
    await makeEncrypted('x.luks', 'luks', { 'key-secret': 's', 'iter-time': 10 }, MiB);
    const options = { format: 'luks', runtime: { 'key-secret': 's' }, secret: () => Buffer.from('abc') };
    await expect(compacted('x.luks', 'luks', { options })).rejects.toThrow(/every sector of an encrypted disk/);
    make('qcow2', '', 'bitmap.qcow2', ['write -q -P 1 0 1M']);
    mustRun('qemu-img', ['bitmap', '--add', 'bitmap.qcow2', 'daily'], at);
    mustRun('qemu-io', ['-c', 'write -q -P 0 512k 512k', 'bitmap.qcow2'], at);
    await expect(compacted('bitmap.qcow2', null, { zeroUnused: true })).rejects.toThrow(/the image has bitmaps/);
    // Zeroes alone do not change what the guest reads: bitmaps stay good.
    expect((await compacted('bitmap.qcow2', null)).steps.zero).toBe(512 * KiB);
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', 'bitmap.qcow2'], at)) as {
      'format-specific': { data: { bitmaps: { name: string; flags: string[] }[] } };
    };
    expect(info['format-specific'].data.bitmaps).toMatchObject([{ name: 'daily', flags: ['auto'] }]);
    await sound('qcow2', 'bitmap.qcow2');
  });
});

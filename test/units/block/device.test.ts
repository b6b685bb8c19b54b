// Block devices as Storage, on a loop device.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openFile, type FileOptions } from '../../../core/block/file.ts';
import { host } from '../../../core/block/host/host.ts';
import { fallbackCalls } from '../../../core/block/host/fallback.ts';
import { KiB, MiB } from '../../../core/block/units.ts';
import { describeWith, mustRun, runPeer } from '../../peers.ts';
import { coded, read, thrown } from './file-suite.ts';
import { scratchFolder } from './scratch.ts';

const folder = scratchFolder();
const size = 64 * MiB + 512;
const behind = path.join(folder, 'behind');
const writing: FileOptions = { writable: true, lock: 'write' };

/** The name of a loop device over a file, or why there is none. */
function attach(behind: string, ...more: string[]): { device: string; reason: null } | { device: ''; reason: string } {
  if (process.platform !== 'linux') return { device: '', reason: 'only Linux has loop devices' };
  fs.writeFileSync(behind, '');
  fs.truncateSync(behind, more.length === 0 ? size : 64 * MiB);
  const child = spawnSync('losetup', ['--find', '--show', ...more, behind], { encoding: 'utf8' });
  if (child.status !== 0) return { device: '', reason: `no loop device: ${child.stderr?.trim() ?? 'no losetup'}` };
  const device = child.stdout.trim();
  afterAll(() => void spawnSync('losetup', ['-d', device]));
  return { device, reason: null };
}

const { device, reason } = attach(behind);
const wide = attach(path.join(folder, 'wide'), '--sector-size', '4096');

describeWith({ peers: ['qemu-img'], unless: reason }, 'a block device', () => {
  it('has its true size, also when only reading can find it', () => {
    const storage = openFile(device, { writable: false, lock: 'read' });
    expect(storage.size).toBe(size);
    expect(storage.allocated()).toBe(size);
    expect(fallbackCalls.deviceSize(storage.descriptor ?? -1)).toBe(size);
    expect(host().deviceSectorSize(storage.descriptor ?? -1)).toBe(512);
    expect(storage.extentAt(100, size)).toEqual({ kind: 'data', length: size - 100 });
    expect(storage.identity).toMatch(/^device:\d+$/);
    storage.close();
  });

  it('holds what is written anywhere, to the last byte', () => {
    const storage = openFile(device, writing);
    storage.writeAt(coded(0, MiB), 12345);
    storage.writeAt(coded(0, 512), size - 512);
    storage.flush();
    storage.close();
    const content = fs.readFileSync(behind);
    expect(content.length).toBe(size);
    expect(content.subarray(12345, 12345 + MiB).equals(coded(0, MiB))).toBe(true);
    expect(content.subarray(size - 512).equals(coded(0, 512))).toBe(true);
  });

  it('is full at its end', () => {
    const storage = openFile(device, writing);
    const error = thrown(() => storage.writeAt(coded(0, 1024), size - 512));
    expect([error.code, error.message]).toEqual(['storage/write', 'No space left on device']);
    expect(thrown(() => storage.zeroAt(size - 512, 1024)).message).toBe('No space left on device');
    expect(thrown(() => read(storage, size - 8, 16)).code).toBe('storage/short-read');
    expect(storage.size).toBe(size);
    storage.close();
  });

  it('cannot grow, and need not shrink', () => {
    const storage = openFile(device, writing);
    storage.truncate(MiB);
    expect(storage.size).toBe(size);
    const error = thrown(() => storage.truncate(size + 1));
    expect([error.code, error.message]).toEqual(['storage/truncate', 'Cannot grow device files']);
    storage.close();
    expect(fs.statSync(behind).size).toBe(size);
  });

  it.each([
    [0, 4 * MiB],
    [100, 5],
    [511, 2],
    [1000, 3 * MiB + 77],
    [4096, 512],
  ])('zeroAt(%d, %d) makes zeroes of exactly that', (offset, length) => {
    const storage = openFile(device, writing);
    storage.writeAt(coded(0, 8 * MiB), 0);
    storage.zeroAt(offset, length);
    const expected = coded(0, 8 * MiB).fill(0, offset, offset + length);
    expect(read(storage, 0, 8 * MiB).equals(expected)).toBe(true);
    storage.close();
  });

  it('gives space back where the device promises zeroes for it', () => {
    const storage = openFile(device, writing);
    storage.writeAt(coded(0, 32 * MiB), 0);
    storage.flush();
    const before = fs.statSync(behind).blocks;
    expect(host().zeroDevice(storage.descriptor ?? -1, 0, 32 * MiB, true)).toBe(true);
    storage.flush();
    expect(fs.statSync(behind).blocks).toBeLessThan(before - (16 * MiB) / 512);
    storage.writeAt(coded(0, 64 * KiB), 0);
    expect(host().zeroDevice(storage.descriptor ?? -1, 0, 32 * KiB, false)).toBe(true);
    expect(read(storage, 0, 32 * KiB).equals(Buffer.alloc(32 * KiB))).toBe(true);
    storage.close();
  });

  it('space is provided by writing zeroes, or is there already', () => {
    const storage = openFile(device, writing);
    storage.writeAt(coded(0, MiB), 0);
    storage.provide(0, MiB, 'falloc');
    expect(read(storage, 0, MiB).equals(coded(0, MiB))).toBe(true);
    storage.provide(0, MiB, 'full');
    expect(read(storage, 0, MiB).equals(Buffer.alloc(MiB))).toBe(true);
    storage.close();
  });

  it('is locked like a file', () => {
    const storage = openFile(device, writing);
    const { stderr } = runPeer('qemu-img', ['bench', '-w', '-c', '1', '-f', 'raw', device]);
    expect(stderr).toContain('Failed to get "write" lock');
    storage.close();
    expect(runPeer('qemu-img', ['bench', '-w', '-c', '1', '-f', 'raw', device]).status).toBe(0);
  });

  it('is the same disk to qemu-img', () => {
    const storage = openFile(device, writing);
    storage.writeAt(coded(0, MiB), 3 * MiB);
    storage.flush();
    storage.close();
    const info = JSON.parse(mustRun('qemu-img', ['info', '-f', 'raw', '--output=json', device])) as Record<
      string,
      unknown
    >;
    expect(info['virtual-size']).toBe(size);
    expect(mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', device, behind])).toContain(
      'Images are identical',
    );
  });
});

describeWith({ unless: wide.reason }, 'a block device with sectors of 4096 bytes', () => {
  it.each([
    [512, 1024],
    [4000, 200],
    [512, 2 * MiB],
  ])('zeroAt(%d, %d) makes zeroes of exactly that', (offset, length) => {
    const storage = openFile(wide.device, writing);
    expect([storage.size, host().deviceSectorSize(storage.descriptor ?? -1)]).toEqual([64 * MiB, 4096]);
    storage.writeAt(coded(0, 4 * MiB), 0);
    storage.zeroAt(offset, length);
    const expected = coded(0, 4 * MiB).fill(0, offset, offset + length);
    expect(read(storage, 0, 4 * MiB).equals(expected)).toBe(true);
    storage.close();
  });
});

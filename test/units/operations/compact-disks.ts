// The disks that compact is tried on, and what must be true of them afterwards.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import { check } from '../../../core/operations/check.ts';
import { compact, type CompactParams, type CompactResult } from '../../../core/operations/compact.ts';
import { mustRun, runQemuImg } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

/** Where the images of one test file are. */
export const folder = scratchFolder('compact');
export const at = { cwd: folder };

/** Compacts an image of the folder; its format may be probed (null). */
export function compacted(
  name: string,
  format: string | null,
  how: Partial<CompactParams> = {},
): Promise<CompactResult> {
  const params = {
    path: path.join(folder, name),
    options: { format },
    estimate: false,
    zeroUnused: false,
    rewrite: false,
  };
  return compact({ ...params, ...how }, silentJob);
}

/** Bytes of a file of the folder. */
export function lengthOf(name: string): number {
  return fs.statSync(path.join(folder, name)).size;
}

/** SHA-256 of a file of the folder. */
export function digest(file: string): string {
  return crypto
    .createHash('sha256')
    .update(fs.readFileSync(path.join(folder, file)))
    .digest('hex');
}

/** A disk whose blocks stand in another order in the file than on the disk, half of them zeroes by now. */
export const writes = [
  'write -q -P 3 20M 5M',
  'write -q -P 1 0 5M',
  'write -q -P 2 10M 5M',
  'write -q -P 0 0 4M',
  'write -q -P 0 21M 4M',
  'write -q -P 0 12M 300k',
];

/** Makes an image of the folder with qemu-img, written by qemu-io. */
export function make(
  format: string,
  options: string,
  name: string,
  commands: readonly string[] = writes,
  size = '30M',
): void {
  if (format === 'qcow') {
    // qemu-io writes to it as slowly as can be.
    make('raw', '', `${name}.from`, commands, size);
    mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow', '-S', '0', `${name}.from`, name], at);
    return;
  }
  const given = options === '' ? [] : ['-o', options];
  mustRun('qemu-img', ['create', '-q', '-f', format, ...given, name, size], at);
  mustRun('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), name], at);
}

/** The content of an image, as qemu-img reads it. */
export function toRaw(format: string, name: string, raw: string): void {
  mustRun('qemu-img', ['convert', '-f', format, '-O', 'raw', name, raw], at);
}

/** Expects qemu-img to find the content of `raw` in the image. */
export function sameDisk(format: string, name: string, raw: string): void {
  const { status, stdout, stderr } = runQemuImg(['compare', '-f', format, '-F', 'raw', name, raw], at);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'Images are identical.\n', stderr: '' });
}

/** Nothing is wrong with the image, for us and for qemu-img. */
export async function sound(format: string, name: string): Promise<void> {
  if (['qcow2', 'vdi', 'vhdx', 'vmdk'].includes(format)) {
    const { status, stderr } = runQemuImg(['check', '-q', '-f', format, name], at);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  }
  if (format === 'raw') return;
  const options = { format, guestData: false };
  const found = await check({ path: path.join(folder, name), options, limit: 9, repair: null }, silentJob);
  expect(found).toMatchObject({ corruptions: 0, leaks: 0, errors: 0, findings: [] });
}

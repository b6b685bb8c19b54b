// Room in the middle of the file that a smaller disk or a deleted snapshot leaves free: the host has it back, unless undo needs it.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { OpenOptions, UndoMode } from '../../../core/formats/open.ts';
import { silentJob } from '../../../core/job.ts';
import { resize } from '../../../core/operations/resize.ts';
import { snapshot } from '../../../core/operations/snapshot.ts';
import { undo } from '../../../core/operations/undo.ts';
import { describeWith, mustRun, runQemuImg } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const MiB = 1024 * 1024;
const scratch = scratchFolder('room');
let count = 0;

const allocated = (file: string): number => fs.statSync(file).blocks * 512;

/** 8 MiB of what goes stand before 1 MiB of what stays. */
function newImage(): string {
  const file = path.join(scratch, `${count++}.qcow2`);
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '64M']);
  mustRun('qemu-io', ['-c', 'write -P 1 32M 8M', '-c', 'write -P 2 0 1M', file]);
  return file;
}

async function shrink(file: string, undo: UndoMode): Promise<void> {
  const options: OpenOptions = { format: 'qcow2', undo };
  await resize(
    { path: file, options, bytes: 16 * MiB, by: 'absolute', preallocation: 'off', shrink: true, fixGpt: false },
    silentJob,
  );
}

/** Refcount blocks (of 64 refcounts of 64 bits) that count nothing but, possibly, themselves. */
function uselessBlocks(file: string): number[] {
  const bytes = fs.readFileSync(file);
  const [cluster, perBlock] = [512, 64];
  const table = Number(bytes.readBigUInt64BE(48));
  const entries = (bytes.readUInt32BE(56) * cluster) / 8;
  const useless: number[] = [];
  for (let index = 0; index < entries; index++) {
    const at = Number(bytes.readBigUInt64BE(table + 8 * index));
    if (at === 0) continue;
    const counts = Array.from({ length: perBlock }, (_, i) => bytes.readBigUInt64BE(at + 8 * i));
    if (counts.every((count, i) => count === 0n || index * perBlock + i === at / cluster)) useless.push(index);
  }
  return useless;
}

function expectSound(file: string): void {
  expect(runQemuImg(['check', '-f', 'qcow2', file]).status).toBe(0);
  expect(mustRun('qemu-io', ['-r', '-c', 'read -P 2 0 1M', file])).not.toContain('failed');
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'room that is free now', () => {
  it.each(['none', 'rollback'] as const)('resize --shrink gives it back (journal: %s)', async (mode) => {
    const file = newImage();
    const before = allocated(file);
    await shrink(file, mode);
    expect(before - allocated(file)).toBeGreaterThanOrEqual(8 * MiB);
    // It stands before data that is in use: the file itself cannot have become shorter by it.
    expect(fs.statSync(file).size).toBeGreaterThan(8 * MiB);
    expectSound(file);
  });

  it('resize --shrink leaves it where undo is kept, and undo has it all', async () => {
    const file = newImage();
    const plain = path.join(scratch, 'before.raw');
    mustRun('qemu-img', ['convert', '-O', 'raw', file, plain]);
    await shrink(file, 'keep');
    expect(allocated(file)).toBeGreaterThan(8 * MiB);
    expectSound(file);
    await undo({ path: file, dryRun: false }, silentJob);
    expect(runQemuImg(['compare', file, plain]).status).toBe(0);
    expectSound(file);
  });

  it('resize --shrink leaves no refcount block that counts nothing, wherever it is', async () => {
    const file = path.join(scratch, `${count++}.qcow2`);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512,refcount_bits=64', file, '24M']);
    mustRun('qemu-io', [16, 0, 20, 12, 8].flatMap((at) => ['-c', `write -P 2 ${at}M 1M`]).concat(file));
    await shrink(file, 'none');
    expect(uselessBlocks(file)).toEqual([]);
    expectSound(file);
  });

  it.each([
    ['on', 8 * MiB],
    ['off', 0],
  ] as const)('snapshot -d with pass-discard-snapshot=%s', async (setting, least) => {
    const file = path.join(scratch, `${count++}.qcow2`);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '64M']);
    mustRun('qemu-io', ['-c', 'write -P 1 0 8M', file]);
    mustRun('qemu-img', ['snapshot', '-c', 'then', file]);
    mustRun('qemu-io', ['-c', 'write -P 2 0 8M', file]);
    const before = allocated(file);
    const options: OpenOptions = { format: 'qcow2', undo: 'rollback', runtime: { 'pass-discard-snapshot': setting } };
    await snapshot({ path: file, options, action: { kind: 'delete', name: 'then' } }, silentJob);
    const given = before - allocated(file);
    expect(given).toBeGreaterThanOrEqual(least);
    if (least === 0) expect(given).toBeLessThan(MiB);
    expectSound(file);
  });
});

// The convert matrix: every format and subformat into every other one; the result is read back by qemu-img.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { KiB, MiB } from '../../core/block/units.ts';
import { silentJob } from '../../core/job.ts';
import { convert, type ConvertParams } from '../../core/operations/convert.ts';
import { describeWith, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

interface Kind {
  readonly name: string;
  readonly format: string;
  readonly options: Readonly<Record<string, string | number | boolean>>;
  readonly compress?: boolean;
  /** qemu-img has a check for it. */
  readonly check?: boolean;
}

const kinds: readonly Kind[] = [
  { name: 'raw', format: 'raw', options: {} },
  { name: 'qcow', format: 'qcow', options: {} },
  { name: 'qcow -c', format: 'qcow', options: {}, compress: true },
  { name: 'qcow2', format: 'qcow2', options: {}, check: true },
  { name: 'qcow2 0.10', format: 'qcow2', options: { compat: '0.10' }, check: true },
  { name: 'qcow2 -c', format: 'qcow2', options: {}, compress: true, check: true },
  { name: 'qcow2 zstd', format: 'qcow2', options: { compression_type: 'zstd' }, compress: true, check: true },
  { name: 'qcow2 extended', format: 'qcow2', options: { extended_l2: true }, check: true },
  { name: 'vhd dynamic', format: 'vpc', options: {} },
  { name: 'vhd fixed', format: 'vpc', options: { subformat: 'fixed' } },
  { name: 'vhd exact', format: 'vpc', options: { force_size: true } },
  { name: 'vhdx dynamic', format: 'vhdx', options: {}, check: true },
  { name: 'vhdx fixed', format: 'vhdx', options: { subformat: 'fixed' }, check: true },
  { name: 'vmdk sparse', format: 'vmdk', options: {}, check: true },
  { name: 'vmdk flat', format: 'vmdk', options: { subformat: 'monolithicFlat' }, check: true },
  { name: 'vmdk split', format: 'vmdk', options: { subformat: 'twoGbMaxExtentSparse' }, check: true },
  { name: 'vmdk split flat', format: 'vmdk', options: { subformat: 'twoGbMaxExtentFlat' }, check: true },
  { name: 'vmdk stream', format: 'vmdk', options: { subformat: 'streamOptimized' }, compress: true, check: true },
  { name: 'vdi dynamic', format: 'vdi', options: {}, check: true },
  { name: 'vdi static', format: 'vdi', options: { static: true }, check: true },
];

const size = 9 * MiB + 512;

/** Text that compresses, noise that does not, zeroes, ends that are not aligned. */
function writeDisk(file: string): void {
  const disk = Buffer.alloc(size);
  for (let at = 0; at < 700 * KiB; at += 32) disk.write(`guest offset ${at.toString(16).padStart(12, '0')} text\n`, at);
  let state = 99;
  for (let at = 3 * MiB + 4608; at < 5 * MiB - 1536; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    disk[at] = state >>> 24;
  }
  disk.write('the last sector', size - 512);
  fs.writeFileSync(file, disk);
}

function paramsFor(source: string, sourceFormat: string, target: string, kind: Kind): ConvertParams {
  return {
    sources: [{ path: source, options: { format: sourceFormat } }],
    snapshot: null,
    target,
    format: kind.format,
    options: kind.options,
    backing: null,
    existing: null,
    targetIsZero: false,
    compress: kind.compress === true,
    offload: false,
    sparse: 4096,
    cache: 'unsafe',
    depth: 8,
    outOfOrder: false,
    rate: 0,
    salvage: false,
    verify: false,
    keepIdentity: false,
  };
}

describeWith({ peers: ['qemu-img'] }, 'the convert matrix', () => {
  const folder = scratchFolder('matrix');
  const disk = path.join(folder, 'disk.raw');
  const fileOf = (kind: Kind, prefix: string): string =>
    path.join(folder, `${prefix}-${kind.name.replaceAll(' ', '_')}`);

  beforeAll(async () => {
    writeDisk(disk);
    for (const kind of kinds) await convert(paramsFor(disk, 'raw', fileOf(kind, 'from'), kind), silentJob);
  });

  const expectSame = (kind: Kind, file: string): void => {
    const compared = runQemuImg(['compare', '-f', 'raw', '-F', kind.format, disk, file]);
    expect(compared.stdout + compared.stderr).toContain('Images are identical.');
    expect(compared.status).toBe(0);
    if (kind.check !== true) return;
    const checked = runQemuImg(['check', '-f', kind.format, file]);
    expect(checked.stdout + checked.stderr).toContain('No errors were found on the image.');
    expect(checked.status).toBe(0);
  };

  it.each(kinds.map((kind) => [kind.name, kind] as const))('raw → %s is the disk for qemu-img', (_, kind) => {
    expectSame(kind, fileOf(kind, 'from'));
  });

  it.each(kinds.map((kind) => [kind.name, kind] as const))('%s → everything', async (_, source) => {
    for (const kind of kinds) {
      const target = fileOf(kind, 'to');
      await convert(paramsFor(fileOf(source, 'from'), source.format, target, kind), silentJob);
      expectSame(kind, target);
    }
  });
});

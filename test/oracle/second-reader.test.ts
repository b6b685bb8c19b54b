// What our writer makes, read by other programs than QEMU: 7-Zip for the content, libyal and nbdkit beside it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../core/block/units.ts';
import { silentJob } from '../../core/job.ts';
import { convert } from '../../core/operations/convert.ts';
import type { PeerName } from '../peer-packages.ts';
import { describeWith, mustRun, peer } from '../peers.ts';
import { positionCoded } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';

interface Kind {
  readonly name: string;
  readonly format: string;
  /** The ending of its file; 7-Zip's name for the format. */
  readonly ending: string;
  readonly options?: Readonly<Record<string, string | number | boolean>>;
  readonly compress?: boolean;
  /** What 7-Zip does not know of it: only the libyal reader looks at it then. */
  readonly not7z?: string;
  readonly libyal?: 'qcowinfo' | 'vhdiinfo' | 'vmdkinfo';
  /** The virtual size that the format makes of it. */
  readonly size?: number;
}

const size = 12 * MiB;
/** The size of a VHD is a whole number of its geometry's cylinders. */
const vhdSize = 12_603_392;

const kinds: readonly Kind[] = [
  { name: 'qcow', format: 'qcow', ending: 'qcow', libyal: 'qcowinfo' },
  { name: 'qcow -c', format: 'qcow', ending: 'qcow', compress: true, not7z: 'compression', libyal: 'qcowinfo' },
  { name: 'qcow2', format: 'qcow2', ending: 'qcow', libyal: 'qcowinfo' },
  { name: 'qcow2 0.10', format: 'qcow2', ending: 'qcow', options: { compat: '0.10' }, libyal: 'qcowinfo' },
  { name: 'qcow2 -c', format: 'qcow2', ending: 'qcow', compress: true, libyal: 'qcowinfo' },
  { name: 'qcow2 512', format: 'qcow2', ending: 'qcow', options: { cluster_size: 512 }, libyal: 'qcowinfo' },
  { name: 'qcow2 2M', format: 'qcow2', ending: 'qcow', options: { cluster_size: 2 * MiB }, libyal: 'qcowinfo' },
  { name: 'vhd dynamic', format: 'vpc', ending: 'vhd', size: vhdSize, libyal: 'vhdiinfo' },
  { name: 'vhd exact', format: 'vpc', ending: 'vhd', options: { force_size: true }, libyal: 'vhdiinfo' },
  {
    name: 'vhd fixed',
    format: 'vpc',
    ending: 'vhd',
    options: { subformat: 'fixed' },
    size: vhdSize,
    libyal: 'vhdiinfo',
  },
  { name: 'vhdx dynamic', format: 'vhdx', ending: 'vhdx', libyal: 'vhdiinfo' },
  { name: 'vhdx fixed', format: 'vhdx', ending: 'vhdx', options: { subformat: 'fixed' }, libyal: 'vhdiinfo' },
  { name: 'vhdx 1M', format: 'vhdx', ending: 'vhdx', options: { block_size: MiB }, libyal: 'vhdiinfo' },
  { name: 'vmdk sparse', format: 'vmdk', ending: 'vmdk', libyal: 'vmdkinfo' },
  { name: 'vmdk flat', format: 'vmdk', ending: 'vmdk', options: { subformat: 'monolithicFlat' }, libyal: 'vmdkinfo' },
  {
    name: 'vmdk split',
    format: 'vmdk',
    ending: 'vmdk',
    options: { subformat: 'twoGbMaxExtentSparse' },
    libyal: 'vmdkinfo',
  },
  {
    name: 'vmdk split flat',
    format: 'vmdk',
    ending: 'vmdk',
    options: { subformat: 'twoGbMaxExtentFlat' },
    libyal: 'vmdkinfo',
  },
  {
    name: 'vmdk stream',
    format: 'vmdk',
    ending: 'vmdk',
    options: { subformat: 'streamOptimized' },
    libyal: 'vmdkinfo',
  },
  { name: 'vdi dynamic', format: 'vdi', ending: 'vdi' },
  { name: 'vdi static', format: 'vdi', ending: 'vdi', options: { static: true } },
];

const folder = scratchFolder('second-reader');
const fileOf = (kind: Kind): string => path.join(folder, `${kind.name.replaceAll(' ', '_')}.${kind.ending}`);

/** Text that compresses, bytes that say where they belong, noise, zeroes between them, and something at the end. */
function makeDisk(): Buffer {
  const disk = Buffer.alloc(size);
  for (let at = 0; at < 300 * KiB; at += 32) disk.write(`guest offset ${at.toString(16).padStart(12, '0')} text\n`, at);
  disk.set(positionCoded(3 * MiB + 4608, 2 * MiB, 1), 3 * MiB + 4608);
  let state = 99;
  for (let at = 7 * MiB + 1024; at < 7 * MiB + 700 * KiB; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    disk[at] = state >>> 24;
  }
  disk.write('the last sector', size - 512);
  return disk;
}

const disk = makeDisk();

beforeAll(async () => {
  const source = path.join(folder, 'disk.raw');
  fs.writeFileSync(source, disk);
  for (const kind of kinds) {
    await convert(
      {
        sources: [{ path: source, options: { format: 'raw' } }],
        snapshot: null,
        target: fileOf(kind),
        format: kind.format,
        options: kind.options ?? {},
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
      },
      silentJob,
    );
  }
});

/** What a program writes to its standard output, as bytes. */
function bytesFrom(name: PeerName, args: readonly string[]): Buffer {
  const program = peer(name);
  if (program === null) throw new Error(`the test did not say that it needs ${name}`);
  const { status, stdout, stderr } = spawnSync(program, args, { maxBuffer: 64 * MiB, timeout: 60_000 });
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: exit ${status}: ${stderr.toString()}`);
  return stdout;
}

/** Is `found` the disk, with zeroes behind it as far as `length`? */
function expectDisk(found: Buffer, length: number): void {
  expect(found.length).toBe(length);
  expect(Buffer.compare(found.subarray(0, size), disk)).toBe(0);
  expect(found.subarray(size).every((byte) => byte === 0)).toBe(true);
}

describeWith({ peers: ['7z'] }, '7-Zip reads the content of', () => {
  for (const kind of kinds) {
    if (kind.not7z !== undefined) continue;
    it(kind.name, () => {
      expectDisk(bytesFrom('7z', ['e', '-so', `-t${kind.ending}`, fileOf(kind)]), kind.size ?? size);
    });
  }
});

describe('libyal finds the disk in', () => {
  for (const tool of ['qcowinfo', 'vhdiinfo', 'vmdkinfo'] as const) {
    describeWith({ peers: [tool] }, tool, () => {
      for (const kind of kinds.filter(({ libyal }) => libyal === tool)) {
        it(kind.name, () => {
          const said = mustRun(tool, [fileOf(kind)]);
          expect(said).toMatch(new RegExp(`Media size\\s*:.*\\(${kind.size ?? size} bytes\\)`));
        });
      }
    });
  }
});

describeWith({ peers: ['nbdkit', 'nbdcopy'] }, 'nbdkit', () => {
  it('reads an encrypted disk through its LUKS filter', async () => {
    const target = path.join(folder, 'disk.luks');
    const passphrase = 'a passphrase of some length';
    const secret = (): Uint8Array => Buffer.from(passphrase);
    await convert(
      {
        sources: [{ path: path.join(folder, 'disk.raw'), options: { format: 'raw' } }],
        snapshot: null,
        target,
        format: 'luks',
        options: { 'key-secret': 'it', 'iter-time': 10 },
        backing: null,
        existing: null,
        targetIsZero: false,
        compress: false,
        offload: false,
        sparse: 4096,
        cache: 'unsafe',
        depth: 8,
        outOfOrder: false,
        rate: 0,
        salvage: false,
        verify: false,
        keepIdentity: false,
        secret,
      },
      silentJob,
    );
    const copy = path.join(folder, 'copied.raw');
    const line = ['-r', '-U', '-', '--filter=luks', 'file', target, `passphrase=${passphrase}`];
    mustRun('nbdkit', [...line, '--run', `nbdcopy "$uri" ${copy}`], { timeout: 60_000 });
    expectDisk(fs.readFileSync(copy), size);
  });
});

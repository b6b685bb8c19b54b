// Packages that the command line writes, taken apart by tar, sha256sum and qemu-img.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter, runProgram, runQemuImg, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { withoutTar } from '../units/formats/ova/packages.ts';

const MiB = 1024 * 1024;
const folder = scratchFolder('cli-ova');
const at = (...names: string[]): string => path.join(folder, ...names);
const platter = (...args: string[]): Finished =>
  runPlatter(args, { cwd: folder, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } });

function mustPlatter(...args: string[]): string {
  const { status, stdout, stderr } = platter(...args);
  if (status !== 0) throw new Error(`platter ${args.join(' ')}: exit ${status}: ${stderr}`);
  return stdout;
}

/** The names in an archive, and all its files in a new folder. */
function unpack(archive: string): { names: string[]; into: string } {
  const into = fs.mkdtempSync(at('unpacked-'));
  const listed = runProgram('tar', ['-tf', archive], { cwd: folder });
  const unpacked = runProgram('tar', ['-xf', archive, '-C', into], { cwd: folder });
  expect([listed.status, unpacked.status, listed.stderr, unpacked.stderr]).toEqual([0, 0, '', '']);
  return { names: listed.stdout.trim().split('\n'), into };
}

/** How many stretches of 64 KiB hold anything but zeroes. */
function filledGrains(file: string): number {
  const bytes = fs.readFileSync(file);
  let count = 0;
  for (let start = 0; start < bytes.length; start += 65536) {
    if (bytes.subarray(start, start + 65536).some((byte) => byte !== 0)) count++;
  }
  return count;
}

describeWith({ peers: ['qemu-img', 'qemu-io'], unless: withoutTar }, 'convert -O ova', () => {
  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', at('base.qcow2'), '40M']);
    mustRun('qemu-io', ['-c', 'write -q -P 7 1M 3M', '-c', 'write -q -P 9 33M 100k', at('base.qcow2')]);
    const overlay = ['-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'];
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...overlay], { cwd: folder });
    mustRun('qemu-io', ['-c', 'write -q -P 11 2M 64k', '-c', 'write -q -z 3M 128k', at('top.qcow2')]);
  });

  it.each([
    [['top.qcow2']],
    [['--verify', '-m', '1', '-o', 'name=A & "b" <c>,cpus=4,memory=4G,controller=sata', 'top.qcow2']],
    [['-c', '-W', 'base.qcow2', 'top.qcow2']],
  ])('%j gives what tar, sha256sum and qemu-img take', (args) => {
    mustPlatter('convert', '-O', 'ova', ...args, 'Made here.ova');
    const { names, into } = unpack('Made here.ova');
    expect(names).toEqual(['Made_here.ovf', 'Made_here.mf', 'Made_here-disk1.vmdk']);
    const sums = runProgram('sha256sum', ['--strict', '-c', 'Made_here.mf'], { cwd: into });
    expect([sums.status, sums.stdout]).toEqual([0, 'Made_here.ovf: OK\nMade_here-disk1.vmdk: OK\n']);
    const disk = path.join(into, 'Made_here-disk1.vmdk');
    expect(runQemuImg(['check', disk]).status).toBe(0);
    const sources = args.filter((word) => word.endsWith('.qcow2')).map((name) => at(name));
    mustRun('qemu-img', ['convert', '-O', 'raw', ...sources, at('expected.raw')]);
    expect(runQemuImg(['compare', disk, at('expected.raw')]).stdout).toBe('Images are identical.\n');
    const text = fs.readFileSync(path.join(into, 'Made_here.ovf'), 'utf8');
    expect(text).toContain(`ovf:size="${fs.statSync(disk).size}"`);
    expect(text).toContain(`ovf:capacity="${fs.statSync(at('expected.raw')).size}"`);
    const populated = Number(/ovf:populatedSize="(\d+)"/.exec(text)?.[1]);
    expect(populated).toBe(64 * 1024 * filledGrains(at('expected.raw')));
    const check = platter('check', 'Made here.ova');
    expect([check.status, check.stderr]).toEqual([0, '']);
    expect(platter('compare', 'Made here.ova', 'expected.raw').stdout).toBe('Images are identical.\n');
  });

  it('of an empty disk is whole too', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', at('empty.qcow2'), '10M']);
    mustPlatter('convert', '-O', 'ova', 'empty.qcow2', 'empty.ova');
    const { into } = unpack('empty.ova');
    expect(runProgram('sha256sum', ['--strict', '-c', 'empty.mf'], { cwd: into }).status).toBe(0);
    expect(runQemuImg(['compare', path.join(into, 'empty-disk1.vmdk'), at('empty.qcow2')]).status).toBe(0);
  });

  it('tells what it was asked for, and not of what it cannot do', () => {
    const refused = (...args: string[]): string => platter('convert', '-O', 'ova', ...args).stderr;
    expect(refused('-o', 'preallocation=full', 'base.qcow2', 'no.ova')).toContain('cannot be preallocated');
    expect(refused('-n', 'base.qcow2', 'empty.ova')).toContain("Could not open 'empty.ova': The disks of a package");
    expect(refused('-B', 'base.qcow2', '-F', 'qcow2', 'top.qcow2', 'no.ova')).toContain('Backing file not supported');
    expect(platter('create', '-f', 'ova', 'no.ova', '1M').stderr).toContain('use convert -O ova');
    expect(fs.existsSync(at('no.ova'))).toBe(false);
    expect(mustPlatter('convert', '-O', 'ova', '-o', 'help')).toContain('controller=<str>');
  });

  it('is measured: at least as large as it becomes', () => {
    const { required } = JSON.parse(mustPlatter('measure', '--output=json', '-O', 'ova', 'top.qcow2')) as {
      required: number;
    };
    mustPlatter('convert', '-O', 'ova', 'top.qcow2', 'disk.ova');
    expect(fs.statSync(at('disk.ova')).size).toBeLessThanOrEqual(required);
    expect(required).toBeLessThan(5 * MiB);
  });
});

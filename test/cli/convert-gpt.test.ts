// convert --profile on a GPT disk that grows: the backup stands at the new end, by sgdisk's verdict on every platform's format.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['qemu-img', 'sgdisk'] }, 'convert --profile moves the backup GPT', () => {
  const folder = scratchFolder('convert-gpt');
  const at = (name: string): string => path.join(folder, name);
  const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });

  /** A disk of `size` bytes with two partitions and something in both, as sgdisk makes it. */
  function makeDisk(name: string, size: number): string {
    fs.writeFileSync(at(name), '');
    fs.truncateSync(at(name), size);
    run('sgdisk', '-n', '1:2048:+2M', '-n', '2:0:+3M', at(name));
    const file = fs.openSync(at(name), 'r+');
    fs.writeSync(file, Buffer.alloc(MiB, 'first'), 0, MiB, MiB);
    fs.writeSync(file, Buffer.alloc(MiB, 'second'), 0, MiB, 3 * MiB);
    fs.closeSync(file);
    expect(run('sgdisk', '-v', at(name))).toContain('No problems found');
    return at(name);
  }

  const plain = (name: string, format: string): string => {
    run('qemu-img', 'convert', '-f', format, '-O', 'raw', at(name), at(`${name}.plain`));
    return at(`${name}.plain`);
  };
  const table = (file: string): string[] =>
    run('sgdisk', '-p', file)
      .split('\n')
      .filter((line) => /^ +\d/.test(line));

  const odd = 9 * MiB + 7 * 512;

  it.each([
    { profile: 'azure', name: 'azure.vhd', format: 'vpc' },
    { profile: 'hyperv-gen2', name: 'gen2.vhdx', format: 'vhdx' },
    { profile: 'aws', name: 'aws.vmdk', format: 'vmdk' },
  ])('$profile', ({ profile, name, format }) => {
    const source = makeDisk(`${profile}.img`, odd);
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', source, at(`${profile}.qcow2`));
    const before = fs.readFileSync(at(`${profile}.qcow2`));
    const done = runPlatter(['convert', '--verify', '--profile', profile, at(`${profile}.qcow2`), at(name)]);
    expect(done.stderr).not.toContain('GPT');
    expect([0, 2]).toContain(done.status);
    const result = plain(name, format);
    const grew = fs.statSync(result).size > odd;
    expect(done.stdout.includes('its backup GPT was moved to the new end')).toBe(grew);
    expect(run('sgdisk', '-v', result)).toContain('No problems found');
    expect(table(result)).toEqual(table(source));
    const [old, now] = [fs.readFileSync(source), fs.readFileSync(result)];
    // Nothing between the tables has changed.
    expect(now.compare(old, MiB, 6 * MiB, MiB, 6 * MiB)).toBe(0);
    if (grew) expect(now.indexOf('EFI PART', 1024)).toBe(now.length - 512);
    expect(fs.readFileSync(at(`${profile}.qcow2`)).equals(before)).toBe(true);
  });

  it('in the archive of Compute Engine', () => {
    makeDisk('gcp.img', odd);
    const done = runPlatter(['convert', '--verify', '--profile', 'gcp', at('gcp.img'), at('gcp.tar.gz')]);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toContain('its backup GPT was moved');
    run('tar', '-C', folder, '-xSzf', at('gcp.tar.gz'));
    expect(fs.statSync(at('disk.raw')).size).toBe(1024 * MiB);
    expect(run('sgdisk', '-v', at('disk.raw'))).toContain('No problems found');
    fs.rmSync(at('disk.raw'));
  });

  it('says so where it stays: a table that does not fit its own disk', () => {
    const source = makeDisk('cut.img', 30 * MiB + 7 * 512);
    // The last partition reaches beyond what the grown disk has room for.
    run('sgdisk', '-d', '2', '-n', '2:0:61410', source);
    fs.truncateSync(source, 29 * MiB + 512);
    const done = runPlatter(['convert', '--profile', 'azure', source, at('cut.vhd')]);
    expect(done.stderr).toMatch(/its backup GPT does not stand at the end: .*partition/i);
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'vpc', source, at('cut.vhd'));
  });

  it('a plain convert keeps every byte, as qemu-img does', () => {
    const source = makeDisk('plain.img', odd);
    const done = runPlatter(['convert', '-O', 'qcow2', source, at('plain.qcow2')]);
    expect(done).toMatchObject({ status: 0, stdout: '', stderr: '' });
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', source, at('plain.qcow2'));
  });
});

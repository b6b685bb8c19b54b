// profile, and convert --profile: texts, JSON and exit codes; what was made is looked at by qemu-img and tar.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter, runProgram, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'profile', () => {
  const cwd = scratchFolder('profile');
  const own = (...args: string[]): Finished =>
    runPlatter(args, { cwd, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } });

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'my disk.qcow2', String(30 * MiB + 512)], { cwd });
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -P 65 0 64k', 'my disk.qcow2'], { cwd });
  });

  it('list names the platforms, show their rules with sources', () => {
    const list = own('profile');
    expect(list).toMatchObject({ status: 0, stderr: '' });
    expect(list.stdout).toMatch(/^NAME +CONVERT MAKES +RULES +PLATFORM\nazure +vpc +5 +Microsoft Azure\n/);
    expect(list.stdout).toMatch(/^gcp +raw in tar\.gz +4 +Google Compute Engine$/m);
    expect(own('profile', 'list').stdout).toBe(list.stdout);
    const { stdout } = own('profile', 'show', 'azure');
    expect(stdout).toContain('convert makes: vpc (subformat=fixed force_size=on)\n');
    expect(stdout).toContain('    azure/whole-mib: refuses unless the disk is a multiple of 1 MiB\n');
    expect(stdout).toContain(
      '        https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic\n',
    );
    const parsed = JSON.parse(own('profile', 'show', '--output', 'json', 'gcp').stdout) as { target: unknown };
    expect(parsed.target).toMatchObject({ format: 'raw', archivedAs: 'disk.raw' });
  });

  it('check says why a platform refuses, and what helps; 2 where one that was named does', () => {
    expect(own('profile', 'check', '--profile', 'azure', 'my disk.qcow2')).toEqual({
      status: 2,
      stdout:
        'image: my disk.qcow2\n' +
        'Microsoft Azure: refuses it\n' +
        '    it is qcow2; taken: VHD (fixed) [azure/format]\n' +
        '    the disk has 31457792 bytes, not a multiple of 1 MiB [azure/whole-mib]\n' +
        "    fix: platter convert --profile azure 'my disk.qcow2' 'my disk.vhd'\n",
      stderr: '',
    });
    expect(own('profile', 'check', '--profile', 'kvm', 'my disk.qcow2')).toEqual({
      status: 0,
      stdout: 'image: my disk.qcow2\nQEMU/KVM: takes it\n',
      stderr: '',
    });
    mustRun('qemu-img', ['create', '-q', '-f', 'vdi', 'other.vdi', '8M'], { cwd });
    expect(own('profile', 'check', '--profile', 'kvm', 'other.vdi')).toMatchObject({
      status: 0,
      stdout:
        'image: other.vdi\nQEMU/KVM: takes it, with warnings\n' +
        '    warning: it is VDI dynamic; better: qcow2, Raw, LUKS [kvm/format]\n' +
        '    fix: platter convert --profile kvm other.vdi other.qcow2\n',
    });
    const all = own('profile', 'check', 'my disk.qcow2');
    expect(all).toMatchObject({ status: 0, stderr: '' });
    expect(all.stdout.match(/: (takes|refuses) it/g)).toHaveLength(14);
    expect(own('profile', 'check', '--profile', 'azure', '--profile', 'all', 'my disk.qcow2')).toMatchObject({
      status: 2,
      stdout: all.stdout,
    });
  });

  it('check as JSON: facts, findings with fix and source, and the plan', () => {
    const { status, stdout } = own('profile', 'check', '--profile', 'azure', '--output=json', 'my disk.qcow2');
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      facts: { format: 'qcow2', virtualSize: 30 * MiB + 512 },
      verdicts: [
        {
          profile: 'azure',
          outcome: 'refuses',
          findings: [
            { rule: 'azure/format', severity: 'refuses', kind: 'format', fix: { kind: 'convert', profile: 'azure' } },
            { rule: 'azure/whole-mib', kind: 'size-multiple', found: 30 * MiB + 512, expected: MiB },
          ],
          plan: { format: 'vpc', size: 31 * MiB, grownBy: MiB - 512, target: 'my disk.vhd', obstacle: null },
        },
      ],
    });
  });

  it('what makes no sense is refused', () => {
    const refused = (...args: string[]): string => {
      const { status, stdout, stderr } = own(...args);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      return stderr;
    };
    expect(refused('profile', 'check', '--profile', 'moon', 'my disk.qcow2')).toMatch(/no profile 'moon' \(known: /);
    expect(refused('profile', 'check', 'none.qcow2')).toContain("Could not open 'none.qcow2'");
    expect(refused('profile', 'judge')).toContain("Unknown action 'judge'");
    expect(refused('convert', '--profile', 'azure', '-n', 'my disk.qcow2', 'x.vhd')).toContain('-n writes over');
    expect(refused('convert', '--profile', 'kvm', '-B', 'b', '-F', 'raw', 'my disk.qcow2', 'x')).toContain(
      'stands alone',
    );
    expect(refused('convert', '--profile', 'azure', '-o', 'subformat=dynamic', 'my disk.qcow2', 'x.vhd')).toBe(
      'platter: Microsoft Azure would refuse the result of these options: it does not take vpc dynamic [profile/option]\n',
    );
    expect(refused('convert', '--profile', 'wsl', 'my disk.qcow2', 'x.vhdx')).toContain('[profile/cannot-fit]');
    expect(fs.readdirSync(cwd).filter((name) => name.startsWith('x') || name.startsWith('.x'))).toEqual([]);
  });

  it('convert --profile makes it; --dry-run says what it would make; -O and -o go before the profile', () => {
    expect(own('convert', '--profile', 'azure', '--dry-run', 'my disk.qcow2', 'a.vhd').stdout).toBe(
      'read      my disk.qcow2\nwrite     a.vhd (new, vpc)\noption    subformat=fixed\noption    force_size=true\noption    size=32505856\n',
    );
    expect(fs.existsSync(path.join(cwd, 'a.vhd'))).toBe(false);
    expect(own('convert', '--profile', 'azure', 'my disk.qcow2', 'a.vhd')).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
    expect(fs.statSync(path.join(cwd, 'a.vhd')).size).toBe(31 * MiB + 512);
    mustRun('qemu-img', ['compare', '-f', 'qcow2', '-F', 'vpc', 'my disk.qcow2', 'a.vhd'], { cwd });
    expect(own('profile', 'check', '--profile', 'azure', 'a.vhd')).toMatchObject({ status: 0 });
    const aws = own('convert', '--profile', 'aws', '-O', 'vhdx', '-o', 'block_size=1M', 'my disk.qcow2', 'b.vhdx');
    expect(aws).toEqual({ status: 0, stdout: '', stderr: '' });
    const told = JSON.parse(mustRun('qemu-img', ['info', '--output=json', 'b.vhdx'], { cwd })) as object;
    expect(told).toMatchObject({ format: 'vhdx', 'cluster-size': MiB });
  });

  it('for Compute Engine: an archive', () => {
    expect(own('convert', '--profile', 'gcp', '-q', 'my disk.qcow2', 'g.tar.gz')).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
    expect(runProgram('tar', ['-tzf', path.join(cwd, 'g.tar.gz')])).toMatchObject({ status: 0, stdout: 'disk.raw\n' });
  });
});

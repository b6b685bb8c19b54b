// What compact prints: the estimate, what was gained, JSON, refusals.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const folder = scratchFolder('compact-cli');
const at = { cwd: folder };

function platter(...args: string[]): Finished {
  return runPlatter(args, { cwd: folder, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } });
}

describeWith({ peers: ['qemu-img', 'qemu-io', 'mke2fs'] }, 'compact', () => {
  it('says what it will do, and what it has done', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'vdi', 'disk.vdi', '20M'], at);
    mustRun('qemu-io', ['-f', 'vdi', '-c', 'write -q -P 1 0 8M', '-c', 'write -q -P 0 0 6M', 'disk.vdi'], at);
    const foreseen = [
      'image: disk.vdi',
      'file format: vdi',
      'how: in place: blocks are given up, the last ones move into free places, the file is cut',
      'can be given back:',
      '    units that hold only zeroes: 6 MiB',
      '    zeroes in units that stay: 0',
      '    free room in the file: 0',
      'file length: 8 MiB, afterwards about 2 MiB',
    ];
    const estimate = platter('compact', '--estimate', 'disk.vdi');
    expect(estimate).toMatchObject({ status: 0, stderr: '' });
    expect(estimate.stdout.split('\n').slice(0, foreseen.length)).toEqual(foreseen);
    expect(estimate.stdout).not.toContain('now');
    const done = platter('compact', 'disk.vdi');
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout.startsWith(estimate.stdout)).toBe(true);
    expect(done.stdout).toContain('file length now: 2 MiB (6 MiB less)\n');
    expect(fs.statSync(path.join(folder, 'disk.vdi')).size).toBeLessThan(2.01 * 1024 * 1024);
    expect(fs.readdirSync(folder)).toEqual(['disk.vdi']);
    expect(platter('compact', '-q', 'disk.vdi')).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  it('tells the same as JSON', () => {
    fs.writeFileSync(path.join(folder, 'ext.raw'), '');
    fs.truncateSync(path.join(folder, 'ext.raw'), 8 * 1024 * 1024);
    mustRun('mke2fs', ['-q', '-F', '-t', 'ext2', 'ext.raw'], at);
    const { status, stdout, stderr } = platter('compact', '--zero-unused', '--output=json', '-f', 'raw', 'ext.raw');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      filename: 'ext.raw',
      format: 'raw',
      way: 'holes',
      reason: null,
      steps: { zero: 0, unused: 0, leaked: 0, free: 0 },
      'file-systems': [{ partition: null, kind: 'ext2', refused: null }],
      after: { 'file-length': 8 * 1024 * 1024 },
    });
  });

  it('refuses in one line', () => {
    expect(platter('compact', 'nothing')).toMatchObject({
      status: 1,
      stdout: '',
      stderr:
        "platter: Could not open 'nothing': Could not open 'nothing': No such file or directory [storage/open at nothing]\n",
    });
    expect(platter('compact')).toMatchObject({ status: 1, stdout: '' });
    expect(platter('compact', '--output=xml', 'disk.vdi').stderr).toBe(
      'platter: --output must be used with human or json as argument.\n',
    );
  });
});

// platter undo on the command line: what stands beside an image, what comes back, what is refused and with which words.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { describeWith, mustRun, peer, runPlatter, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const ours = { PLATTER_PROGNAME: '', PLATTER_QEMU_COMPAT: '' };
const journal = '.a.qcow2.platter-journal';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'platter undo', () => {
  const scratch = scratchFolder('undo');
  let cwd: string;
  let count = 0;
  let before: Buffer;

  const platter = (...args: string[]): Finished => runPlatter(args, { cwd, env: ours });
  const names = (): string[] => fs.readdirSync(cwd).sort();
  const image = (): Buffer => fs.readFileSync(path.join(cwd, 'a.qcow2'));

  beforeEach(() => {
    cwd = path.join(scratch, String(count++));
    fs.mkdirSync(cwd);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'a.qcow2', '10M'], { cwd });
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 1 0 3M', 'a.qcow2'], { cwd });
    before = image();
  });

  it('takes the last verb back, and only that', () => {
    expect(platter('resize', '-q', 'a.qcow2', '20M')).toMatchObject({ status: 0, stderr: '' });
    const larger = image();
    expect(platter('snapshot', '-q', '-c', 'one', 'a.qcow2').status).toBe(0);
    expect(names()).toEqual([journal, 'a.qcow2']);
    expect(platter('info', 'a.qcow2').stdout).toMatch(
      /^undo: '.*snapshot.*' of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d can be taken back$/m,
    );

    const dry = platter('undo', '-n', 'a.qcow2');
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(dry.stdout).toMatch(/^Would take back: /);
    expect(names()).toEqual([journal, 'a.qcow2']);

    expect(platter('undo', '-q', 'a.qcow2')).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(image().equals(larger)).toBe(true);
    expect(names()).toEqual(['a.qcow2']);
    const again = platter('undo', 'a.qcow2');
    expect(again).toMatchObject({ status: 1, stdout: '' });
    expect(again.stderr).toContain('[undo/nothing ');
  });

  it('is refused after qemu-io has written', () => {
    platter('resize', '-q', 'a.qcow2', '20M');
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 2 4M 1M', 'a.qcow2'], { cwd });
    const now = image();
    const refused = platter('undo', 'a.qcow2');
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('[undo/changed ');
    expect(image().equals(now)).toBe(true);
    expect(platter('info', 'a.qcow2').stdout).not.toContain('undo:');
  });

  it('tells JSON', () => {
    platter('resize', '-q', 'a.qcow2', '20M');
    const told = JSON.parse(platter('undo', '--output=json', 'a.qcow2').stdout) as Record<string, unknown>;
    expect(told).toMatchObject({ filename: 'a.qcow2', verb: 'resize', unfinished: false, 'dry-run': false });
    expect(told.files).toEqual(['a.qcow2']);
    expect(image().equals(before)).toBe(true);
  });

  it('has nothing after --no-undo, nor in the place of qemu-img; what stood there before is gone', () => {
    platter('resize', '-q', 'a.qcow2', '20M');
    expect(platter('resize', '-q', '--no-undo', 'a.qcow2', '30M')).toMatchObject({ status: 0, stderr: '' });
    expect(names()).toEqual(['a.qcow2']);
    platter('resize', '-q', 'a.qcow2', '40M');
    expect(names()).toEqual([journal, 'a.qcow2']);
    expect(runPlatter(['resize', '-q', 'a.qcow2', '50M'], { cwd })).toMatchObject({ status: 0, stderr: '' });
    expect(names()).toEqual(['a.qcow2']);
    expect(mustRun('qemu-img', ['check', 'a.qcow2'], { cwd })).toContain('No errors');
  });

  it('has nothing after another image has taken the name', () => {
    platter('resize', '-q', 'a.qcow2', '20M');
    expect(platter('create', '-q', '-f', 'qcow2', 'a.qcow2', '1M').status).toBe(0);
    expect(names()).toEqual(['a.qcow2']);
  });

  it('waits for nobody: an image in use is refused, with the name of who uses it', async () => {
    platter('resize', '-q', 'a.qcow2', '20M');
    const child = spawn(peer('qemu-io') ?? '', ['-f', 'qcow2', 'a.qcow2'], { cwd, stdio: ['pipe', 'pipe', 'ignore'] });
    await once(child.stdout, 'data'); // its prompt: the image is open
    try {
      for (const verb of [
        ['undo', 'a.qcow2'],
        ['resize', 'a.qcow2', '30M'],
        ['info', 'a.qcow2'],
      ]) {
        const refused = platter(...verb);
        expect(refused.status, verb.join(' ')).toBe(1);
        expect(refused.stderr).toContain('Is another process using the image [a.qcow2]?');
        if (process.platform === 'linux') expect(refused.stderr).toContain(`qemu-io (process ${child.pid})`);
      }
      expect(runPlatter(['info', 'a.qcow2'], { cwd }).stderr).not.toContain('process ' + String(child.pid));
      expect(platter('info', '-U', 'a.qcow2').status).toBe(0);
    } finally {
      child.stdin.end();
      await once(child, 'exit');
    }
    expect(platter('undo', '-q', 'a.qcow2').status).toBe(0);
    expect(image().equals(before)).toBe(true);
  });
});

// snapshot: what is said, and what becomes of the image, as with qemu-img.
import { expect, it } from 'vitest';
import path from 'node:path';
import { describeWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { sameAsQemuImg } from './transcripts.ts';

function prepare(folder: string): void {
  const run = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  const io = (file: string, ...commands: string[]): string =>
    mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file], { cwd: folder });
  run('create', '-q', '-f', 'qcow2', 'a', '4M');
  io('a', 'write -P 1 0 1M', 'write -c -P 2 2M 64k', 'write -z 3M 128k');
  run('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old', '4M');
  io('old', 'write -P 1 0 1M');
  run('create', '-q', '-f', 'qcow2', '-o', 'data_file=external.raw', 'external', '4M');
  run('create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=1', 'narrow', '4M');
  run('create', '-q', '-f', 'qcow2', 'bitmaps', '4M');
  run('bitmap', '--add', 'bitmaps', 'b0');
  run('snapshot', '-c', 's', 'bitmaps');
  run('create', '-q', '-f', 'raw', 'raw', '1M');
  run('create', '-q', '-f', 'vdi', 'vdi', '1M');
  run('create', '-q', '-f', 'qcow2', 'empty', '0');
}

sameAsQemuImg('snapshot changes', {
  prepare,
  lines: [
    'snapshot a => a',
    'snapshot -c one a => a',
    'snapshot -c one a => a',
    `snapshot -c '' a => a`,
    `snapshot -c 'a b' a => a`,
    'snapshot -c ünö a => a',
    'snapshot -l a',
    `snapshot -c ${'n'.repeat(300)} a => a`,
    'snapshot -a 1 a => a',
    'snapshot -a one a => a',
    `snapshot -a '' a => a`,
    `snapshot -d '' a => a`,
    'snapshot -d one a => a',
    'snapshot -c again a => a',
    'snapshot -d one a => a',
    'snapshot -d one a => a',
    'resize a 8M => a',
    'snapshot -c larger a => a',
    'snapshot -a again a => a',
    'snapshot -a larger a => a',
    'snapshot --image-opts -c described driver=qcow2,file.filename=a => a',
    'snapshot -c one old => old',
    'snapshot -a one old => old',
    'snapshot -c one empty => empty',
    'snapshot -a one empty => empty',
    'snapshot -c one narrow => narrow',
    'snapshot -c t bitmaps => bitmaps',
    'snapshot -d t bitmaps => bitmaps',
  ],
});

sameAsQemuImg('snapshot lists', {
  prepare,
  readOnly: true,
  lines: [
    'snapshot -l bitmaps',
    'snapshot -U -l bitmaps',
    'snapshot bitmaps',
    'snapshot -l a',
    'snapshot -l raw',
    'snapshot -l external',
    'snapshot -l nope',
  ],
});

sameAsQemuImg('snapshot refuses', {
  prepare,
  lines: [
    'snapshot',
    'snapshot -c',
    'snapshot -l -c x a',
    'snapshot -c x -c y a',
    'snapshot -d nope a',
    'snapshot -a nope a',
    'snapshot -c x nope',
    'snapshot -U -c x a',
    'snapshot -c x external',
    'snapshot -a x external',
    'snapshot -d x external',
    'snapshot -c x raw',
    'snapshot -d x raw',
    'snapshot -c x vdi',
    'snapshot -a s bitmaps',
    'snapshot -d 1 bitmaps',
    'snapshot -c x --image-opts a',
    'snapshot --object foo -l a',
  ],
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'snapshot in its own words', () => {
  const cwd = scratchFolder('snapshot-own');
  const own = { cwd, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } };

  it('lists as JSON, lists without a verb, says what it did', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'a', '4M'], { cwd });
    const taken = runPlatter(['snapshot', '-c', 'first', 'a'], own);
    expect(taken).toMatchObject({ status: 0, stdout: "Snapshot 1 'first' taken.\n", stderr: '' });
    const told = JSON.parse(runPlatter(['snapshot', '--output=json', 'a'], own).stdout) as unknown[];
    const theirs = JSON.parse(mustRun('qemu-img', ['info', '--output=json', 'a'], { cwd })) as { snapshots: unknown[] };
    expect(told).toEqual(theirs.snapshots);
    expect(runPlatter(['snapshot', 'a'], own).stdout).toMatch(/^Snapshot list:\nID .*\n1 +first /);
    expect(runPlatter(['snapshot', '-q', '--delete', 'first', 'a'], own)).toMatchObject({ status: 0, stdout: '' });
    expect(JSON.parse(runPlatter(['snapshot', '--output=json', 'a'], own).stdout)).toEqual([]);
  });

  it('names what is too narrow, and leaves the file as it was', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=1', 'narrow', '4M'], { cwd });
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write 0 1M', path.join(cwd, 'narrow')]);
    const { status, stderr } = runPlatter(['snapshot', '-c', 'x', 'narrow'], own);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^platter: Could not create snapshot 'x': Cluster \d+ has as many references .*refcount/);
    expect(mustRun('qemu-img', ['check', 'narrow'], { cwd })).toContain('No errors were found');
  });
});

// What needs care when an image is opened to be written to: layers that a description names, a dirty image, raw by guess.
import fs from 'node:fs';
import path from 'node:path';
import { mustRun, runPeer } from '../peers.ts';
import { sameAsQemuImg } from './transcripts.ts';

/** base.qcow2 (2 MiB), other.qcow2 (3 MiB), mid and top (3 MiB) over base. */
function prepare(folder: string): void {
  const img = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  const io = (file: string, ...commands: string[]): string =>
    mustRun('qemu-io', [...commands.flatMap((command) => ['-c', command]), file], { cwd: folder });
  img('create', '-q', '-f', 'qcow2', 'base.qcow2', '2M');
  io('base.qcow2', 'write -P 1 0 1M');
  img('create', '-q', '-f', 'qcow2', 'other.qcow2', '3M');
  io('other.qcow2', 'write -P 1 0 512k', 'write -P 9 2M 1M');
  img('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2', '3M');
  io('mid.qcow2', 'write -P 2 1M 128k');
  img('create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
  io('top.qcow2', 'write -P 3 64k 192k', 'write -z 256k 64k');
}

const layer = (name: string, below = ''): string => `driver=qcow2,file.filename=${name}${below}`;
const under = (depth: number, name: string): string => {
  const prefix = `,${'backing.'.repeat(depth)}`;
  return `${prefix}driver=qcow2${prefix}file.filename=${name}`;
};

sameAsQemuImg('commit into a layer that a description names', {
  prepare,
  lines: [
    // It is not the one that the image names.
    `commit --image-opts ${layer('mid.qcow2', under(1, 'other.qcow2'))} => other.qcow2`,
    'map mid.qcow2',
    'map other.qcow2',
    'compare mid.qcow2 base.qcow2',
    `commit -d --image-opts ${layer('top.qcow2', under(1, 'mid.qcow2') + under(2, 'other.qcow2'))} => mid.qcow2`,
    'map mid.qcow2',
    'map base.qcow2',
    'commit --image-opts driver=qcow2,file.filename=top.qcow2,backing.driver=qcow2,backing.file.filename=missing.qcow2',
  ],
});

/** Its last writer died: dirty, with two clusters that nobody counts. */
function leaveDirty(folder: string): void {
  for (const name of ['a.qcow2', 'b.qcow2', 'c.qcow2', 'd.qcow2']) {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', name, '64M'], { cwd: folder });
    const commands = ['write -P 42 0 128k', 'flush', 'abort'].flatMap((command) => ['-c', command]);
    runPeer('qemu-io', [...commands, name], { cwd: folder });
  }
}

sameAsQemuImg('an image that its last writer did not close is repaired before it is changed', {
  prepare: leaveDirty,
  lines: [
    'info --output=json d.qcow2',
    'amend -o lazy_refcounts=off a.qcow2 => a.qcow2',
    'resize b.qcow2 +1M => b.qcow2',
    'snapshot -c one c.qcow2 => c.qcow2',
    'check d.qcow2',
    'check -r all d.qcow2 => d.qcow2',
  ],
});

sameAsQemuImg('convert into what is raw only by guess', {
  prepare(folder) {
    for (const name of ['plain.img', 'second.img']) {
      fs.writeFileSync(path.join(folder, name), '');
      fs.truncateSync(path.join(folder, name), 1024 * 1024);
    }
  },
  lines: [
    'convert -n -f qcow2 --target-image-opts missing.qcow2 file.filename=plain.img',
    'create -q -f qcow2 small.qcow2 1M',
    'convert -n -f qcow2 --target-image-opts small.qcow2 file.filename=plain.img',
    'convert -n -f raw --target-image-opts small.qcow2 file.filename=plain.img',
    'compare -f raw -F raw plain.img second.img',
    'convert -n -f raw --target-image-opts small.qcow2 driver=raw,file.filename=plain.img',
  ],
});

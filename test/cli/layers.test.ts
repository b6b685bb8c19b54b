// rebase, commit and bench: the words, the exit codes and the images are those of qemu-img.
import fs from 'node:fs';
import path from 'node:path';
import { describe } from 'vitest';
import { mustRun } from '../peers.ts';
import { sameAsQemuImg } from './transcripts.ts';

/** base.qcow2 (2 MiB), other.qcow2 (3 MiB), mid and top (3 MiB) over base, plain.img (raw), and a chain of qcow images. */
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
  img('create', '-q', '-f', 'raw', 'plain.img', '1M');
  img('create', '-q', '-f', 'qcow', 'one.qcow', '1M');
  img('create', '-q', '-f', 'qcow', '-b', 'one.qcow', '-F', 'qcow', 'two.qcow');
  mustRun('qemu-io', ['-f', 'qcow', '-c', 'write -P 4 64k 64k', 'two.qcow'], { cwd: folder });
}

sameAsQemuImg('rebase', {
  prepare,
  lines: [
    'rebase',
    'rebase top.qcow2',
    'rebase -t nonsense -b other.qcow2 top.qcow2',
    'rebase -b missing.qcow2 -F qcow2 top.qcow2',
    'rebase -b other.qcow2 -F nonsense top.qcow2',
    'rebase -u -b other.qcow2 top.qcow2 => top.qcow2',
    'rebase -u -b other.qcow2 -F raw plain.img',
    'rebase -b base.qcow2 -F qcow2 top.qcow2 => top.qcow2',
    'map top.qcow2',
    'rebase -b ./other.qcow2 -F qcow2 top.qcow2 => top.qcow2',
    'map top.qcow2',
    "rebase -b '' top.qcow2 => top.qcow2",
    'map top.qcow2',
    'rebase -q -p -b base.qcow2 -F qcow2 top.qcow2 => top.qcow2',
    'map top.qcow2',
    'rebase -u -b nowhere.qcow2 -F qcow2 top.qcow2 => mid.qcow2',
    'rebase -b base.qcow2 -F qcow2 top.qcow2',
    'rebase -u top.qcow2 => top.qcow2',
    'rebase --image-opts -b base.qcow2 -F qcow2 driver=qcow2,file.filename=top.qcow2 => top.qcow2',
  ],
});

sameAsQemuImg('commit', {
  prepare,
  lines: [
    'commit',
    'commit plain.img',
    'commit -b missing.qcow2 top.qcow2',
    'commit -d top.qcow2 => top.qcow2',
    'commit top.qcow2 => top.qcow2',
    'map top.qcow2',
    'commit -q -b base.qcow2 top.qcow2 => base.qcow2',
    'map base.qcow2',
    'commit -r 100M -t writethrough mid.qcow2 => base.qcow2',
    'map mid.qcow2',
    'commit two.qcow',
    'compare -f qcow two.qcow one.qcow',
  ],
});

sameAsQemuImg('bench: arguments', {
  prepare,
  lines: ['bench', 'bench -w --flush-interval 3 top.qcow2', 'bench -c 3 -o 100M top.qcow2'],
});

describe('folders', () => {
  sameAsQemuImg('relative names start at the folder of the overlay', {
    prepare(folder) {
      const img = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
      fs.mkdirSync(path.join(folder, 'sub'));
      img('create', '-q', '-f', 'qcow2', 'sub/a', '1M');
      img('create', '-q', '-f', 'qcow2', 'sub/b', '1M');
      img('create', '-q', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2', 'sub/top');
    },
    lines: [
      'rebase -b b -F qcow2 sub/top => sub/top',
      'rebase -b sub/a -F qcow2 sub/top',
      'commit -b b sub/top => sub/b',
    ],
  });
});

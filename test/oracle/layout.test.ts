// What convert leaves where: the map of its qcow2 targets is that of qemu-img's, place by place.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { nameImage } from '../../cli/image-options.ts';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { openImage } from '../../core/formats/open.ts';

const folder = scratchFolder('layout');
const img = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
const io = (file: string, ...commands: string[]): void =>
  void mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file], { cwd: folder });

/** `args`: of convert, before the target; `existing`: what the target is created with before (`-n`). */
const cases: readonly {
  readonly name: string;
  readonly args: readonly string[];
  readonly existing?: readonly string[];
}[] = [
  { name: 'data in one piece behind their table', args: ['-O', 'qcow2', 'data.qcow2'] },
  { name: 'everything written', args: ['-O', 'qcow2', '-S', '0', 'data.qcow2'] },
  { name: 'subclusters', args: ['-O', 'qcow2', '-o', 'extended_l2=on', '-S', '0', 'data.qcow2'] },
  {
    name: 'compressed, told apart in clusters',
    args: ['-O', 'qcow2', '-c', '-o', 'cluster_size=1k', '-S', '4k', 'small.qcow2'],
  },
  { name: 'an overlay longer than its base', args: ['-O', 'qcow2', '-B', 'base.qcow2', '-F', 'qcow2', 'long.qcow2'] },
  {
    name: 'an overlay longer than its base, without marks for zeroes',
    args: ['-O', 'qcow2', '-o', 'compat=0.10', '-B', 'base.qcow2', '-F', 'qcow2', 'long.qcow2'],
  },
  { name: 'over an empty image', args: ['-O', 'qcow2', '-n', 'empty.qcow2'], existing: ['8M'] },
  {
    name: 'over an empty image without marks for zeroes',
    args: ['-O', 'qcow2', '-n', 'empty.qcow2'],
    existing: ['-o', 'compat=0.10', '8M'],
  },
  {
    name: 'over an empty overlay',
    args: ['-O', 'qcow2', '-n', 'empty.qcow2'],
    existing: ['-b', 'base.qcow2', '-F', 'qcow2', '8M'],
  },
  {
    name: 'over an empty overlay without marks for zeroes',
    args: ['-O', 'qcow2', '-n', 'empty.qcow2'],
    existing: ['-o', 'compat=0.10', '-b', 'base.qcow2', '-F', 'qcow2', '8M'],
  },
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'convert leaves', () => {
  beforeAll(() => {
    img('create', '-q', '-f', 'qcow2', 'data.qcow2', '16M');
    io('data.qcow2', 'write -q -P 1 0 3M', 'write -q -P 2 9M 1M');
    img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=1k', 'small.qcow2', '4M');
    io('small.qcow2', 'write -q -P 3 0 1k', 'write -q -P 3 8k 1k', 'write -q -P 3 17k 1k');
    img('create', '-q', '-f', 'qcow2', 'base.qcow2', '8M');
    img('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'long.qcow2', '700M');
    io('long.qcow2', 'write -q -P 4 4M 64k', 'write -q -P 5 600M 64k');
    img('create', '-q', '-f', 'qcow2', 'empty.qcow2', '8M');
  });

  it.each(cases)('$name', ({ args, existing }) => {
    const maps = [runPlatter, runQemuImg].map((run) => {
      fs.rmSync(path.join(folder, 'target.qcow2'), { force: true });
      if (existing !== undefined) {
        const size = existing.at(-1) ?? '';
        img('create', '-q', '-f', 'qcow2', ...existing.slice(0, -1), 'target.qcow2', size);
      }
      expect(run(['convert', ...args, 'target.qcow2'], { cwd: folder })).toEqual({ status: 0, stdout: '', stderr: '' });
      img('check', '-q', 'target.qcow2');
      return JSON.parse(img('map', '--output=json', 'target.qcow2')) as unknown;
    });
    expect(maps[0]).toEqual(maps[1]);
  });
});

it('a name with a colon behind file: is a path', () => {
  expect(nameImage('file:a:b').path).toBe('./a:b');
  expect(() => nameImage('a:b')).toThrow("Unknown protocol 'a'");
  expect(() => openImage(nameImage('file:not-there:at-all').path)).toThrow('No such file or directory');
});

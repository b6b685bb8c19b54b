// create and convert whose n-th change of a file fails, for every n: nothing half-made carries the final name, and what stood there stays.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { describeWith, mustRun, runQemuImg } from '../peers.ts';
import { positionCoded } from '../position-coded.ts';
import { digestOfFile } from '../samples/digest.ts';
import { scratchFolder } from '../scratch.ts';
import { withFailingFiles } from './failing-files.ts';

vi.hoisted(() => {
  process.env.PLATTER_NO_KOFFI = '1';
  process.env.PLATTER_PROGNAME = 'qemu-img';
  process.env.PLATTER_QEMU_COMPAT = '7.2';
});
const { program } = await import('../../cli/program.ts');

const MiB = 1024 * 1024;
const size = 3 * MiB + 512;

interface Row {
  readonly name: string;
  readonly argv: (folder: string) => string[];
  /** Files that come to be, the image first. */
  readonly outputs: readonly string[];
  readonly format: string;
  /** What the result must hold, as a file in the folder of the sources; null: zeroes. */
  readonly content: 'plain.raw' | null;
  /** Every which n is tried in the short mode; starting the threads that pack costs more than all the rest. */
  readonly stride: number;
}

const out = (folder: string, name = 'out'): string => path.join(folder, name);

function converts(
  name: string,
  format: string,
  source: string,
  more: (folder: string) => string[] = () => [],
  outputs = ['out'],
): Row {
  return {
    name: `convert ${name}`,
    argv: (folder) => ['convert', '-O', format, ...more(folder), source, out(folder)],
    outputs,
    format,
    content: 'plain.raw',
    stride: more('').includes('-c') ? 5 : 1,
  };
}

const creates = (name: string, format: string, options: (folder: string) => string[], outputs = ['out']): Row => ({
  name: `create ${name}`,
  argv: (folder) => ['create', '-q', '-f', format, ...options(folder), out(folder), String(size)],
  outputs,
  format,
  content: null,
  stride: 1,
});

const rows: readonly Row[] = [
  creates('raw', 'raw', () => []),
  creates('raw, preallocation=full', 'raw', () => ['-o', 'preallocation=full']),
  creates('qcow2', 'qcow2', () => []),
  creates('qcow2, preallocation=metadata', 'qcow2', () => ['-o', 'preallocation=metadata,cluster_size=4k']),
  creates('qcow2 with a data file', 'qcow2', (folder) => ['-o', `data_file=${out(folder, 'data')}`], ['out', 'data']),
  converts('raw to qcow2', 'qcow2', 'SOURCES/plain.raw'),
  converts('raw to qcow2, small clusters', 'qcow2', 'SOURCES/plain.raw', () => ['-o', 'cluster_size=4k']),
  converts('raw to qcow2, compressed', 'qcow2', 'SOURCES/plain.raw', () => ['-c']),
  converts(
    'raw to qcow2 with a data file',
    'qcow2',
    'SOURCES/plain.raw',
    (folder) => ['-o', `data_file=${out(folder, 'data')}`],
    ['out', 'data'],
  ),
  converts('qcow2 to raw', 'raw', 'SOURCES/plain.qcow2'),
  converts('qcow2 to raw, flushed (-t writeback)', 'raw', 'SOURCES/plain.qcow2', () => ['-t', 'writeback']),
  converts('compressed qcow2 to qcow2, flushed', 'qcow2', 'SOURCES/packed.qcow2', () => ['-t', 'writeback']),
  converts('a chain to qcow2', 'qcow2', 'SOURCES/top.qcow2'),
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'outputs whose step n fails', () => {
  const scratch = scratchFolder('outputs');
  const sources = path.join(scratch, 'sources');

  beforeAll(() => {
    fs.mkdirSync(sources);
    const plain = positionCoded(0, size, 5);
    plain.fill(0, MiB, MiB + 300_000);
    fs.writeFileSync(path.join(sources, 'plain.raw'), plain);
    const run = (...args: string[]): string => mustRun('qemu-img', args, { cwd: sources });
    run('convert', '-O', 'qcow2', 'plain.raw', 'plain.qcow2');
    run('convert', '-c', '-O', 'qcow2', 'plain.raw', 'packed.qcow2');
    run('convert', '-O', 'qcow2', 'plain.raw', 'base.qcow2');
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 9 0 1M', 'base.qcow2'], { cwd: sources });
    run('convert', '-O', 'qcow2', '-B', 'base.qcow2', '-F', 'qcow2', 'plain.raw', 'top.qcow2');
  });

  const argvOf = (row: Row, folder: string): string[] =>
    row.argv(folder).map((word) => word.replace('SOURCES', sources));

  function expectComplete(row: Row, folder: string): void {
    expect(fs.readdirSync(folder).sort()).toEqual([...row.outputs].sort());
    if (row.content !== null) {
      const same = runQemuImg(['compare', '-f', 'raw', '-F', row.format, path.join(sources, row.content), out(folder)]);
      expect(same.status, same.stdout + same.stderr).toBe(0);
    }
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', '-f', row.format, out(folder)])) as Record<
      string,
      unknown
    >;
    expect(info['virtual-size']).toBe(size);
    if (row.format === 'qcow2') expect(runQemuImg(['check', '-f', 'qcow2', out(folder)]).status).toBe(0);
  }

  for (const row of rows) {
    describe(row.name, () => {
      for (const [errno, existing] of [
        ['EIO', false],
        ['ENOSPC', true],
      ] as const) {
        it(`${errno}, ${existing ? 'over an existing file' : 'to a new name'}`, { timeout: 300_000 }, async () => {
          const old = positionCoded(0, 70_000, 99);
          for (let n = 1; ; n += process.env.PLATTER_LONG === '1' ? 1 : row.stride) {
            const folder = path.join(scratch, 'targets');
            fs.rmSync(folder, { recursive: true, force: true });
            fs.mkdirSync(folder);
            if (existing) for (const name of row.outputs) fs.writeFileSync(out(folder, name), old, { mode: 0o640 });
            const { result, steps, said } = await withFailingFiles(folder, n, errno, () =>
              program(argvOf(row, folder)),
            );
            const struck = steps.length >= n;
            const title = `step ${n} (${steps[n - 1]}) of ${row.name}: ${said}`;
            if (!struck) {
              expect(result, title).toBe(0);
              expect(n, 'nothing was written').toBeGreaterThan(1);
              expectComplete(row, folder);
              return;
            }
            expect(result, title).toBe(1);
            expect(said, title).toMatch(/^qemu-img: .*(Input\/output error|No space left on device)/m);
            expect(said, title).not.toMatch(/^ {4}at |internal error/m);
            if (steps.slice(0, n - 1).filter((step) => step === 'rename').length === row.outputs.length) {
              // Only the folder could not be flushed: the output is complete, and that its name may be lost is said.
              expectComplete(row, folder);
              continue;
            }
            const left = fs.readdirSync(folder).sort();
            if (!existing && row.outputs.length === 1) expect(left, title).toEqual([]);
            else if (existing) {
              expect(left, title).toEqual([...row.outputs].sort());
              // Of an image in two files the second name may have been given when the first one fails.
              const kept = row.outputs.length === 1 ? row.outputs : row.outputs.slice(0, 1);
              for (const name of kept)
                expect(fs.readFileSync(out(folder, name)).equals(old), `${title}: ${name}`).toBe(true);
            } else expect(left, title).not.toContain('out');
          }
        });
      }
    });
  }

  it('no file of the sources was touched', () => {
    const { sd64k } = digestOfFile(path.join(sources, 'plain.raw'));
    mustRun('qemu-img', ['convert', '-O', 'raw', 'top.qcow2', 'again.raw'], { cwd: sources });
    expect(digestOfFile(path.join(sources, 'again.raw')).sd64k).toBe(sd64k);
  });
});

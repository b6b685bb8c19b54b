// measure against qemu-img's: a grid of options and sizes, and images of every kind.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { resolve } from '../../../../core/block/read.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { measureQcow2 } from '../../../../core/formats/qcow2/measure.ts';
import { describeWith, mustRun, runQemuImg, type Finished } from '../../../peers.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-measure-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

type Options = Record<string, OptionValue>;

function optionText(options: Options): string[] {
  const text = Object.entries(options).map(([name, value]) => {
    const shown = typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
    return `${name}=${shown}`;
  });
  return text.length === 0 ? [] : ['-o', text.join(',')];
}

/** The figures of qemu-img, or its sentence. For LUKS it measures the speed of the machine, and gives up when that is busy. */
function theirs(options: Options, what: readonly string[]): unknown {
  const run = (): Finished => runQemuImg(['measure', '-O', 'qcow2', '--output=json', ...optionText(options), ...what]);
  let child = run();
  for (let tries = 0; tries < 30 && child.stderr.includes('accurate CPU usage'); tries++) child = run();
  if (child.status !== 0) return child.stderr.replace(/^qemu-img: /, '').trimEnd();
  const { required, 'fully-allocated': fullyAllocated } = JSON.parse(child.stdout) as Record<string, number>;
  return { required, fullyAllocated };
}

function ours(
  size: number,
  options: Options,
  data: (() => Iterable<{ start: number; length: number }>) | null,
): unknown {
  const path = options.backing_file;
  const backing = path === undefined ? null : { path: String(path), format: 'raw' };
  try {
    return measureQcow2({ size, options, backing, data });
  } catch (error) {
    if (isImageError(error)) return error.message;
    throw error;
  }
}

const KiB = 1024;
const sizes = [
  0,
  1,
  511,
  512,
  65535,
  65536,
  65537,
  1000 * KiB + 1,
  512 * 1024 * KiB,
  2 ** 30 + 512,
  2 ** 33,
  2 ** 37,
  2 ** 40,
  2 ** 46,
];

describeWith({ peers: ['qemu-img'] }, 'measure of a size', () => {
  const choices: Options[] = [];
  for (const cluster_size of [512, 4096, 65536, 2 * 1024 * KiB]) {
    for (const refcount_bits of [1, 8, 16, 64]) choices.push({ cluster_size, refcount_bits });
  }
  choices.push(
    {},
    { extended_l2: true },
    { extended_l2: true, cluster_size: 16384 },
    { extended_l2: true, cluster_size: 2 * 1024 * KiB, refcount_bits: 32 },
    { preallocation: 'off' },
    { preallocation: 'metadata' },
    { preallocation: 'falloc', cluster_size: 4096 },
    { preallocation: 'full' },
    { compat: '0.10' },
    { compat: '1.1', refcount_bits: 2 },
    { data_file: 'x' },
    { lazy_refcounts: true },
    { backing_file: 'x' },
    { compression_type: 'zstd' },
    { 'encrypt.format': 'aes' },
    // What is refused.
    { cluster_size: 3000 },
    { cluster_size: 256 },
    { cluster_size: 4 * 1024 * KiB },
    { refcount_bits: 3 },
    { refcount_bits: 128 },
    { compat: '0.10', refcount_bits: 1 },
    { compat: '0.11' },
    { extended_l2: true, cluster_size: 4096 },
    { preallocation: 'bogus' },
    { 'encrypt.format': 'luks' },
  );
  it.each(choices)('%o', (options) => {
    const some = Object.keys(options).length < 2 ? sizes : sizes.filter((_, index) => index % 3 === 1);
    for (const size of some)
      expect(ours(size, options, null), `${size}`).toEqual(theirs(options, ['--size', `${size}`]));
  });

  it('LUKS', () => {
    for (const [cipher, mode] of [[], ['aes-128', 'cbc']]) {
      const options: Options = {
        'encrypt.format': 'luks',
        'encrypt.key-secret': 's',
        'encrypt.iter-time': 10,
        cluster_size: 4096,
      };
      if (cipher !== undefined) options['encrypt.cipher-alg'] = cipher;
      if (mode !== undefined) options['encrypt.cipher-mode'] = mode;
      const expected = theirs(options, ['--object', 'secret,id=s,data=x', '--size', '1G']);
      expect(ours(2 ** 30, options, null), `${cipher} ${mode}`).toEqual(expected);
    }
  });
});

/** What a convert of this image would store; of a preallocated one, not the clusters for which the file holds no bytes. */
function* storedRuns(file: string, format: string, sparse: boolean): Generator<{ start: number; length: number }> {
  const { node } = openImage(file, { format });
  try {
    for (const run of resolve(node, { start: 0, length: node.size })) {
      const { mapping } = run;
      if (mapping.kind === 'zero') continue;
      if (mapping.kind === 'packed' || !sparse) {
        yield { start: run.start, length: run.length };
        continue;
      }
      for (let done = 0; done < run.length;) {
        const extent = mapping.storage.extentAt(mapping.offset + done, run.length - done);
        const length = Math.min(extent.length, run.length - done);
        if (extent.kind === 'data') yield { start: run.start + done, length };
        done += length;
      }
    }
  } finally {
    node.close();
  }
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'measure of an image', () => {
  const writes = [
    'write 3k 5k',
    'write 100k 200k',
    'write -z 400k 100k',
    'write 1M 512',
    'write 2040k 10k',
    'write 9M 3k',
  ];
  const sources: [string, string, string][] = [
    ['raw', '', '10000384'],
    ['qcow2', '', '10000384'],
    ['qcow2', 'cluster_size=512', '10000384'],
    ['qcow2', 'cluster_size=4096', '10M'],
    ['qcow2', 'extended_l2=on', '10M'],
    ['qcow2', 'preallocation=metadata', '10M'],
  ];
  it.each(sources)('%s %s', (format, made, size) => {
    const file = path.join(folder, `${format}-${made.replaceAll('=', '-')}`);
    const options = made === '' ? [] : ['-o', made];
    mustRun('qemu-img', ['create', '-q', '-f', format, ...options, file, size]);
    mustRun('qemu-io', ['-f', format, ...writes.flatMap((write) => ['-c', write]), file]);
    const choices: Options[] = [
      {},
      { cluster_size: 512 },
      { cluster_size: 4096, refcount_bits: 64 },
      { cluster_size: 2 * 1024 * KiB },
      { preallocation: 'full' },
      { backing_file: 'x', cluster_size: 4096 },
      { extended_l2: true },
    ];
    for (const choice of choices) {
      const expected = theirs(choice, ['-f', format, file]);
      const { size: length } = sizeOf(file, format);
      expect(
        ours(length, choice, () => storedRuns(file, format, made.startsWith('preallocation'))),
        JSON.stringify(choice),
      ).toEqual(expected);
    }
  });

  function sizeOf(file: string, format: string): { size: number } {
    const { node } = openImage(file, { format });
    const { size } = node;
    node.close();
    return { size };
  }
});

// New images beside those that qemu-img creates: same facts, same length, same content, same refusals.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import type { BackingReference } from '../../../../core/block/node.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { qcow2 } from '../../../../core/formats/qcow2/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';

const GiB = 1024 ** 3;

/** `a=1,b=on` as the command line makes values of it. */
function valuesOf(options: string): Record<string, OptionValue> {
  const values: Record<string, OptionValue> = {};
  for (const pair of options.split(',').filter((one) => one !== '')) {
    const [name = '', value = ''] = pair.split('=');
    const type = qcow2.options.find((row) => row.name === name)?.type;
    if (type === 'bool') values[name] = value === 'on';
    else if (type === 'number') values[name] = Number(value);
    else if (type === 'size') values[name] = parseInt(value) * ({ k: 1024, M: 1024 ** 2 }[value.at(-1) ?? ''] ?? 1);
    else values[name] = value;
  }
  return values;
}

function create(file: string, size: number, options: string): void {
  const values = valuesOf(options);
  const backing: BackingReference | null =
    typeof values.backing_file === 'string'
      ? { path: values.backing_file, format: typeof values.backing_fmt === 'string' ? values.backing_fmt : null }
      : null;
  const opened: Storage[] = [];
  const begin = (name: string): Storage => {
    fs.rmSync(name, { force: true });
    const storage = openFile(name, { writable: true, lock: 'none', create: 'new', mode: 0o644 });
    opened.push(storage);
    return storage;
  };
  try {
    qcow2.create?.({
      storage: begin(file),
      name: file,
      size,
      options: values,
      backing,
      createFile: (reference) => begin(path.join(path.dirname(file), reference)),
      job: silentJob,
    });
  } finally {
    for (const storage of opened) storage.close();
  }
}

const layouts = [
  '',
  'compat=0.10',
  'compat=v3',
  'cluster_size=512',
  'cluster_size=1k',
  'cluster_size=2M',
  'extended_l2=on',
  'compression_type=zstd',
  'refcount_bits=1',
  'refcount_bits=64,cluster_size=512',
  'lazy_refcounts=on',
  'preallocation=metadata',
  'preallocation=metadata,cluster_size=4k,refcount_bits=8',
  'preallocation=metadata,extended_l2=on',
  'preallocation=falloc',
  'preallocation=full,cluster_size=8k',
  'data_file=data.raw',
  'data_file=data.raw,data_file_raw=on',
  'data_file=data.raw,preallocation=falloc',
  'backing_file=base.raw,backing_fmt=raw',
  'backing_file=base.raw,backing_fmt=raw,extended_l2=on,preallocation=metadata',
];

const refusals = [
  'compat=foo',
  'compression_type=foo',
  'preallocation=foo',
  'refcount_bits=3',
  'refcount_bits=128',
  'refcount_bits=0',
  'cluster_size=3',
  'cluster_size=0',
  'cluster_size=4M',
  'cluster_size=256',
  'lazy_refcounts=on,compat=0.10',
  'refcount_bits=8,compat=v2',
  'extended_l2=on,cluster_size=8k',
  'extended_l2=on,compat=0.10',
  'compression_type=zstd,compat=v2',
  'data_file_raw=on',
  'data_file=data.raw,compat=v2',
  'data_file=data.raw,data_file_raw=on,backing_file=base.raw,backing_fmt=raw',
  'backing_fmt=raw',
  'encrypt.format=foo',
  'encrypt.format=aes,encryption=on',
  'encrypt.key-secret=sec0',
  'preallocation=metadata,backing_file=base.raw,backing_fmt=raw',
  'preallocation=falloc,backing_file=base.raw,backing_fmt=raw',
];

describeWith({ peers: ['qemu-img'] }, 'new qcow2 images', () => {
  const folder = scratchFolder('qcow2-create');
  const ours = path.join(folder, 'ours.qcow2');
  const theirs = path.join(folder, 'theirs.qcow2');
  const data = path.join(folder, 'data.raw');

  beforeAll(() => fs.writeFileSync(path.join(folder, 'base.raw'), Buffer.alloc(1024 * 1024, 7)));

  function facts(file: string): unknown {
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file], { cwd: folder })) as object;
    return { ...info, filename: '', 'actual-size': 0 };
  }

  describe.each(layouts)('%s', (options) => {
    const provided = options.includes('falloc') || options.includes('full');
    const sizes = provided ? [0, 1000, 20_000_000] : [0, 1000, 100_000_000, 3 * GiB];
    it.each(sizes)('%i bytes', (size) => {
      for (const file of [ours, theirs, data]) fs.rmSync(file, { force: true });
      const stated = options === '' ? [] : ['-o', options];
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...stated, theirs, String(size)], { cwd: folder });
      const expected = facts(theirs);
      const { size: length } = fs.statSync(theirs);
      const map = mustRun('qemu-img', ['map', '--output=json', theirs], { cwd: folder });
      create(ours, size, options);
      const check = runQemuImg(['check', ours], { cwd: folder });
      expect(check.status, check.stdout + check.stderr).toBe(0);
      expect(facts(ours)).toEqual(expected);
      // An L1 table longer than one refcount block counts stands elsewhere, behind a refcount table that has grown.
      const elsewhere = options.includes('cluster_size=512') && size === 3 * GiB;
      if (!elsewhere && !(provided && size === 0)) expect(fs.statSync(ours).size).toBe(length);
      // How much of a preallocated file is a hole depends on where it stands in the file.
      if (!options.includes('preallocation')) {
        expect(mustRun('qemu-img', ['map', '--output=json', ours], { cwd: folder })).toBe(map);
      }
      if (options.includes('data_file')) expect(fs.statSync(data).size).toBe(Math.ceil(size / 512) * 512);
      if (size < GiB) mustRun('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', ours, theirs], { cwd: folder });
    });
  });

  it.each(refusals)('refuses %s', (options) => {
    const peer = runQemuImg(['create', '-f', 'qcow2', '-o', options, theirs, '10M'], { cwd: folder });
    expect(peer.status, peer.stdout).toBe(1);
    let found: unknown = null;
    try {
      create(ours, 10 * 1024 * 1024, options);
    } catch (error) {
      found = error;
    }
    expect(found).toBeInstanceOf(ImageError);
    expect(peer.stderr).toContain((found as ImageError).message);
  });

  it('refuses a disk that no L1 table can hold', () => {
    for (const [options, size] of [
      ['cluster_size=512', 1024 * GiB],
      ['', 4096 * 1024 * GiB],
    ] as const) {
      const stated = options === '' ? [] : ['-o', options];
      const peer = runQemuImg(['create', '-f', 'qcow2', ...stated, theirs, String(size)], { cwd: folder });
      expect(() => create(ours, size, options)).toThrow(/too large for file format/);
      expect(peer.stderr).toContain(
        "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
      );
    }
  });

  it('does not encrypt without a secret', () => {
    expect(() => create(ours, GiB, 'encrypt.format=luks,encrypt.key-secret=s')).toThrow(
      expect.objectContaining({ code: 'crypto/no-secret' }),
    );
    expect(() => create(ours, GiB, 'encryption=on')).toThrow(
      expect.objectContaining({ code: 'crypto/secret-required' }),
    );
  });
});

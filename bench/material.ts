// The images that the benchmark works on, made on the spot: a sparse disk with mixed data, and very large empty and full ones.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { GiB, KiB, MiB } from '../core/block/units.ts';

const stretch = 16 * MiB;

/**
 * A sparse raw disk of `size` bytes in which every fourth stretch of 16 MiB holds data: in turn bytes that do not compress and text
 * that does (to about a third).
 */
export function writeMixedDisk(file: string, size: number): void {
  const text = Buffer.alloc(stretch);
  const words = Array.from({ length: 4000 }, () =>
    crypto
      .randomBytes(3 + crypto.randomInt(5))
      .toString('hex')
      .slice(0, 8),
  );
  const descriptor = fs.openSync(file, 'w');
  fs.ftruncateSync(descriptor, size);
  for (let at = 0, turn = 0; at + stretch <= size; at += 4 * stretch, turn++) {
    const bytes = turn % 2 === 0 ? crypto.randomBytes(stretch) : fillWithWords(text, words, turn);
    fs.writeSync(descriptor, bytes, 0, stretch, at);
  }
  fs.closeSync(descriptor);
}

function fillWithWords(into: Buffer, words: readonly string[], seed: number): Buffer {
  let state = seed;
  let at = 0;
  while (at < into.length) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    at += into.write(`${words[state % words.length]} `, at, 'latin1') || into.length;
  }
  return into;
}

export interface Material {
  readonly folder: string;
  readonly raw: string;
  readonly qcow2: string;
  readonly zlib: string;
  readonly copy: string;
  readonly vpc: string;
  readonly vhdx: string;
  readonly vmdk: string;
  readonly vdi: string;
  /** A streamOptimized VMDK. */
  readonly stream: string;
  readonly qcow: string;
  readonly full: string;
  readonly empty: string;
  readonly small: string;
}

/** Makes everything in `folder` with qemu-img. `size` is that of the mixed disk. */
export function makeMaterial(folder: string, size: number = 6 * GiB): Material {
  const name = (file: string): string => path.join(folder, file);
  const qemuImg = (...args: string[]): void =>
    void execFileSync('qemu-img', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const material: Material = {
    folder,
    raw: name('mixed.raw'),
    qcow2: name('mixed.qcow2'),
    zlib: name('zlib.qcow2'),
    copy: name('copy.qcow2'),
    vpc: name('mixed.vhd'),
    vhdx: name('mixed.vhdx'),
    vmdk: name('mixed.vmdk'),
    vdi: name('mixed.vdi'),
    stream: name('stream.vmdk'),
    qcow: name('mixed.qcow'),
    full: name('full-1T.qcow2'),
    empty: name('empty-64T.qcow2'),
    small: name('small.qcow2'),
  };
  writeMixedDisk(material.raw, size);
  qemuImg('convert', '-O', 'qcow2', material.raw, material.qcow2);
  qemuImg('convert', '-O', 'qcow2', material.raw, material.copy);
  qemuImg('convert', '-c', '-O', 'qcow2', material.raw, material.zlib);
  for (const format of ['vpc', 'vhdx', 'vmdk', 'vdi', 'qcow'] as const) {
    qemuImg('convert', '-O', format, material.raw, material[format]);
  }
  qemuImg('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', material.raw, material.stream);
  qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', material.full, '1T');
  qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${64 * KiB}`, material.empty, '64T');
  qemuImg('create', '-q', '-f', 'qcow2', material.small, '1G');
  return material;
}

// Chains of overlays for the tests of rebase and commit: made here, with a plain buffer that holds what each image shows.
import fs from 'node:fs';
import path from 'node:path';
import { resolve } from '../../../core/block/read.ts';
import { writeGuest } from '../../../core/block/write.ts';
import type { OptionValue } from '../../../core/formats/driver.ts';
import { driverNamed } from '../../../core/formats/registry.ts';
import { mustRun, peer, runPeer } from '../../peers.ts';
import { difference, positionCoded } from '../../position-coded.ts';
import { checkAt, contentAt, createImage, withImage, writing } from '../formats/new-image.ts';

export interface ChainFormat {
  readonly name: string;
  readonly format: string;
  readonly ending: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  /** qemu-img reads overlays of this format; and checks them. */
  readonly qemuReads: boolean;
  readonly qemuChecks: boolean;
}

const row = (name: string, format: string, ending: string, more: Partial<ChainFormat> = {}): ChainFormat => ({
  name,
  format,
  ending,
  options: {},
  qemuReads: false,
  qemuChecks: false,
  ...more,
});

export const chainFormats: readonly ChainFormat[] = [
  row('qcow', 'qcow', 'qcow', { qemuReads: true }),
  row('qcow2', 'qcow2', 'qcow2', { qemuReads: true, qemuChecks: true }),
  row('qcow2, version 2', 'qcow2', 'qcow2', { qemuReads: true, qemuChecks: true, options: { compat: '0.10' } }),
  row('qcow2, subclusters', 'qcow2', 'qcow2', { qemuReads: true, qemuChecks: true, options: { extended_l2: true } }),
  row('vhd', 'vpc', 'vhd', { options: { force_size: true } }),
  row('vhdx', 'vhdx', 'vhdx'),
  row('vmdk', 'vmdk', 'vmdk', { qemuReads: true, qemuChecks: true }),
  row('vdi', 'vdi', 'vdi'),
];

/** A write of the pattern of a layer, or zeroes (layer 0). */
export interface Write {
  readonly start: number;
  readonly length: number;
  readonly layer: number;
}

export const KiB = 1024;
export const MiB = 1024 * KiB;

/** The images of one test, in a folder of their own. */
export class Chain {
  readonly folder: string;
  readonly row: ChainFormat;
  /** What each image shows. */
  readonly models = new Map<string, Uint8Array>();

  constructor(scratch: string, row: ChainFormat, name: string) {
    this.row = row;
    this.folder = path.join(scratch, `${row.name} ${name}`.replaceAll(/[^a-z0-9]+/g, '-'));
    fs.mkdirSync(this.folder);
  }

  file(name: string): string {
    return `${name}.${this.row.ending}`;
  }

  at(name: string): string {
    return path.join(this.folder, this.file(name));
  }

  /** Makes an image over `below` (null: alone) and writes to it. */
  make(name: string, size: number, below: string | null, writes: readonly Write[]): void {
    const { format, options } = this.row;
    createImage(driverNamed(format), this.at(name), {
      size,
      options,
      backing: below === null ? null : this.file(below),
    });
    const model = new Uint8Array(size);
    const shown = below === null ? null : this.models.get(below);
    if (shown !== null && shown !== undefined) model.set(shown.subarray(0, size));
    this.models.set(name, model);
    this.write(name, writes);
  }

  write(name: string, writes: readonly Write[]): void {
    const model = this.model(name);
    writing(this.at(name), (node) => {
      for (const { start, length, layer } of writes) {
        const bytes = layer === 0 ? new Uint8Array(length) : positionCoded(start, length, layer);
        let at = start;
        while (layer === 0 && at < start + length) {
          const done = node.zero({ start: at, length: start + length - at });
          if (done === null || done.length === 0) break;
          at += done.length;
        }
        if (at < start + length) writeGuest(node, bytes.subarray(at - start), at);
        model.set(bytes, start);
      }
    });
  }

  model(name: string): Uint8Array {
    const model = this.models.get(name);
    if (model === undefined) throw new Error(`no image ${name}`);
    return model;
  }

  /** Why an image does not show what it should; null: it does, for us, for qemu-img where that reads it, and both checks are clean. */
  wrong(name: string, expected: Uint8Array): string | null {
    const found = difference(contentAt(this.at(name), { format: this.row.format }), expected);
    if (found !== null) return found;
    const { format, qemuReads, qemuChecks } = this.row;
    const harm = checkAt(driverNamed(format), this.at(name)).findings.filter(({ severity }) => severity !== 'leak');
    if (harm.length > 0) return harm.map(({ text }) => text).join('; ');
    if (!qemuReads || peer('qemu-img') === null) return null;
    const raw = path.join(this.folder, 'theirs.raw');
    mustRun('qemu-img', ['convert', '-f', format, '-O', 'raw', this.at(name), raw]);
    const theirs = difference(new Uint8Array(fs.readFileSync(raw)), expected);
    if (theirs !== null) return `qemu-img: ${theirs}`;
    if (!qemuChecks) return null;
    const check = runPeer('qemu-img', ['check', '-f', format, this.at(name)]);
    return check.status === 0 || check.status === 3 ? null : `qemu-img check: ${check.stdout}${check.stderr}`;
  }

  /** Bytes of the disk that the image itself holds. */
  own(name: string): number {
    return withImage(this.at(name), { format: this.row.format }, (node) => {
      let bytes = 0;
      for (const run of resolve(node)) {
        const { mapping, depth, length } = run;
        if (depth === 0 && (mapping.kind !== 'zero' || mapping.explicit)) bytes += length;
      }
      return bytes;
    });
  }
}

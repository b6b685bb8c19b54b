// Snapshots taken, applied and deleted, options amended, the guest writing between: against plain buffers; qemu-img has the last word.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { pack } from '../../../../core/block/packed.ts';
import type { WritableNode } from '../../../../core/block/node.ts';
import type { FormatDriver, OptionValue } from '../../../../core/formats/driver.ts';
import { qcow2 } from '../../../../core/formats/qcow2/driver.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { silentJob } from '../../../../core/job.ts';
import { snapshot, type SnapshotAction } from '../../../../core/operations/snapshot.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { contentAt, contentOf, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const long = process.env.PLATTER_LONG === '1';
const rounds = long ? 60 : 7;

interface Case {
  readonly options: string;
  readonly size: number;
  readonly below?: number;
  readonly packed?: boolean;
  /** The size changes too. */
  readonly resized?: boolean;
}

const cases: readonly Case[] = [
  { options: '', size: 6 * MiB + 512, packed: true, resized: true },
  { options: 'cluster_size=512', size: 2 * MiB, packed: true, resized: true },
  { options: 'cluster_size=512,refcount_bits=64', size: MiB },
  { options: 'cluster_size=4k,refcount_bits=2', size: 2 * MiB },
  { options: 'cluster_size=4k,refcount_bits=8', size: 3 * MiB, below: 2 * MiB + 512, packed: true, resized: true },
  { options: 'cluster_size=4k,compat=0.10', size: 3 * MiB, below: 4 * MiB, packed: true },
  { options: 'cluster_size=16k,extended_l2=on', size: 3 * MiB + 512, below: 2 * MiB, packed: true },
  { options: 'cluster_size=4k,lazy_refcounts=on', size: 3 * MiB },
  { options: 'cluster_size=4k,preallocation=metadata', size: 3 * MiB },
];

function packSome(node: WritableNode, model: Uint8Array, random: SeededRandom, layer: number): void {
  const { packed } = node;
  if (packed === undefined) return;
  for (let i = 0; i < 8; i++) {
    const start = random.below(Math.floor(node.size / packed.unit)) * packed.unit;
    const unit = positionCoded(start, packed.unit, layer);
    const reserved = packed.reservePacked(start, pack(packed.codec, unit));
    if (reserved === null) continue;
    reserved.place.storage.writeAt(reserved.bytes, reserved.place.offset);
    reserved.place.publish();
    model.set(unit, start);
  }
}

interface Taken {
  readonly name: string;
  readonly model: Uint8Array;
}

/** An image and the disks that it should hold. */
class Subject {
  readonly file: string;
  readonly base: Uint8Array;
  model: Uint8Array;
  taken: Taken[] = [];

  constructor(file: string, model: Uint8Array, base: Uint8Array) {
    this.file = file;
    this.model = model;
    this.base = base;
  }

  async snapshot(action: SnapshotAction): Promise<void> {
    await snapshot({ path: this.file, options: { format: 'qcow2', undo: 'none' }, action }, silentJob);
  }

  /** Nothing is wrong, nothing has leaked, and the content is the model's. */
  verdict(): void {
    const check = runQemuImg(['check', '-f', 'qcow2', this.file]);
    expect(check.status, check.stdout + check.stderr).toBe(0);
    expect(difference(contentAt(this.file, { format: 'qcow2' }), this.model)).toBeNull();
  }

  /** qemu-img reads the same, snapshots too. */
  lastWord(): void {
    const copy = `${this.file}.raw`;
    mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', this.file, copy]);
    expect(difference(fs.readFileSync(copy), this.model)).toBeNull();
    for (const { name, model } of this.taken) {
      // A snapshot is read with the size that the disk has now.
      mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', '-l', `snapshot.name=${name}`, this.file, copy]);
      const found = fs.readFileSync(copy);
      const length = Math.min(model.length, found.length);
      expect(difference(found.subarray(0, length), model.subarray(0, length))).toBeNull();
      const { node } = openImage(this.file, { format: 'qcow2' });
      const opened = qcow2.snapshots?.open(node, name);
      if (opened === undefined) throw new Error('no snapshots');
      expect(difference(contentOf(opened).subarray(0, length), model.subarray(0, length))).toBeNull();
      node.close();
    }
    fs.rmSync(copy);
  }
}

function amend(driver: FormatDriver, file: string, options: Readonly<Record<string, OptionValue>>): void {
  writing(file, (node) => driver.amend?.(node, { options, force: false, openedWith: null }, silentJob), {
    format: 'qcow2',
  });
}

/** Something that the image may be amended to; what it cannot be must be refused and change nothing. */
function amendSomething(subject: Subject, random: SeededRandom): void {
  const options = random.pick<Record<string, OptionValue>>([
    { refcount_bits: 2 ** random.below(7) },
    { refcount_bits: 16, compat: random.pick(['0.10', 'v2']) },
    { compat: '0.10' },
    { compat: '1.1', lazy_refcounts: random.oneIn(2) },
    { compat: '1.1', refcount_bits: 2 ** random.below(7) },
  ]);
  const before = fs.readFileSync(subject.file);
  try {
    amend(qcow2, subject.file, options);
  } catch (error) {
    if (!isImageError(error) || !/^(amend|qcow2\/refcount-width-small)/.test(error.code)) throw error;
    // What was laid out beside goes again; clusters that nobody uses may hold other bytes.
    expect(fs.statSync(subject.file).size).toBe(before.length);
  }
}

describeWith({ peers: ['qemu-img'] }, 'snapshots and amended options of qcow2 images', () => {
  const folder = scratchFolder('qcow2-snapshot-changes');
  const seed = chosenSeed('snapshots and amended options of qcow2 images');

  it.each(cases.map((one, index) => ({ ...one, index, title: `${one.options} ${one.size} over ${one.below ?? 0}` })))(
    '$title',
    async ({ options, size, below = 0, packed = false, resized = false, index }) => {
      const random = new SeededRandom(seed + index);
      const file = path.join(folder, `image-${index}.qcow2`);
      const model = new Uint8Array(size);
      const base = new Uint8Array(4 * size);
      const backing: string[] = [];
      if (below > 0) {
        fs.writeFileSync(`${file}.base`, positionCoded(0, below, 1));
        base.set(positionCoded(0, below, 1).subarray(0, base.length));
        model.set(base.subarray(0, size));
        backing.push('-b', `${file}.base`, '-F', 'raw');
      }
      const made = options === '' ? [] : ['-o', options];
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...made, ...backing, file, String(size)]);
      const subject = new Subject(file, model, base);
      let number = 0;
      for (let round = 0; round < rounds; round++) {
        writing(
          file,
          (node) => {
            const layer = 10 + round;
            guestAtWork(node, subject.model, { random, layer, steps: 24, longest: 200 * KiB, below: base });
            if (packed) packSome(node, subject.model, random, layer + 100);
          },
          { format: 'qcow2' },
        );
        const deed = random.below(8);
        const one = subject.taken.length === 0 ? null : random.pick(subject.taken);
        if (deed < 3 || one === null) {
          const name = `s${number++}`;
          try {
            await subject.snapshot({ kind: 'create', name });
            subject.taken.push({ name, model: subject.model.slice() });
          } catch (error) {
            // Narrow refcounts come to their end.
            if (!isImageError(error) || error.code !== 'qcow2/refcount-overflow') throw error;
          }
        } else if (deed < 5) {
          try {
            await subject.snapshot({ kind: 'apply', name: one.name });
            subject.model = one.model.slice();
          } catch (error) {
            if (!isImageError(error) || !/^(snapshot\/other-size|qcow2\/refcount-overflow)$/.test(error.code))
              throw error;
          }
        } else if (deed < 7) {
          await subject.snapshot({ kind: 'delete', name: one.name });
          subject.taken = subject.taken.filter((taken) => taken !== one);
        } else if (resized && below === 0) {
          const bigger = subject.model.length + 512 * (1 + random.below(4096));
          try {
            writing(file, (node) => node.resize(bigger), { format: 'qcow2' });
            const grown = new Uint8Array(bigger);
            grown.set(subject.model);
            subject.model = grown;
          } catch (error) {
            // Version 2 does not change its size beside snapshots.
            if (!isImageError(error) || !error.code.startsWith('qcow2/resize')) throw error;
          }
        }
        subject.verdict();
        if (random.oneIn(2) || round === rounds - 1) {
          amendSomething(subject, random);
          subject.verdict();
        }
        if (round % 4 === 3 || round === rounds - 1) subject.lastWord();
      }
      for (const { name } of [...subject.taken]) await subject.snapshot({ kind: 'delete', name });
      subject.taken = [];
      subject.verdict();
      const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as { snapshots?: unknown };
      expect(info.snapshots).toBeUndefined();
    },
    long ? 600_000 : 60_000,
  );
});

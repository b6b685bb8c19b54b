// Random writes, zeroes, discards, packed clusters, snapshots and resizes against a plain buffer; qemu-img has the last word.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { pack } from '../../../../core/block/packed.ts';
import type { WritableNode } from '../../../../core/block/node.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { contentAt, contentOf as contentOfNode, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface Case {
  readonly options: string;
  readonly size: number;
  /** Length of a raw layer below; 0: none. */
  readonly below?: number;
  readonly snapshots?: boolean;
  readonly packed?: boolean;
}

const cases: readonly Case[] = [
  { options: '', size: 6 * MiB + 512, packed: true },
  { options: 'cluster_size=512', size: 3 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=512,refcount_bits=64', size: 2 * MiB, snapshots: true },
  { options: 'cluster_size=512,refcount_bits=1', size: 2 * MiB, packed: true },
  { options: 'cluster_size=4k,refcount_bits=2', size: 4 * MiB, snapshots: true },
  { options: 'cluster_size=4k,refcount_bits=4', size: 4 * MiB, packed: true },
  { options: 'cluster_size=4k,refcount_bits=8', size: 4 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=4k,refcount_bits=32', size: 4 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=4k', size: 4 * MiB, below: 3 * MiB + 512, packed: true, snapshots: true },
  { options: 'cluster_size=4k,compat=0.10', size: 4 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=4k,compat=0.10', size: 4 * MiB, below: 2 * MiB, packed: true },
  { options: 'cluster_size=2M', size: 9 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=16k,extended_l2=on', size: 4 * MiB, packed: true, snapshots: true },
  { options: 'cluster_size=16k,extended_l2=on', size: 4 * MiB + 512, below: 3 * MiB, packed: true, snapshots: true },
  { options: 'extended_l2=on', size: 8 * MiB, below: 9 * MiB },
  { options: 'compression_type=zstd,cluster_size=8k', size: 4 * MiB, packed: true },
  { options: 'lazy_refcounts=on,cluster_size=4k', size: 4 * MiB, packed: true },
  { options: 'preallocation=metadata,cluster_size=4k', size: 4 * MiB, packed: true },
  { options: 'preallocation=metadata,extended_l2=on,cluster_size=16k', size: 4 * MiB, below: 4 * MiB },
  { options: 'data_file=DATA,cluster_size=4k', size: 4 * MiB + 512, below: 4 * MiB },
  { options: 'data_file=DATA,data_file_raw=on,cluster_size=4k', size: 4 * MiB + 512 },
  { options: 'data_file=DATA,extended_l2=on,cluster_size=16k', size: 4 * MiB },
];

/** Writes some clusters packed, as convert does. */
function packSome(node: WritableNode, model: Uint8Array, random: SeededRandom, layer: number): void {
  const { packed } = node;
  if (packed === undefined) throw new Error('the node packs nothing');
  const units = Math.ceil(node.size / packed.unit);
  for (let i = 0; i < 24; i++) {
    const start = random.below(units) * packed.unit;
    const length = Math.min(packed.unit, node.size - start);
    const unit = new Uint8Array(packed.unit);
    unit.set(random.oneIn(8) ? random.bytes(length) : positionCoded(start, length, layer));
    const reserved = packed.reservePacked(start, pack(packed.codec, unit));
    if (reserved === null) continue;
    reserved.place.storage.writeAt(reserved.bytes, reserved.place.offset);
    reserved.place.publish();
    model.set(unit.subarray(0, length), start);
  }
}

/** Throws unless qemu-img finds nothing wrong with the image and the content of `model` in it. */
function verdict(file: string, model: Uint8Array): void {
  // qemu looks for a data file in the working directory, we beside the image.
  const cwd = path.dirname(file);
  const check = runQemuImg(['check', '-f', 'qcow2', file], { cwd });
  expect(check.status, check.stdout + check.stderr).toBe(0);
  const plain = `${file}.expected`;
  fs.writeFileSync(plain, model);
  const compare = runQemuImg(['compare', '-f', 'qcow2', '-F', 'raw', file, plain], { cwd });
  expect(compare.status, compare.stdout + compare.stderr).toBe(0);
  expect(difference(contentAt(file, { format: 'qcow2' }), model)).toBeNull();
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'random changes to qcow2 images', () => {
  const folder = scratchFolder('qcow2-random');
  const seed = chosenSeed('random changes to qcow2 images');

  it.each(cases.map((one, index) => ({ ...one, index, title: `${one.options} ${one.size} over ${one.below ?? 0}` })))(
    '$title',
    ({ options, size, below = 0, snapshots = false, packed = false, index }) => {
      const random = new SeededRandom(seed + index);
      const file = path.join(folder, `image-${index}.qcow2`);
      const backing: string[] = [];
      const model = new Uint8Array(size);
      const base = new Uint8Array(size);
      if (below > 0) {
        const bytes = positionCoded(0, below, 1);
        fs.writeFileSync(path.join(folder, `base-${index}`), bytes);
        model.set(bytes.subarray(0, size));
        base.set(bytes.subarray(0, size));
        backing.push('-b', `base-${index}`, '-F', 'raw');
      }
      const made = options.replaceAll('DATA', `data-${index}`);
      const args = [
        'create',
        '-q',
        '-f',
        'qcow2',
        ...(made === '' ? [] : ['-o', made]),
        ...backing,
        file,
        String(size),
      ];
      mustRun('qemu-img', args, { cwd: folder });
      const old: { name: string; model: Uint8Array }[] = [];
      for (let round = 0; round < 4; round++) {
        const layer = 10 * (round + 1);
        writing(file, (node) => {
          const guest = { random, layer, steps: 60, longest: 400 * KiB, align: random.oneIn(2) ? 512 : 1, below: base };
          guestAtWork(node, model, guest);
          if (packed) packSome(node, model, random, layer + 1);
          guestAtWork(node, model, { ...guest, layer: layer + 2, steps: 40 });
        });
        verdict(file, model);
        if (snapshots && round < 2) {
          mustRun('qemu-img', ['snapshot', '-c', `s${round}`, file]);
          old.push({ name: `s${round}`, model: model.slice() });
        }
        if (round === 2 && options === '') {
          mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 9 100k 300k', file]);
          model.fill(9, 100 * KiB, 400 * KiB);
        }
      }
      for (const { name, model: then } of old) {
        const { node, driver } = openImage(file, { format: 'qcow2' });
        const snapshot = driver.snapshots?.open(node, name);
        if (snapshot === undefined) throw new Error('no snapshots');
        expect(difference(contentOfNode(snapshot), then)).toBeNull();
        node.close();
        const copy = `${file}.${name}`;
        mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', '-l', name, file, copy]);
        expect(difference(fs.readFileSync(copy), then)).toBeNull();
      }
      if (old.length > 0) {
        for (const { name } of old) mustRun('qemu-img', ['snapshot', '-d', name, file]);
        writing(file, (node) =>
          guestAtWork(node, model, { random, layer: 90, steps: 40, longest: 100 * KiB, below: base }),
        );
        verdict(file, model);
      }
    },
  );
});

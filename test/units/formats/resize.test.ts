// Random sequences of growing, shrinking, writing and zeroing in every format against a plain buffer; qemu-img reads what is left.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MemoryStorage } from '../../../core/block/memory.ts';
import type { WritableNode } from '../../../core/block/node.ts';
import { writeGuest } from '../../../core/block/write.ts';
import { driverNamed } from '../../../core/formats/registry.ts';
import { describeWith, mustRun, runPeer } from '../../peers.ts';
import { difference, positionCoded } from '../../position-coded.ts';
import { scratchFolder } from '../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../seeded-random.ts';
import { contentOf, withImage, writing } from './new-image.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const folder = scratchFolder('resize-random');
const seed = chosenSeed('random resizes');

interface Row {
  readonly name: string;
  readonly format: string;
  /** Options of qemu-img create. */
  readonly options?: string;
  /** qemu-img has a check for it. */
  readonly checked?: boolean;
  readonly snapshot?: boolean;
  /** Bytes of a raw layer below. */
  readonly base?: number;
  /** Sizes are whole ones of this. */
  readonly step?: number;
}

const rows: readonly Row[] = [
  { name: 'raw', format: 'raw' },
  { name: 'qcow2', format: 'qcow2', options: 'cluster_size=4k', checked: true },
  {
    name: 'qcow2 with a snapshot and a bitmap',
    format: 'qcow2',
    options: 'cluster_size=4k',
    checked: true,
    snapshot: true,
  },
  { name: 'qcow2 version 2', format: 'qcow2', options: 'compat=0.10,cluster_size=8k', checked: true },
  {
    name: 'qcow2 with subclusters over a base',
    format: 'qcow2',
    options: 'extended_l2=on,cluster_size=16k',
    checked: true,
    base: 3 * MiB,
  },
  {
    name: 'qcow2 over a base',
    format: 'qcow2',
    options: 'refcount_bits=1,cluster_size=512',
    checked: true,
    base: 3 * MiB,
  },
  { name: 'qcow', format: 'qcow' },
  { name: 'qcow over a base', format: 'qcow', base: 3 * MiB },
  { name: 'vpc dynamic', format: 'vpc', options: 'force_size=on' },
  { name: 'vpc fixed', format: 'vpc', options: 'force_size=on,subformat=fixed' },
  { name: 'vhdx', format: 'vhdx', options: 'block_size=1M', checked: true },
  { name: 'vhdx fixed', format: 'vhdx', options: 'block_size=1M,subformat=fixed', checked: true },
  { name: 'vmdk', format: 'vmdk', checked: true },
  { name: 'vmdk flat', format: 'vmdk', options: 'subformat=monolithicFlat' },
  { name: 'vmdk split', format: 'vmdk', options: 'subformat=twoGbMaxExtentSparse', checked: true },
  { name: 'vdi', format: 'vdi', checked: true },
  { name: 'vdi static', format: 'vdi', options: 'static=on', checked: true },
];

const largest = 6 * MiB;

function change(node: WritableNode, model: Uint8Array, random: SeededRandom, layer: number): Uint8Array {
  const kind = random.below(5);
  if (kind < 2) {
    const size = 512 * (1 + random.below(largest / 512));
    node.resize(size);
    const resized = new Uint8Array(node.size);
    resized.set(model.subarray(0, resized.length));
    return resized;
  }
  const start = random.below(model.length);
  const length = Math.min(model.length - start, 1 + random.below(500 * KiB));
  if (kind < 4) {
    const bytes = positionCoded(start, length, layer);
    writeGuest(node, bytes, start);
    model.set(bytes, start);
  } else {
    const done = node.zero({ start, length });
    if (done !== null) model.fill(0, done.start, done.start + done.length);
  }
  return model;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'random resizes', () => {
  it.each(rows)('$name', ({ name, format, options, checked = false, snapshot = false, base }) => {
    const random = new SeededRandom(seed + rows.findIndex((row) => row.name === name));
    const file = path.join(folder, `${name.replaceAll(' ', '-')}.${format}`);
    const size = 2 * MiB;
    const below = base === undefined ? [] : ['-b', 'base.raw', '-F', 'raw'];
    if (base !== undefined) fs.writeFileSync(path.join(folder, 'base.raw'), positionCoded(0, base, 200));
    const stated = options === undefined ? [] : ['-o', options];
    mustRun('qemu-img', ['create', '-q', '-f', format, ...stated, ...below, file, String(size)]);
    let model = new Uint8Array(size);
    if (base !== undefined) model.set(positionCoded(0, Math.min(base, size), 200));
    let kept: Uint8Array | null = null;
    if (snapshot) {
      const bytes = positionCoded(MiB, 900 * KiB, 3);
      writing(file, (node) => writeGuest(node, bytes, MiB), { format });
      model.set(bytes, MiB);
      mustRun('qemu-img', ['snapshot', '-c', 's', file]);
      mustRun('qemu-img', ['bitmap', '--add', '--disable', '-g', '64k', file, 'b']);
      kept = model.slice();
    }
    for (let round = 0; round < 3; round++) {
      const title = `${name}, round ${round}, SEED=${seed}`;
      writing(
        file,
        (node) => {
          for (let i = 0; i < 8; i++) {
            // Where bitmaps are to stay, the guest must not write.
            if (snapshot) {
              node.resize(512 * (1 + random.below(largest / 512)));
              const resized = new Uint8Array(node.size);
              resized.set(model.subarray(0, resized.length));
              model = resized;
            } else model = change(node, model, random, round * 8 + i + 1) as Uint8Array<ArrayBuffer>;
          }
        },
        { format },
      );
      expect(
        withImage(file, { format }, (node) => difference(contentOf(node), model)),
        title,
      ).toBeNull();
      const raw = `${file}.raw`;
      fs.writeFileSync(raw, model);
      const compared = runPeer('qemu-img', ['compare', '-f', format, '-F', 'raw', file, raw]);
      expect(compared, title).toEqual({ status: 0, stdout: 'Images are identical.\n', stderr: '' });
      expect(checked ? runPeer('qemu-img', ['check', '-f', format, file]) : { status: 0 }, title).toMatchObject({
        status: 0,
      });
    }
    if (kept === null) return;
    const facts = mustRun('qemu-img', ['info', '--output=json', file]);
    expect(JSON.parse(facts)).toMatchObject({
      'format-specific': { data: { bitmaps: [{ name: 'b', granularity: 65536, flags: [] }] } },
    });
    mustRun('qemu-img', ['bitmap', '--remove', file, 'b']);
    mustRun('qemu-img', ['snapshot', '-a', 's', file]);
    expect(
      withImage(file, { format }, (node) => difference(contentOf(node), kept)),
      name,
    ).toBeNull();
  });

  it('a shrunk qcow2 gives the end of its file back, and what it grows by later can be provided for', () => {
    const file = path.join(folder, 'tail.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '64M']);
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 1 0 64M', file]);
    writing(file, (node) => node.resize(MiB), { format: 'qcow2' });
    expect(fs.statSync(file).size).toBeLessThan(1.5 * MiB);
    mustRun('qemu-img', ['check', '-f', 'qcow2', file]);
    writing(file, (node) => node.resize(20 * MiB, 'metadata'), { format: 'qcow2' });
    mustRun('qemu-img', ['check', '-f', 'qcow2', file]);
    const map = mustRun('qemu-img', ['map', '--output=json', file]);
    expect(map).not.toContain('"data": false');
    const content = withImage(file, { format: 'qcow2' }, contentOf);
    expect(content.subarray(MiB).every((byte) => byte === 0)).toBe(true);
  });

  it('a vhd has the size that its maker would give it, a raw file the very byte', () => {
    const vhd = path.join(folder, 'rounded.vhd');
    mustRun('qemu-img', ['create', '-q', '-f', 'vpc', vhd, '10M']);
    writing(vhd, (node) => node.resize(33 * MiB), { format: 'vpc' });
    const created = path.join(folder, 'created.vhd');
    mustRun('qemu-img', ['create', '-q', '-f', 'vpc', created, '33M']);
    const sizeOf = (file: string): unknown =>
      (JSON.parse(mustRun('qemu-img', ['info', '-f', 'vpc', '--output=json', file])) as Record<string, unknown>)[
        'virtual-size'
      ];
    expect(sizeOf(vhd)).toBe(sizeOf(created));
    const storage = new MemoryStorage(new Uint8Array(512), 'raw');
    const node = driverNamed('raw').open(storage, {
      writable: true,
      gate: { openImage: () => node, openFile: () => storage },
      withBacking: true,
      runtime: {},
      forRepair: false,
    }) as WritableNode;
    node.resize(1000);
    expect([storage.size, node.size]).toEqual([1000, 1024]);
  });
});

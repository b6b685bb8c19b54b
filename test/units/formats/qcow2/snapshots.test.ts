// Snapshots of qcow2: the list, the content and the refusals, against qemu-img.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readGuest } from '../../../../core/block/read.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { SnapshotFacts } from '../../../../core/formats/driver.ts';
import { openImage, type OpenedImage } from '../../../../core/formats/open.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { Crafted } from './crafted.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-snapshots-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let number = 0;

function withImage<T>(file: string, use: (image: OpenedImage) => T): T {
  const image = openImage(file, { format: 'qcow2' });
  try {
    return use(image);
  } finally {
    image.node.close();
  }
}

const list = (file: string): readonly SnapshotFacts[] =>
  withImage(file, ({ node, driver }) => driver.snapshots?.list(node) ?? []);

interface QemuSnapshot {
  readonly id: string;
  readonly name: string;
  readonly 'vm-state-size': number;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly 'vm-clock-nsec': number;
  readonly icount?: number;
}

/** The list of qemu-img in our words; it says nothing of the disk's size. */
function theirList(file: string): Omit<SnapshotFacts, 'diskSize'>[] {
  const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as { snapshots?: QemuSnapshot[] };
  return (info.snapshots ?? []).map((snapshot) => ({
    id: snapshot.id,
    name: snapshot.name,
    vmStateSize: snapshot['vm-state-size'],
    dateSeconds: snapshot['date-sec'],
    dateNanoseconds: snapshot['date-nsec'],
    vmClockNanoseconds: snapshot['vm-clock-sec'] * 1e9 + snapshot['vm-clock-nsec'],
    icount: snapshot.icount ?? null,
  }));
}

function sameLists(file: string): void {
  expect(list(file).map(({ diskSize: _size, ...rest }) => rest)).toEqual(theirList(file));
}

function digest(file: string, idOrName: string): string {
  return withImage(file, ({ node, driver }) => {
    const snapshot = driver.snapshots?.open(node, idOrName);
    if (snapshot === undefined) throw new Error('no snapshots');
    const bytes = new Uint8Array(snapshot.size);
    readGuest(snapshot, bytes, 0);
    snapshot.close();
    return createHash('sha256').update(bytes).digest('hex');
  });
}

function theirDigest(file: string, idOrName: string): string {
  const raw = path.join(folder, 'snapshot.raw');
  mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', '-l', idOrName, file, raw]);
  return createHash('sha256').update(fs.readFileSync(raw)).digest('hex');
}

/** The sentence of what refuses, in qemu-img's form without the program's name and what comes before the cause. */
function refusal(use: () => unknown): string {
  try {
    use();
  } catch (error) {
    if (isImageError(error)) return error.message;
    throw error;
  }
  return '';
}

const theirRefusal = (args: readonly string[]): string =>
  runQemuImg(args)
    .stderr.replace(/^qemu-img: (Could not open '[^']*'|Failed to load snapshot): /, '')
    .trimEnd();

function image(options = ''): Crafted {
  const crafted = Crafted.create(path.join(folder, `${number++}.qcow2`), '3M', options, ['write -P 1 0 1M']);
  mustRun('qemu-img', ['snapshot', '-c', 'first', crafted.path]);
  mustRun('qemu-io', ['-c', 'write -P 2 512k 1M', crafted.path]);
  mustRun('qemu-img', ['snapshot', '-c', '1', crafted.path]);
  mustRun('qemu-io', ['-c', 'write -z 0 64k', '-c', 'write -P 3 2M 100k', crafted.path]);
  return crafted;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'snapshots', () => {
  it.each(['', 'compat=0.10', 'cluster_size=512', 'cluster_size=2M', 'extended_l2=on', 'refcount_bits=8'])(
    '%s: listed and read as by qemu-img; an id goes before a name',
    (options) => {
      const { path: file } = image(options);
      sameLists(file);
      for (const which of ['first', '1', '2']) expect(digest(file, which), which).toBe(theirDigest(file, which));
      expect(digest(file, '1')).toBe(digest(file, 'first'));
      expect(digest(file, '2')).not.toBe(digest(file, 'first'));
    },
  );

  it('have the size that the disk has now', () => {
    const { path: file } = image();
    mustRun('qemu-img', ['resize', '-q', file, '5M']);
    expect(list(file).map(({ diskSize }) => diskSize)).toEqual([3 * 2 ** 20, 3 * 2 ** 20]);
    expect(digest(file, 'first')).toBe(theirDigest(file, 'first'));
    const { 'virtual-size': size } = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as Record<
      string,
      number
    >;
    withImage(file, ({ node, driver }) => expect(driver.snapshots?.open(node, '2').size).toBe(size));
  });

  it('read through to the layer below', () => {
    const base = Crafted.create(path.join(folder, 'base.qcow2'), '3M', '', ['write -P 9 0 3M']);
    const file = path.join(folder, 'overlay.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', 'qcow2', file]);
    mustRun('qemu-io', ['-c', 'write -P 1 1M 100k', file]);
    mustRun('qemu-img', ['snapshot', '-c', 'snap', file]);
    mustRun('qemu-io', ['-c', 'write -P 2 1M 200k', file]);
    expect(digest(file, 'snap')).toBe(theirDigest(file, 'snap'));
  });

  it('every fact of the extra data, by its length', () => {
    for (const length of [0, 8, 15, 16, 23, 24, 32, 1024]) {
      const crafted = image();
      const at = crafted.snapshots;
      // The entry grows or shrinks: what follows is written behind it again, with an id and a name of one byte.
      const tail = Buffer.alloc(8 + length + 2);
      for (let i = 0; i + 8 <= length; i += 8) tail.writeBigUInt64BE(0x10000n + BigInt(i), 8 + i);
      tail.writeUInt32BE(77, 0);
      tail.writeUInt32BE(length, 4);
      tail.write('1x', 8 + length);
      crafted
        .set32(60, 1)
        .set32(at + 12, 0x0001_0001)
        .bytes(at + 32, tail);
      crafted.set(at + 24, 123_456_789_012n);
      sameLists(crafted.path);
    }
  });

  it('long, empty and odd names', () => {
    for (const name of ['x'.repeat(300), 'ä'.repeat(150), ' ', 'a"b\\c', '日本語']) {
      const crafted = Crafted.create(path.join(folder, `${number++}.qcow2`), '1M');
      mustRun('qemu-img', ['snapshot', '-c', name, crafted.path]);
      const facts = list(crafted.path);
      expect(facts.length).toBe(1);
      if (!name.includes('ä')) sameLists(crafted.path);
      else expect(Buffer.byteLength(facts[0]?.name ?? '')).toBeLessThanOrEqual(258);
    }
  });

  it('no such snapshot', () => {
    const { path: file } = image();
    const raw = path.join(folder, 'never.raw');
    expect(refusal(() => digest(file, 'nobody'))).toBe(
      theirRefusal(['convert', '-O', 'raw', '-l', 'nobody', file, raw]),
    );
  });

  const damages: [string, (crafted: Crafted) => Crafted][] = [
    ['too much extra data', (c) => c.set32(c.snapshots + 36, 1025)],
    ['too many snapshots', (c) => c.set32(60, 65537)],
    ['table not at a cluster', (c) => c.change(64, (offset) => offset + 8n)],
    ['table beyond everything', (c) => c.set(64, 0xffff_ffff_ffff_0000n)],
  ];
  it.each(damages)('a table that cannot be read keeps the image closed: %s', (_name, damage) => {
    const { path: file } = damage(image());
    expect(refusal(() => withImage(file, () => 0))).toBe(theirRefusal(['info', file]));
  });

  const l1Damages: [string, (crafted: Crafted) => Crafted][] = [
    ['too large', (c) => c.set32(c.snapshots + 8, 4 * 2 ** 20 + 1)],
    ['not at a cluster', (c) => c.change(c.snapshots, (offset) => offset + 512n)],
    ['beyond everything', (c) => c.set(c.snapshots, 0xffff_ffff_ffff_0000n)],
  ];
  it.each(l1Damages)('an L1 table that cannot be used: %s', (_name, damage) => {
    const { path: file } = damage(image());
    const theirs = theirRefusal(['convert', '-O', 'raw', '-l', 'first', file, path.join(folder, 'never.raw')]);
    expect(refusal(() => digest(file, 'first'))).toBe(theirs);
  });
});

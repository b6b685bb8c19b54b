// streamOptimized: written in one pass, read by four others; refused where a stream cannot do what is asked.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { expect, it } from 'vitest';
import { pack } from '../../../../core/block/packed.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { describeWith, mustRun } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import {
  checkByQemu,
  checkByUs,
  contentOf,
  createDisk,
  KiB,
  MiB,
  openNode,
  openWritable,
  readByQemu,
  readBySevenZip,
  wrongByQemu,
  wrongRegions,
  writePacked,
} from './disks.ts';

const grain = 64 * KiB;
const options = { subformat: 'streamOptimized' };
const seed = chosenSeed('vmdk streams');

/** Grains of all kinds: none, patterned, all zero but one byte, random (which deflate makes larger). */
function mixed(size: number): Uint8Array {
  const random = new SeededRandom(seed);
  const content = new Uint8Array(size);
  for (let start = 0; start < size; start += grain) {
    const length = Math.min(grain, size - start);
    const kind = random.below(4);
    if (kind === 1) content.set(positionCoded(start, length, 4), start);
    if (kind === 2) content[start + random.below(length)] = 1;
    if (kind === 3) content.set(random.bytes(length), start);
  }
  return content;
}

interface Piece {
  readonly at: number;
  readonly kind: 'grain' | 'table' | 'directory' | 'footer' | 'end';
  readonly lba: number;
}

/** The pieces of a stream from byte 65536 on, told by their markers alone. */
function walk(bytes: Buffer): Piece[] {
  const pieces: Piece[] = [];
  const kinds = ['end', 'table', 'directory', 'footer'] as const;
  let at = 64 * KiB;
  while (at < bytes.length) {
    const val = Number(bytes.readBigUInt64LE(at));
    const size = bytes.readUInt32LE(at + 8);
    if (size > 0) {
      const unpacked = zlib.inflateSync(bytes.subarray(at + 12, at + 12 + size));
      expect(unpacked.length).toBe(grain);
      pieces.push({ at, kind: 'grain', lba: val });
      at += Math.ceil((12 + size) / 512) * 512;
      continue;
    }
    const kind = kinds[bytes.readUInt32LE(at + 12)] ?? 'end';
    pieces.push({ at, kind, lba: val });
    at += 512 * (1 + val);
  }
  return pieces;
}

describeWith({ peers: ['qemu-img', 'qemu-io', 'vmdkinfo', '7z'] }, 'streams', () => {
  const folder = scratchFolder('vmdk-stream');

  it('are read by qemu-img, vmdkinfo, 7-Zip and ourselves', () => {
    for (const size of [40 * MiB + 512, 1024, 0]) {
      const file = createDisk(folder, `stream-${size}.vmdk`, { size, options });
      const content = mixed(size);
      const node = openWritable(file);
      writePacked(node, content);
      node.writeBack();
      expect(difference(contentOf(node), content)).toBeNull();
      node.close();
      expect(checkByUs(file)).toEqual([]);
      // qemu-img opens no VMDK of no size, its own neither.
      if (size > 0) {
        expect(checkByQemu(file)).toBe('');
        expect(wrongByQemu(file, content), `seed ${seed}`).toBeNull();
        expect(mustRun('vmdkinfo', [file])).toMatch(new RegExp(`Stream optimized[^]*\\(${size} bytes\\)`));
        expect(difference(readBySevenZip(file).subarray(0, size), content)).toBeNull();
      }
      const again = openNode(file);
      expect(difference(contentOf(again), content)).toBeNull();
      expect(wrongRegions(again)).toBeNull();
      again.close();
    }
  });

  it('consist of grains in ascending order, each table behind its grains, directory, footer, end', () => {
    const file = createDisk(folder, 'markers.vmdk', { size: 70 * MiB, options });
    const node = openWritable(file);
    const content = mixed(70 * MiB);
    writePacked(node, content);
    node.flush();
    node.close();
    const bytes = fs.readFileSync(file);
    const pieces = walk(bytes);
    const lbas = pieces.filter(({ kind }) => kind === 'grain').map(({ lba }) => lba);
    expect(lbas).toEqual([...lbas].sort((a, b) => a - b));
    const order = pieces.map(({ kind }) => kind[0]).join('');
    expect(order).toMatch(/^g+tg+tg+tdfe$/);
    const footer = pieces.find(({ kind }) => kind === 'footer');
    expect(footer?.at).toBe(bytes.length - 1536);
    // Header and footer differ in the offset of the directory only.
    const header = bytes.subarray(0, 512);
    const last = bytes.subarray(bytes.length - 1024, bytes.length - 512);
    expect(header.readBigUInt64LE(56)).toBe(0xffff_ffff_ffff_ffffn);
    const directory = pieces.find(({ kind }) => kind === 'directory');
    expect(last.readBigUInt64LE(56)).toBe(BigInt((directory?.at ?? 0) / 512 + 1));
    expect(Buffer.concat([header.subarray(0, 56), header.subarray(64)])).toEqual(
      Buffer.concat([last.subarray(0, 56), last.subarray(64)]),
    );
    expect(header.readUInt32LE(4)).toBe(3);
    expect(header.readUInt32LE(8)).toBe(0x30001);
    expect(header.readUInt16LE(77)).toBe(1);
  });

  it('can go on after they were ended, in the same session', () => {
    const file = createDisk(folder, 'resumed.vmdk', { size: 36 * MiB, options });
    const content = mixed(36 * MiB);
    const node = openWritable(file);
    const { packed } = node;
    if (packed === undefined) throw new Error('no packed grains');
    for (let start = 0; start < content.length; start += grain) {
      const { place, bytes } =
        packed.reservePacked(start, pack(packed.codec, content.subarray(start, start + grain))) ?? {};
      if (place === undefined || bytes === undefined) throw new Error('not taken');
      place.storage.writeAt(bytes, place.offset);
      place.publish();
      if (start % (7 * MiB) === 0) {
        node.writeBack();
        const sofar = new Uint8Array(content.length);
        sofar.set(content.subarray(0, start + grain));
        expect(difference(contentOf(node), sofar)).toBeNull();
      }
    }
    node.flush();
    node.close();
    expect(checkByUs(file)).toEqual([]);
    expect(wrongByQemu(file, content)).toBeNull();
  });

  it('refuse plain bytes, an earlier place, and a second pass', () => {
    const file = createDisk(folder, 'refusing.vmdk', { size: MiB, options });
    const node = openWritable(file);
    const stored = zlib.deflateSync(new Uint8Array(grain).fill(1));
    expect(() => writeGuest(node, new Uint8Array(512), 0)).toThrow(/takes compressed grains only/);
    node.packed?.reservePacked(3 * grain, stored);
    expect(() => node.packed?.reservePacked(2 * grain, stored)).toThrow(/ascending order: 131072 comes after 196608/);
    expect(() => node.packed?.reservePacked(3 * grain, stored)).toThrow(/ascending order/);
    expect(node.zero({ start: 0, length: MiB })).toBeNull();
    expect(node.zero({ start: 4 * grain, length: 2 * grain })).toEqual({ start: 4 * grain, length: 2 * grain });
    node.close();

    const written = createDisk(folder, 'written.vmdk', { size: MiB, options });
    const first = openWritable(written);
    writePacked(first, new Uint8Array(MiB).fill(3));
    first.flush();
    first.close();
    const second = openWritable(written);
    expect(() => second.packed?.reservePacked(0, stored)).toThrow('Could not write to allocated cluster');
    expect(() => writeGuest(second, new Uint8Array(512), 0)).toThrow('Could not write to allocated cluster');
    expect(second.zero({ start: 0, length: 512 })).toBeNull();
    second.close();
    expect(wrongByQemu(written, new Uint8Array(MiB).fill(3))).toBeNull();
  });

  it('of qemu-img are read, partial last grains too, and take more grains at their end', () => {
    for (const size of [3 * MiB, 3 * MiB + 512, 100 * KiB]) {
      const raw = path.join(folder, 'source.raw');
      const content = mixed(size);
      content.set(positionCoded(0, 512, 1));
      content.set(positionCoded(size - 512, 512, 1), size - 512);
      fs.writeFileSync(raw, content);
      const file = path.join(folder, `by-qemu-${size}.vmdk`);
      mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, file]);
      const node = openNode(file);
      expect(difference(contentOf(node), content)).toBeNull();
      expect(wrongRegions(node)).toBeNull();
      node.close();
      expect(checkByUs(file)).toEqual([]);
    }
    const file = path.join(folder, 'empty-by-qemu.vmdk');
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=streamOptimized', file, '40M']);
    const content = mixed(40 * MiB);
    const node = openWritable(file);
    writePacked(node, content);
    node.flush();
    node.close();
    expect(checkByUs(file)).toEqual([]);
    expect(checkByQemu(file)).toBe('');
    expect(wrongByQemu(file, content)).toBeNull();
  });

  it('with a footer that something was padded behind are still read', () => {
    const file = createDisk(folder, 'padded.vmdk', { size: MiB, options });
    const node = openWritable(file);
    const content = positionCoded(0, MiB, 5);
    writePacked(node, content);
    node.flush();
    node.close();
    fs.appendFileSync(file, Buffer.alloc(5 * 512));
    const again = openNode(file);
    expect(difference(contentOf(again), content)).toBeNull();
    again.close();
    fs.truncateSync(file, fs.statSync(file).size - 6 * 512);
    expect(() => openNode(file)).toThrow('Invalid footer');
  });

  it('say which grain is damaged, and where', () => {
    const file = createDisk(folder, 'damaged.vmdk', { size: MiB, options });
    const node = openWritable(file);
    writePacked(node, positionCoded(0, MiB, 5));
    node.flush();
    node.close();
    const bytes = fs.readFileSync(file);
    const grains = walk(bytes).filter(({ kind }) => kind === 'grain');
    const [first, second, third] = grains.map(({ at }) => at);
    bytes.writeUInt32LE(999, first ?? 0);
    bytes.writeUInt32LE(0x00ff_ffff, (second ?? 0) + 8);
    bytes.fill(0xff, (third ?? 0) + 12, (third ?? 0) + 40);
    fs.writeFileSync(file, bytes);
    const damaged = openNode(file);
    const read = (start: number) => () => vmdk.facts(damaged) && damaged.map({ start, length: 1 });
    expect(read(0)).toThrow(/marker .* guest offset 0 is wrong: it is for sector 999, not 0/);
    expect(read(grain)).toThrow(/guest offset 65536 is wrong: it says 16777215 bytes/);
    expect(() => contentOf(damaged)).toThrow();
    damaged.close();
    expect(checkByUs(file)).toHaveLength(2);
    expect(() => readByQemu(file)).toThrow();
  });
});

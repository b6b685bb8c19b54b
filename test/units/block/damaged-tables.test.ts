// Images whose tables do not lie within the file: what they cannot tell any more is unreadable, the rest holds the bytes that qemu-img wrote.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readReadable, survey, isUnread } from '../../../core/block/survey.ts';
import { GiB, MiB } from '../../../core/block/units.ts';
import { openImage, type Reduction } from '../../../core/formats/open.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

interface Damaged {
  readonly name: string;
  readonly format: string;
  readonly size: number;
  readonly options?: string;
  /** Where qemu-io writes a MiB of 0xa0, 0xa1, … */
  readonly written: readonly number[];
  /** Does the damage. */
  readonly damage: (bytes: Buffer) => Buffer;
  /** Offsets of the disk that can be read all the same, and that cannot. */
  readonly readable: readonly number[];
  readonly lost: readonly number[];
  /** What is heard when it is opened; absent: it opens as it is. */
  readonly code?: string;
}

const far = 1 << 30;

const cases: readonly Damaged[] = [
  {
    name: 'the L1 table',
    format: 'qcow2',
    size: 2 * GiB,
    written: [0, 1200 * MiB],
    damage: (bytes) => (bytes.writeBigUInt64BE(BigInt(far), 40), bytes),
    readable: [],
    lost: [0, GiB, 2 * GiB - 512],
    code: 'qcow2/table-beyond-file',
  },
  {
    name: 'an L2 table',
    format: 'qcow2',
    size: 2 * GiB,
    written: [0, 1200 * MiB],
    damage(bytes) {
      const l1 = Number(bytes.readBigUInt64BE(40));
      bytes.writeBigUInt64BE(BigInt(far) | (1n << 63n), l1 + 16);
      return bytes;
    },
    readable: [0, 600 * MiB, 1600 * MiB],
    lost: [GiB, 1200 * MiB, 1536 * MiB - 512],
  },
  {
    name: 'half of an L2 table',
    format: 'qcow2',
    size: 600 * MiB,
    options: 'cluster_size=64k',
    written: [0, 300 * MiB],
    damage(bytes) {
      // The only L2 table moves to the end of the file and is cut in the middle.
      const l1 = Number(bytes.readBigUInt64BE(40));
      const l2 = Number(bytes.readBigUInt64BE(l1) & 0xff_ffff_ffff_fe00n);
      const end = Math.ceil(bytes.length / 65536) * 65536;
      const half = bytes.subarray(l2, l2 + 32768);
      bytes.writeBigUInt64BE(BigInt(end) | (1n << 63n), l1);
      return Buffer.concat([bytes, Buffer.alloc(end - bytes.length), half]);
    },
    readable: [0, 255 * MiB],
    lost: [256 * MiB, 300 * MiB, 512 * MiB - 512],
  },
  {
    name: 'the L1 table',
    format: 'qcow',
    size: 64 * MiB,
    written: [0, 40 * MiB],
    damage: (bytes) => (bytes.writeBigUInt64BE(BigInt(far), 40), bytes),
    readable: [],
    lost: [0, 40 * MiB],
    code: 'qcow/table-beyond-file',
  },
  {
    name: 'an L2 table',
    format: 'qcow',
    size: 64 * MiB,
    written: [0, 40 * MiB],
    damage(bytes) {
      const l1 = Number(bytes.readBigUInt64BE(40));
      bytes.writeBigUInt64BE(BigInt(far), l1 + 8 * 20);
      return bytes;
    },
    readable: [0, 38 * MiB, 43 * MiB],
    lost: [40 * MiB, 42 * MiB - 512],
  },
  {
    name: 'an L2 table',
    format: 'qed',
    size: 900 * MiB,
    options: 'cluster_size=4k,table_size=2',
    written: [0, 600 * MiB],
    damage(bytes) {
      const l1 = Number(bytes.readBigUInt64LE(40));
      bytes.writeBigUInt64LE(BigInt(far), l1);
      return bytes;
    },
    readable: [4 * MiB, 600 * MiB],
    lost: [0, 4 * MiB - 512],
  },
  {
    name: 'the BAT',
    format: 'vpc',
    size: 64 * MiB,
    options: 'force_size=on',
    written: [0, 40 * MiB],
    damage: (bytes) => (bytes.writeBigUInt64BE(BigInt(far), 512 + 16), sumVhd(bytes)),
    readable: [],
    lost: [0, 40 * MiB],
    code: 'vhd/table-place',
  },
  {
    name: 'a block',
    format: 'vpc',
    size: 64 * MiB,
    options: 'force_size=on',
    written: [0, 40 * MiB],
    damage(bytes) {
      const bat = Number(bytes.readBigUInt64BE(512 + 16));
      bytes.writeUInt32BE(far / 512, bat + 4 * 20);
      return bytes;
    },
    readable: [0, 38 * MiB, 42 * MiB],
    lost: [40 * MiB, 42 * MiB - 512],
    code: 'vhd/truncated',
  },
  {
    name: 'the block map',
    format: 'vdi',
    size: 64 * MiB,
    written: [0, 40 * MiB],
    damage: (bytes) => (bytes.writeUInt32LE(far, 0x154), bytes.writeUInt32LE(far + MiB, 0x158), bytes),
    readable: [],
    lost: [0, 40 * MiB],
    code: 'vdi/map-place',
  },
  {
    name: 'the end of the file',
    format: 'vdi',
    size: 64 * MiB,
    written: [0, 40 * MiB],
    damage: (bytes) => bytes.subarray(0, bytes.length - MiB / 2),
    readable: [0, 20 * MiB, 40 * MiB, 40.25 * MiB, 41 * MiB],
    lost: [40.5 * MiB, 41 * MiB - 512],
  },
  {
    name: 'a grain table',
    format: 'vmdk',
    size: 256 * MiB,
    written: [0, 100 * MiB],
    damage(bytes) {
      const directory = Number(bytes.readBigUInt64LE(56)) * 512;
      bytes.writeUInt32LE(far / 512, directory + 4 * 3);
      return bytes;
    },
    readable: [0, 95 * MiB, 128 * MiB],
    lost: [96 * MiB, 100 * MiB, 128 * MiB - 512],
  },
  {
    name: 'the grain directory',
    format: 'vmdk',
    size: 256 * MiB,
    written: [0, 100 * MiB],
    damage: (bytes) => (bytes.writeBigUInt64LE(BigInt(far / 512), 56), bytes),
    readable: [],
    lost: [0, 100 * MiB],
    code: 'vmdk/directory-outside',
  },
  {
    name: 'a block',
    format: 'vhdx',
    size: 256 * MiB,
    options: 'block_size=8M',
    written: [0, 100 * MiB],
    damage(bytes) {
      const bat = regionOf(bytes, '2dc27766f62342009d64115e9bfd4a08');
      bytes.writeBigUInt64LE((BigInt(far) & ~0xfffffn) | 6n, bat + 8 * 12);
      return bytes;
    },
    readable: [0, 90 * MiB, 104 * MiB],
    lost: [96 * MiB, 100 * MiB, 104 * MiB - 512],
  },
];

function sumVhd(bytes: Buffer): Buffer {
  const header = bytes.subarray(512, 512 + 1024);
  header.writeUInt32BE(0, 36);
  header.writeUInt32BE(~header.reduce((sum, byte) => sum + byte, 0) >>> 0, 36);
  return bytes;
}

function regionOf(bytes: Buffer, guid: string): number {
  const at = bytes.indexOf(swapped(guid), 192 * 1024);
  return Number(bytes.readBigUInt64LE(at + 16));
}

function swapped(guid: string): Buffer {
  const bytes = Buffer.from(guid, 'hex');
  bytes.subarray(0, 4).swap32();
  bytes.subarray(4, 6).swap16();
  bytes.subarray(6, 8).swap16();
  return bytes;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'tables that reach beyond the end of the file', () => {
  const scratch = scratchFolder('damaged-tables');

  it.each(cases.map((one): [string, Damaged] => [`${one.format}: ${one.name}`, one]))('%s', (_, one) => {
    const file = path.join(fs.mkdtempSync(path.join(scratch, 'image-')), `disk.${one.format}`);
    const options = one.options === undefined ? [] : ['-o', one.options];
    mustRun('qemu-img', ['create', '-q', '-f', one.format, ...options, file, `${one.size}`]);
    const commands = one.written.flatMap((at, index) => ['-c', `write -P ${0xa0 + index} ${at} 1M`]);
    mustRun('qemu-io', ['-f', one.format, ...commands, file]);
    fs.writeFileSync(file, one.damage(fs.readFileSync(file)));
    const heard: Reduction[] = [];
    const { node } = openImage(file, { format: one.format, lenient: (reduction) => heard.push(reduction) });
    expect(heard.map(({ what, reason }) => [what, reason.code])).toEqual(
      one.code === undefined ? [] : [['damaged', one.code]],
    );
    const isLost = (at: number): boolean => readReadable(node, new Uint8Array(512), at).length > 0;
    expect(one.readable.filter(isLost)).toEqual([]);
    expect(one.lost.filter((at) => !isLost(at))).toEqual([]);
    // Wherever it can be read, it is what was written.
    const bytes = new Uint8Array(512);
    let unread = 0;
    for (const found of survey(node)) {
      if (isUnread(found)) {
        unread++;
        continue;
      }
      for (const at of [found.start, found.start + found.length - 512]) {
        readReadable(node, bytes, at);
        const index = one.written.findIndex((from) => at >= from && at < from + MiB);
        expect(new Set(bytes), `${at}`).toEqual(new Set([index < 0 ? 0 : 0xa0 + index]));
      }
    }
    // Damage comes in as many pieces as there are reasons, not one for every unit.
    expect(unread).toBeLessThan(10);
    node.close();
  });
});

// Foreign formats are refused by name with a way out; raw disks never are, whatever they begin with.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { isImageError } from '../../../core/errors/image-error.ts';
import { openImage } from '../../../core/formats/open.ts';
import { itWith, mustRun } from '../../peers.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-foreign-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let number = 0;

/** A file with bytes at places. */
function file(size: number, ...pieces: readonly (readonly [offset: number, bytes: Uint8Array | string])[]): string {
  const name = path.join(folder, `${number++}.img`);
  const content = Buffer.alloc(size);
  for (const [offset, bytes] of pieces) {
    content.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, offset);
  }
  fs.writeFileSync(name, content);
  return name;
}

/** The format that a file opens as, or the sentence that refuses it. */
function verdict(name: string, format: string | null = null): string {
  try {
    const { node, driver } = openImage(name, { format });
    node.close();
    return driver.id;
  } catch (error) {
    if (isImageError(error, 'format/foreign')) return error.message;
    throw error;
  }
}

function content(name: string): unknown {
  const { node, driver } = openImage(name);
  try {
    return driver.facts(node).further;
  } finally {
    node.close();
  }
}

function numbers(width: 2 | 4 | 8, endian: 'LE' | 'BE', ...values: readonly bigint[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(8);
      if (endian === 'LE') bytes.writeBigUInt64LE(value);
      else bytes.writeBigUInt64BE(value);
      return endian === 'LE' ? bytes.subarray(0, width) : bytes.subarray(8 - width);
    }),
  );
}

/** The trailer of a UDIF file whose property list takes `length` bytes from `offset`. */
function udifTrailer(offset: bigint, length: bigint): Buffer {
  const trailer = Buffer.alloc(512);
  trailer.write('koly', 0);
  numbers(4, 'BE', 4n, 512n).copy(trailer, 4);
  numbers(8, 'BE', offset, length).copy(trailer, 216);
  return trailer;
}

/** A boot sector's partition table: one Linux partition. */
const partitions: readonly (readonly [number, Uint8Array | string])[] = [
  [446, numbers(4, 'LE', 0x80n, 0x83n, 2048n, 4096n)],
  [510, '\x55\xaa'],
];

const magics: readonly (readonly [label: string, name: () => string])[] = [
  ['a cow image of early QEMU', () => file(4096, [0, numbers(4, 'BE', 0x4f4f4f4dn, 2n)])],
  ['a Parallels disk', () => file(4096, [0, 'WithoutFreeSpace'], [16, numbers(4, 'LE', 2n)])],
  ['a Bochs disk', () => file(4096, [0, 'Bochs Virtual HD Image'])],
  ['a cloop image', () => file(4096, [0, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0'])],
  ['an encrypted Apple disk image', () => file(4096, [0, 'encrcdsa'])],
  ['an Apple disk image (DMG)', () => file(8192, [8192 - 512, udifTrailer(100n, 2000n)])],
  ['a LUKS version 2 container', () => file(4096, [0, 'LUKS\xba\xbe\0\x02'])],
  ['a volume encrypted by BitLocker', () => file(4096, [0, '\xeb\x58\x90-FVE-FS-'], [510, '\x55\xaa'])],
  ['an EnCase evidence file', () => file(4096, [0, 'EVF\t\r\n\xff\0'])],
  ['a Windows imaging file (WIM)', () => file(4096, [0, 'MSWIM\0\0\0'])],
  ['a backup archive of Proxmox (VMA)', () => file(4096, [0, 'VMA\0'])],
  ['a CHD disk of MAME', () => file(4096, [0, 'MComprHD'])],
];

describe('foreign formats', () => {
  it.each(magics)('%s is refused by name', (label, make) => {
    const name = make();
    expect(verdict(name)).toMatch(new RegExp(`^This is ${label.replaceAll(/[()]/g, '\\$&')}, .*: \\S+`));
    expect(verdict(name, 'raw')).toBe('raw');
  });

  it.each(magics)('%s in the boot code of a partitioned disk is raw', (label, make) => {
    const name = make();
    const disk = fs.readFileSync(name);
    for (const [offset, bytes] of partitions) {
      disk.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, offset);
    }
    fs.writeFileSync(name, disk);
    expect(verdict(name), label).toBe('raw');
    expect(content(name)).toEqual({ content: 'MBR partition table' });
  });

  it('what is only half a magic is raw', () => {
    const halves = [
      file(4096, [0, numbers(4, 'BE', 0x4f4f4f4dn, 7n)]),
      file(4096, [0, 'WithoutFreeSpace'], [16, numbers(4, 'LE', 9n)]),
      file(4096, [0, 'Bochs Virtual']),
      file(8192, [8192 - 512, udifTrailer(100n, 8000n)]),
      file(8192, [8192 - 512, udifTrailer(0n, 0n)]),
      file(8192, [8192 - 512, udifTrailer(0xffff_ffff_ffff_ff00n, 0xffff_ffff_ffff_ff00n)]),
      file(100, [0, 'MSWIM\0\0\0']),
      file(0),
    ];
    for (const name of halves) expect(verdict(name)).toBe('raw');
  });

  itWith({ peers: ['qemu-img'] }, 'a Parallels disk that qemu-img made', () => {
    const name = path.join(folder, 'made.hdd');
    mustRun('qemu-img', ['create', '-q', '-f', 'parallels', name, '64M']);
    const { format } = JSON.parse(mustRun('qemu-img', ['info', '--output=json', name])) as { format: string };
    expect(format).toBe('parallels');
    expect(verdict(name)).toMatch(/Parallels.*-f parallels/);
  });
});

describe('raw disks', () => {
  const disks: readonly (readonly [content: string, name: () => string])[] = [
    ['ISO 9660 file system', () => file(65536, [32768, '\x01CD001\x01'])],
    ['GPT partition table', () => file(65536, [512, 'EFI PART'], ...partitions)],
    ['ext2, ext3 or ext4 file system', () => file(65536, [1080, '\x53\xef'])],
    ['XFS file system', () => file(65536, [0, 'XFSB'])],
    ['NTFS file system', () => file(65536, [3, 'NTFS    '], [510, '\x55\xaa'])],
    ['Btrfs file system', () => file(128 * 1024, [65600, '_BHRfS_M'])],
  ];
  it.each(disks)('say what they begin with: %s', (name, make) => {
    const disk = make();
    expect(verdict(disk)).toBe('raw');
    expect(content(disk)).toEqual({ content: name });
  });

  it('say nothing where nothing is known', () => {
    expect(content(file(65536))).toBeNull();
    expect(content(file(0))).toBeNull();
    expect(content(file(65536, [510, '\x55\xaa']))).toBeNull();
  });
});

it.each([
  ['parallels', 'qemu-img (-f parallels)'],
  ['bochs', 'qemu-img (-f bochs)'],
  ['cloop', 'qemu-img (-f cloop)'],
  ['dmg', 'hdiutil convert'],
  ['cow', 'QEMU of version 2.1'],
])('a stated format %s is refused with what to do, whatever the file holds', (format, instead) => {
  const name = file(1024);
  expect(() => openImage(name, { format })).toThrow(expect.objectContaining({ code: 'format/foreign-name' }));
  expect(() => openImage(name, { format })).toThrow(instead);
});

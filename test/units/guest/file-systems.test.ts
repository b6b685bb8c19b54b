// Free space as file systems record it, against what their own tools say of the same disks.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isZero } from '../../../core/block/copy/zeroes.ts';
import { MemoryStorage } from '../../../core/block/memory.ts';
import { MiB } from '../../../core/block/units.ts';
import { raw } from '../../../core/formats/raw/driver.ts';
import { fileSystemsOf } from '../../../core/guest/file-systems.ts';
import type { FileSystem } from '../../../core/guest/volume.ts';
import { ImageError, isImageError } from '../../../core/errors/image-error.ts';
import { openImage } from '../../../core/formats/open.ts';
import type { PeerName } from '../../peer-packages.ts';
import { describeWith, mustRun, peer } from '../../peers.ts';
import { chosenSeed, SeededRandom } from '../../seeded-random.ts';
import { scratchFolder } from '../../scratch.ts';

const folder = scratchFolder('file-systems');
let made = 0;

function newDisk(size: number): string {
  const file = path.join(folder, `disk-${made++}.raw`);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, size);
  return file;
}

function found(file: string) {
  const { node } = openImage(file, { format: 'raw' });
  try {
    return fileSystemsOf(node).map(({ partition, fileSystem }) => ({
      partition,
      kind: fileSystem.kind,
      refused: fileSystem.refused,
      ranges: [...fileSystem.freeRanges()],
    }));
  } finally {
    node.close();
  }
}

function only(file: string) {
  const all = found(file);
  const [first] = all;
  if (first === undefined || all.length !== 1) throw new Error(`${all.length} file systems in ${file}`);
  return first;
}

/** Content that fills whole blocks of every size, and cannot be mistaken for free space. */
function someFile(name: string, size: number): string {
  const file = path.join(folder, name);
  if (!fs.existsSync(file)) fs.writeFileSync(file, Buffer.alloc(size, name));
  return file;
}

/** The free blocks that dumpe2fs prints, as ranges in bytes, joined. */
function freeByDumpe2fs(file: string): { start: number; length: number }[] {
  const text = mustRun('dumpe2fs', [file]);
  const blockSize = Number(/^Block size:\s+(\d+)/m.exec(text)?.[1]);
  // With bigalloc a run ends at the first block of its last cluster.
  const unit = Number(/^Cluster size:\s+(\d+)/m.exec(text)?.[1] ?? blockSize);
  const ranges: { start: number; length: number }[] = [];
  for (const [, list] of text.matchAll(/^ {2}Free blocks: *(.*)$/gm)) {
    for (const part of (list ?? '').split(',')) {
      const [first, last] = part.trim().split('-');
      if (first === undefined || first === '') continue;
      const start = Number(first) * blockSize;
      const length = Math.min(
        (Number(last ?? first) - Number(first)) * blockSize + unit,
        fs.statSync(file).size - start,
      );
      const before = ranges.at(-1);
      if (before !== undefined && before.start + before.length === start) before.length += length;
      else ranges.push({ start, length });
    }
  }
  return ranges;
}

/** Kind and arguments of mke2fs, size of the disk in MiB. */
const extDisks: readonly (readonly [string, string, number])[] = [
  ['ext2', '-t ext2 -b 1024', 40],
  ['ext2', '-t ext2 -b 4096 -O ^sparse_super,^resize_inode', 300],
  ['ext2', '-t ext2 -r 0 -b 1024', 20],
  ['ext3', '-t ext3 -b 2048', 64],
  ['ext4', '-t ext4 -b 4096', 600],
  ['ext4', '-t ext4 -b 1024', 100],
  ['ext4', '-t ext4 -O ^64bit,^metadata_csum,uninit_bg -b 4096', 400],
  ['ext4', '-t ext4 -O ^flex_bg,^resize_inode -b 1024 -g 4096', 64],
  ['ext4', '-t ext4 -O meta_bg,^resize_inode -b 1024', 300],
  ['ext4', '-t ext4 -O bigalloc -C 65536 -b 4096', 600],
  ['ext4', '-t ext4 -O bigalloc,meta_bg,^resize_inode -C 16384 -b 1024', 300],
  ['ext4', '-t ext4 -O sparse_super2 -b 4096', 600],
  ['ext4', '-t ext4 -b 4096 -E lazy_itable_init=1,lazy_journal_init=1', 2000],
];

describeWith({ peers: ['mke2fs', 'dumpe2fs', 'debugfs'] }, 'ext', () => {
  it.each(extDisks)('%s made with %s: free blocks as dumpe2fs prints them', (kind, args, size) => {
    const file = newDisk(size * MiB);
    mustRun('mke2fs', ['-q', '-F', ...args.split(' '), file]);
    const script = path.join(folder, 'script');
    const big = someFile('big', 3 * MiB + 777);
    fs.writeFileSync(
      script,
      `write ${big} one\nmkdir folder\nwrite ${big} folder/two\nwrite ${someFile('small', 100)} three\nrm one\n`,
    );
    mustRun('debugfs', ['-w', '-f', script, file]);
    const fileSystem = only(file);
    expect(fileSystem).toMatchObject({ partition: null, kind, refused: null });
    expect(fileSystem.ranges).toEqual(freeByDumpe2fs(file));
    expect(fileSystem.ranges.length).toBeGreaterThan(0);
  });

  it.each([
    ['a journal to recover', 'feature needs_recovery', /journal/],
    ['no clean unmount', 'set_super_value state 0', /cleanly/],
    ['errors', 'set_super_value state 3', /errors/],
    ['orphans', 'set_super_value last_orphan 12', /deleted/],
    ['a feature nobody knows', 'set_super_value feature_incompat 0x80000000', /not known/],
    ['a clean state that only its count contradicts', 'set_bg 0 free_blocks_count 7', /counts 7 free blocks/],
  ])('with %s is left alone', (_what, request, reason) => {
    const file = newDisk(32 * MiB);
    mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', file]);
    mustRun('debugfs', ['-w', '-R', request, file]);
    const outcome = (): unknown => only(file);
    if (request.startsWith('set_bg')) {
      expect(outcome).toThrow(reason);
      return;
    }
    expect(outcome()).toMatchObject({ kind: 'ext4', ranges: [] });
    expect(only(file).refused).toMatch(reason);
  });

  it('larger than the disk is left alone', () => {
    const file = newDisk(32 * MiB);
    mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', file]);
    fs.truncateSync(file, 20 * MiB);
    expect(only(file).refused).toMatch(/larger than its partition/);
  });
});

/** Arguments of mkfs.fat, size of the disk in MiB. */
const fatDisks: readonly (readonly [string, string, number])[] = [
  ['fat12', '-F 12', 4],
  ['fat12', '-F 12 -s 1', 1],
  ['fat16', '-F 16', 64],
  ['fat16', '-F 16 -S 4096', 100],
  ['fat32', '-F 32', 70],
  ['fat32', '-F 32 -s 1', 40],
];

describeWith({ peers: ['mkfs.fat', 'fsck.fat', 'mcopy'] }, 'FAT', () => {
  it.each(fatDisks)(
    '%s made with %s: as many free clusters as fsck.fat counts, and none of them with data',
    (kind, args, size) => {
      const file = newDisk(size * MiB);
      mustRun('mkfs.fat', [...args.split(' '), file]);
      const big = someFile('medium', 100_777);
      mustRun('mcopy', ['-i', file, big, '::one']);
      mustRun('mcopy', ['-i', file, big, '::two']);
      const fileSystem = only(file);
      expect(fileSystem).toMatchObject({ partition: null, kind, refused: null });
      const text = mustRun('fsck.fat', ['-n', '-v', file]);
      const [, used, all] = /(\d+)\/(\d+) clusters/.exec(text) ?? [];
      const clusterSize = Number(/(\d+) bytes per cluster/.exec(text)?.[1]);
      const free = fileSystem.ranges.reduce((sum, { length }) => sum + length, 0);
      expect(free).toBe((Number(all) - Number(used)) * clusterSize);
      const dataStart = Number(/Data area starts at byte (\d+)/.exec(text)?.[1]);
      // No file was deleted: what is free was never written, and what is in use here is in use without a gap.
      expect(fileSystem.ranges).toEqual([{ start: dataStart + Number(used) * clusterSize, length: free }]);
      const bytes = fs.readFileSync(file);
      for (const { start, length } of fileSystem.ranges) {
        expect(isZero(bytes, start, length)).toBe(true);
      }
    },
  );

  it.each([
    ['fat16', '-F 16', 64, 0x25],
    ['fat32', '-F 32', 70, 0x41],
  ] as const)('%s that was not unmounted is left alone', (kind, args, size, at) => {
    const file = newDisk(size * MiB);
    mustRun('mkfs.fat', [...args.split(' '), file]);
    const disk = fs.openSync(file, 'r+');
    fs.writeSync(disk, Uint8Array.of(1), 0, 1, at);
    fs.closeSync(disk);
    expect(only(file)).toMatchObject({ kind, refused: 'it was not unmounted cleanly', ranges: [] });
  });

  it('whose table says that it was not unmounted is left alone', () => {
    const file = newDisk(64 * MiB);
    mustRun('mkfs.fat', ['-F', '16', file]);
    const reserved = fs.readFileSync(file).readUInt16LE(14) * 512;
    const disk = fs.openSync(file, 'r+');
    fs.writeSync(disk, Uint8Array.of(0xff, 0x7f), 0, 2, reserved + 2);
    fs.closeSync(disk);
    expect(only(file).refused).toBe('it was not unmounted cleanly');
  });
});

/** Free clusters by a bitmap that somebody else has fetched. */
function freeByBitmap(bitmap: Uint8Array, clusters: number, clusterSize: number) {
  const ranges: { start: number; length: number }[] = [];
  for (let cluster = 0; cluster < clusters; cluster++) {
    if (((bitmap[cluster >> 3] ?? 0) & (1 << (cluster & 7))) !== 0) continue;
    const before = ranges.at(-1);
    const start = cluster * clusterSize;
    if (before !== undefined && before.start + before.length === start) before.length += clusterSize;
    else ranges.push({ start, length: clusterSize });
  }
  return ranges;
}

describeWith({ peers: ['mkntfs', 'ntfscp', 'ntfscat'] }, 'NTFS', () => {
  it.each([512, 1024, 4096, 65_536])(
    'with clusters of %i bytes: free clusters as in the $Bitmap that ntfscat fetches',
    (clusterSize) => {
      const file = newDisk(200 * MiB);
      mustRun('mkntfs', ['-q', '-F', '-f', '-c', String(clusterSize), file]);
      const big = someFile('big', 3 * MiB + 777);
      for (const name of ['one', 'two', 'three']) mustRun('ntfscp', ['-q', file, big, name]);
      const fileSystem = only(file);
      expect(fileSystem).toMatchObject({ partition: null, kind: 'ntfs', refused: null });
      const bitmap = bytesFrom('ntfscat', ['-f', '-i', '6', file]);
      const sectors = Number(fs.readFileSync(file).readBigUInt64LE(40));
      const clusters = Math.floor((sectors * 512) / clusterSize);
      expect(fileSystem.ranges).toEqual(freeByBitmap(bitmap, clusters, clusterSize));
      expect(fileSystem.ranges.length).toBeGreaterThan(0);
    },
  );

  it('marked as dirty is left alone', () => {
    const file = newDisk(64 * MiB);
    mustRun('mkntfs', ['-q', '-F', '-f', file]);
    const bytes = fs.readFileSync(file);
    const record = Number(bytes.readBigUInt64LE(48)) * 4096 + 3 * 1024;
    let at = record + bytes.readUInt16LE(record + 20);
    while (bytes.readUInt32LE(at) !== 0x70) at += bytes.readUInt32LE(at + 4);
    const flags = at + bytes.readUInt16LE(at + 20) + 10;
    expect(only(file).refused).toBe(null);
    bytes.writeUInt16LE(1, flags);
    fs.writeFileSync(file, bytes);
    expect(only(file)).toMatchObject({ kind: 'ntfs', refused: 'it is marked as dirty', ranges: [] });
  });

  it('in which Windows is hibernated is left alone, until it has woken up', () => {
    const file = newDisk(64 * MiB);
    mustRun('mkntfs', ['-q', '-F', '-f', file]);
    const sleeping = path.join(folder, 'hibernation');
    fs.writeFileSync(sleeping, Buffer.concat([Buffer.from('hibr'), Buffer.alloc(9000, 1)]));
    mustRun('ntfscp', ['-q', file, sleeping, 'hiberfil.sys']);
    expect(only(file).refused).toMatch(/hibernated/);
    const bytes = fs.readFileSync(file);
    bytes.fill(0, bytes.indexOf('hibr\x01'), bytes.indexOf('hibr\x01') + 9004);
    fs.writeFileSync(file, bytes);
    expect(only(file).refused).toBe(null);
  });

  it('whose log waits to be replayed is left alone', () => {
    const file = newDisk(64 * MiB);
    mustRun('mkntfs', ['-q', '-F', '-f', file]);
    const bytes = fs.readFileSync(file);
    const record = Number(bytes.readBigUInt64LE(48)) * 4096 + 2 * 1024;
    let at = record + bytes.readUInt16LE(record + 20);
    while (bytes.readUInt32LE(at) !== 0x80) at += bytes.readUInt32LE(at + 4);
    // One run: a byte with the widths, the length, the first cluster.
    const pairs = at + bytes.readUInt16LE(at + 32);
    const widths = bytes[pairs] ?? 0;
    const lcn = bytes.readUIntLE(pairs + 1 + (widths & 15), widths >> 4);
    const page = Buffer.alloc(4096);
    page.write('RSTR', 0, 'latin1');
    page.writeUInt16LE(30, 4);
    page.writeUInt16LE(9, 6);
    page.writeUInt32LE(4096, 16);
    page.writeUInt32LE(4096, 20);
    page.writeUInt16LE(48, 24);
    page.writeUInt16LE(7, 30);
    for (let sector = 1; sector <= 8; sector++) page.writeUInt16LE(7, sector * 512 - 2);
    page.copy(bytes, lcn * 4096);
    fs.writeFileSync(file, bytes);
    expect(only(file).refused).toMatch(/log has transactions/);
    page.writeUInt16LE(2, 48 + 14);
    page.copy(bytes, lcn * 4096);
    fs.writeFileSync(file, bytes);
    expect(only(file).refused).toBe(null);
  });
});

/** What a peer prints, as bytes. */
function bytesFrom(name: PeerName, args: readonly string[]): Uint8Array {
  const program = peer(name);
  if (program === null) throw new Error(`${name} is not there`);
  return execFileSync(program, args, { maxBuffer: 64 * MiB });
}

describeWith({ peers: ['sfdisk', 'mke2fs', 'mkfs.fat', 'dumpe2fs'] }, 'partitions', () => {
  const makeDisk = (label: string): string => {
    const file = newDisk(200 * MiB);
    const start = 1 * MiB;
    mustRun('sfdisk', ['-q', file], { input: `label: ${label}\nstart=2048,size=131072\nsize=100MiB\n` });
    const ext = newDisk(64 * MiB);
    mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', ext]);
    const fat = newDisk(100 * MiB);
    mustRun('mkfs.fat', ['-F', '16', fat]);
    const disk = fs.openSync(file, 'r+');
    fs.writeSync(disk, fs.readFileSync(ext), 0, 64 * MiB, start);
    fs.writeSync(disk, fs.readFileSync(fat), 0, 100 * MiB, start + 64 * MiB);
    fs.closeSync(disk);
    const all = found(file);
    expect(all.map(({ partition, kind, refused }) => [partition, kind, refused])).toEqual([
      [1, 'ext4', null],
      [2, 'fat16', null],
    ]);
    expect(all[0]?.ranges).toEqual(
      freeByDumpe2fs(ext).map((range) => ({ start: range.start + start, length: range.length })),
    );
    return file;
  };

  it.each(['dos', 'gpt'])('of a %s label: each file system in its place', (label) => {
    makeDisk(label);
  });

  it('under a file system that claims the whole disk too are left alone', () => {
    const file = makeDisk('dos');
    const whole = newDisk(200 * MiB);
    mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', whole]);
    const disk = fs.openSync(file, 'r+');
    fs.writeSync(disk, fs.readFileSync(whole).subarray(1024, 4096), 0, 3072, 1024);
    fs.closeSync(disk);
    expect(only(file)).toMatchObject({ refused: 'a partition table stands in the same place', ranges: [] });
  });
});

describeWith({ peers: ['mke2fs', 'mkfs.fat', 'mkntfs'] }, 'damaged file systems', () => {
  const seed = chosenSeed('damaged file systems');
  /** Where the structures stand that lead to free space, start and length. */
  const kinds: readonly (readonly [string, (file: string) => void, readonly (readonly [number, number])[]])[] = [
    [
      'ext4',
      (file) => mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '1024', file]),
      [
        [1024, 1024],
        [2048, 512],
      ],
    ],
    [
      'bigalloc',
      (file) => mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', 'bigalloc,^has_journal', '-b', '1024', file]),
      [
        [1024, 1024],
        [2048, 512],
      ],
    ],
    [
      'fat16',
      (file) => mustRun('mkfs.fat', ['-F', '16', file]),
      [
        [0, 64],
        [2048, 512],
      ],
    ],
    [
      'ntfs',
      (file) => mustRun('mkntfs', ['-q', '-F', '-f', file]),
      [
        [0, 84],
        [4 * 4096, 7 * 1024],
      ],
    ],
  ];

  it.each(kinds)('%s: an answer within the disk, or an ImageError', (_kind, make, places) => {
    const file = newDisk(16 * MiB);
    make(file);
    const sound = fs.readFileSync(file);
    const random = new SeededRandom(seed);
    const gate = { openImage: refuse, openFile: refuse };
    const request = { writable: false, gate, withBacking: false, runtime: {}, forRepair: false };
    let believed = 0;
    for (let round = 0; round < 300; round++) {
      const node = raw.open(new PatchedStorage(sound, places, random), request);
      try {
        for (const { fileSystem } of fileSystemsOf(node)) {
          let end = 0;
          for (const { start, length } of fileSystem.freeRanges()) {
            expect(start).toBeGreaterThanOrEqual(end);
            end = start + length;
          }
          expect(end).toBeLessThanOrEqual(sound.length);
          if (end > 0) believed++;
        }
      } catch (error) {
        if (!isImageError(error)) throw error;
      }
    }
    // Most of what is changed does not bear on free space.
    expect(believed).toBeGreaterThan(0);
  });
});

/** The bytes of a disk of which up to eight are others in the places named. */
class PatchedStorage extends MemoryStorage {
  readonly #patches = new Map<number, number>();

  constructor(bytes: Uint8Array, places: readonly (readonly [number, number])[], random: SeededRandom) {
    super(new Uint8Array(0));
    this.size = bytes.length;
    this.#bytes = bytes;
    const count = 1 + random.below(8);
    for (let i = 0; i < count; i++) {
      const [start, length] = places[random.below(places.length)] ?? [0, 1];
      const value = [0, 0xff, 0x7f, 0x80, 1, random.below(256)][random.below(6)] ?? 0;
      this.#patches.set(start + random.below(length), value);
    }
  }

  readonly #bytes: Uint8Array;

  override readAt(into: Uint8Array, offset: number): void {
    if (offset + into.length > this.size) throw new ImageError('storage/short-read', {}, { offset });
    into.set(this.#bytes.subarray(offset, offset + into.length));
    for (const [at, value] of this.#patches) {
      if (at >= offset && at < offset + into.length) into[at - offset] = value;
    }
  }
}

describe('what is only recognised', () => {
  const kinds: readonly (readonly [string, number, string])[] = [
    ['LVM', 512, 'LABELONE'],
    ['LUKS', 0, 'LUKS\xba\xbe'],
    ['XFS', 0, 'XFSB'],
    ['btrfs', 0x1_0040, '_BHRfS_M'],
    ['swap', 4086, 'SWAPSPACE2'],
    ['BitLocker', 3, '-FVE-FS-'],
  ];
  it.each(kinds)('%s is named and left alone', (kind, at, magic) => {
    const bytes = new Uint8Array(MiB);
    bytes.set(Buffer.from(magic, 'latin1'), at);
    const gate = { openImage: refuse, openFile: refuse };
    const request = { writable: false, gate, withBacking: false, runtime: {}, forRepair: false };
    const node = raw.open(new MemoryStorage(bytes), request);
    const all = fileSystemsOf(node).map(({ fileSystem }): Partial<FileSystem> => fileSystem);
    expect(all).toMatchObject([{ kind, refused: 'its free space is not read here' }]);
  });
});

function refuse(): never {
  throw new Error('a raw disk asked for another file');
}

// Files as Storage, with what the host can do: the suite for every host, and what only a host that knows holes can show.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../../core/block/file.ts';
import { host } from '../../../core/block/host/host.ts';
import { GiB, KiB, MiB, TiB } from '../../../core/block/units.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { processorTime } from '../../processor-time.ts';
import { coded, fileSuite } from './file-suite.ts';
import { dataStretches, mounted, refusal, scratchFolder } from './scratch.ts';

const onLinux = process.platform === 'linux';
fileSuite('with the host', onLinux);

describe('the host', () => {
  it('is the one that this runs on', () => {
    expect(host().name).toBe(onLinux ? 'linux' : process.platform);
  });
});

const folder = scratchFolder();
const noPython = onLinux ? refusal('python3', '--version') : 'only Linux is measured against Python here';

function ourStretches(file: string): [number, number][] {
  const storage = openFile(file, { writable: false, lock: 'none' });
  const found: [number, number][] = [];
  for (let at = 0; at < storage.size;) {
    const { kind, length } = storage.extentAt(at, storage.size - at);
    const last = found.at(-1);
    if (kind === 'data' && last?.[1] === at) last[1] += length;
    else if (kind === 'data') found.push([at, at + length]);
    at += length;
  }
  storage.close();
  return found;
}

describeWith({ unless: noPython }, 'extents', () => {
  it('are those that lseek finds, in a file of scattered pieces', () => {
    const file = path.join(folder, 'scattered');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.truncate(TiB);
    for (let i = 0; i < 500; i++) storage.writeAt(coded(0, 4096), ((i * 7919) % 4001) * 64 * KiB);
    storage.writeAt(coded(0, 100), TiB - 100);
    storage.zeroAt(7919 * 64 * KiB, 4096);
    storage.close();
    const stretches = ourStretches(file);
    expect(stretches).toEqual(dataStretches(file));
    expect(stretches.length).toBeGreaterThan(400);
  });

  it('follow what is written, zeroed and cut through the same storage', () => {
    const file = path.join(folder, 'changing');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.truncate(16 * MiB);
    const kindAt = (offset: number): string => storage.extentAt(offset, MiB).kind;
    expect(kindAt(8 * MiB)).toBe('hole');
    storage.writeAt(coded(0, MiB), 8 * MiB);
    expect(kindAt(8 * MiB)).toBe('data');
    storage.zeroAt(8 * MiB, MiB);
    expect(kindAt(8 * MiB)).toBe('hole');
    storage.provide(4 * MiB, MiB, 'full');
    expect(kindAt(4 * MiB)).toBe('data');
    storage.truncate(4 * MiB);
    storage.truncate(16 * MiB);
    expect(kindAt(4 * MiB)).toBe('hole');
    // The bulk plane writes past the storage and says so.
    expect(kindAt(12 * MiB)).toBe('hole');
    fs.writeSync(storage.descriptor ?? -1, coded(0, 4096), 0, 4096, 12 * MiB);
    storage.noteWritten?.(12 * MiB, 4096);
    expect(kindAt(12 * MiB)).toBe('data');
    fs.writeSync(storage.descriptor ?? -1, coded(0, 4096), 0, 4096, 20 * MiB);
    storage.noteWritten?.(20 * MiB, 4096);
    expect(storage.size).toBe(20 * MiB + 4096);
    storage.close();
  });

  it('cost no system call while the answer is known', () => {
    const file = path.join(folder, 'endless');
    fs.writeFileSync(file, '');
    fs.truncateSync(file, 8 * TiB);
    const storage = openFile(file, { writable: false, lock: 'read' });
    const lengths = new Set<number>();
    for (let at = 0; at < 8 * TiB; at += 64 * MiB) lengths.add(storage.extentAt(at, 64 * MiB).length);
    expect([...lengths]).toEqual([64 * MiB]);
    // What was asked first still holds although the file has changed behind our back: nobody was asked again.
    fs.writeFileSync(file, 'x', { flag: 'r+' });
    expect(storage.extentAt(0, 1).kind).toBe('hole');
    storage.close();
  });

  it('give their space back: what was punched is no longer allocated', () => {
    const file = path.join(folder, 'punched');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.writeAt(coded(0, 4 * MiB), 0);
    storage.flush();
    expect(fs.statSync(file).blocks * 512).toBeGreaterThanOrEqual(4 * MiB);
    storage.zeroAt(MiB, 2 * MiB);
    expect(fs.statSync(file).blocks * 512).toBeLessThan(2 * MiB + 64 * KiB);
    expect(storage.size).toBe(4 * MiB);
    expect(dataStretches(file)).toEqual([
      [0, MiB],
      [3 * MiB, 4 * MiB],
    ]);
    storage.close();
  });

  it('zeroes may keep their space', () => {
    const file = path.join(folder, 'kept');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.writeAt(coded(0, MiB), 0);
    storage.flush();
    expect(host().zeroRange(storage.descriptor ?? -1, 4096, MiB - 8192)).toBe(true);
    expect(storage.allocated()).toBeGreaterThanOrEqual(MiB);
    expect(fs.readFileSync(file).equals(coded(0, MiB).fill(0, 4096, MiB - 4096))).toBe(true);
    storage.close();
  });

  it('reserved space costs blocks and reads as a hole, as qemu-img sees it', () => {
    const file = path.join(folder, 'reserved');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    const begin = processorTime();
    storage.provide(0, GiB, 'falloc');
    expect(processorTime() - begin).toBeLessThan(5000);
    expect(storage.allocated()).toBeGreaterThanOrEqual(GiB);
    storage.close();
    expect(ourStretches(file)).toEqual(dataStretches(file));
  });
});

describeWith({ peers: ['qemu-img'], unless: noPython }, 'extents beside qemu-img', () => {
  it('are those of qemu-img map', () => {
    const file = path.join(folder, 'mapped.raw');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.truncate(64 * MiB);
    for (const at of [0, 3, 17, 18, 40, 63]) storage.writeAt(coded(0, 64 * KiB), at * MiB);
    storage.close();
    const map = mustRun('qemu-img', ['map', '-f', 'raw', '--output=json', file]);
    const entries = JSON.parse(map) as { start: number; length: number; data: boolean }[];
    const data = entries.filter((entry) => entry.data).map(({ start, length }) => [start, start + length]);
    expect(ourStretches(file)).toEqual(data);
  });
});

/** A file system that can neither reserve space nor say so by any other means: ext2's layout. */
function plainFolder(): { where: string; reason: string | null } {
  const disk = path.join(folder, 'ext2.img');
  fs.writeFileSync(disk, '');
  fs.truncateSync(disk, 64 * MiB);
  const where = path.join(folder, 'ext2');
  const made = onLinux ? refusal('mkfs.ext4', '-q', '-t', 'ext2', disk) : 'only Linux mounts it this way';
  return { where, reason: made ?? mounted(where, '-o', 'loop', disk) };
}

const plain = plainFolder();

describeWith({ unless: plain.reason }, 'a file system without fallocate', () => {
  it('provides space by writing, and keeps what is there', () => {
    const file = path.join(plain.where, 'file');
    const storage = openFile(file, { writable: true, lock: 'write', create: 'new' });
    storage.writeAt(coded(0, MiB), MiB);
    expect(host().allocate(storage.descriptor ?? -1, 0, 8 * MiB)).toBe(false);
    storage.provide(0, 8 * MiB, 'falloc');
    expect(storage.allocated()).toBeGreaterThanOrEqual(8 * MiB);
    const expected = Buffer.alloc(8 * MiB);
    coded(0, MiB).copy(expected, MiB);
    expect(fs.readFileSync(file).equals(expected)).toBe(true);
    storage.zeroAt(MiB + 5, MiB - 10);
    expected.fill(0, MiB + 5, 2 * MiB - 5);
    expect(fs.readFileSync(file).equals(expected)).toBe(true);
    expect(ourStretches(file)).toEqual(dataStretches(file));
    storage.close();
  });
});

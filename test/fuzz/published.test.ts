// The published classes of bugs in readers of disk images, one sample each: refused with a reason, soon, before memory is taken.
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openFile } from '../../core/block/file.ts';
import { isWritable } from '../../core/block/node.ts';
import { readGuest, resolve } from '../../core/block/read.ts';
import { alignUp, GiB, KiB, MiB, TiB } from '../../core/block/units.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import type { FormatDriver } from '../../core/formats/driver.ts';
import { followAll } from '../../core/formats/gate.ts';
import { openImage, type OpenOptions } from '../../core/formats/open.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import { commit } from '../../core/operations/commit.ts';
import { checksumOf, dynamicHeader, footer } from '../../core/formats/vhd/spec.ts';
import { createImage, writing } from '../units/formats/new-image.ts';
import { writeGuest } from '../../core/block/write.ts';
import { scratchFolder } from '../scratch.ts';
import { processorTime } from '../processor-time.ts';

const scratch = scratchFolder('published');
let folder = scratch;
let made = 0;
const at = (name: string): string => path.join(folder, name);

beforeEach(() => {
  folder = path.join(scratch, String(made++));
  fs.mkdirSync(folder);
});

/** Changes bytes of a file. */
function patch(name: string, change: (bytes: Buffer, view: DataView) => void): void {
  const bytes = fs.readFileSync(at(name));
  change(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
  fs.writeFileSync(at(name), bytes);
}

const seconds = 2;
const memory = 64 * MiB;

/** Opens, maps, reads the first and the last bytes, checks: what it ends with, held to time and memory. */
function verdict(name: string, options: OpenOptions = {}): string {
  const before = process.memoryUsage().arrayBuffers;
  const started = processorTime();
  const end = work(name, options);
  expect(processorTime() - started).toBeLessThan(seconds * 1000);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(memory);
  return end;
}

function work(name: string, options: OpenOptions): string {
  try {
    const { node, driver } = openImage(at(name), options);
    try {
      let runs = 0;
      for (const run of resolve(node)) if (run.length <= 0 || runs++ > 100_000) return 'endless';
      const bytes = new Uint8Array(Math.min(node.size, 64 * KiB));
      readGuest(node, bytes, 0);
      readGuest(node, bytes, node.size - bytes.length);
      const findings = driver.check?.(node, { progress: () => {}, throwIfCancelled: () => {} });
      for (let step = findings?.next(); step !== undefined && step.done !== true; step = findings?.next()) runs++;
      return `${driver.id} ${node.size}`;
    } finally {
      node.close();
    }
  } catch (error) {
    if (isImageError(error)) return error.code;
    throw error;
  }
}

function disk(format: string, name: string, size = 4 * MiB, options = {}): FormatDriver {
  const driver = driverNamed(format);
  createImage(driver, at(name), { size, options });
  writing(at(name), (node) => writeGuest(node, new Uint8Array(8 * KiB).fill(7), 64 * KiB));
  return driver;
}

describe('a guest that writes the header of an image into its raw disk (CVE-2008-2004, CVE-2024-40767, CVE-2026-24708)', () => {
  beforeEach(() => {
    createImage(driverNamed('qcow2'), at('evil.qcow2'), { size: MiB });
    fs.writeFileSync(at('disk.raw'), fs.readFileSync(at('evil.qcow2')));
  });

  it('is a raw disk for who says so', () => {
    const { size } = fs.statSync(at('disk.raw'));
    const whole = alignUp(size, 512);
    expect(verdict('disk.raw', { format: 'raw' })).toBe(`raw ${whole}`);
    expect(verdict('disk.raw', { format: 'raw', writable: true })).toBe(`raw ${whole}`);
  });

  it('is not taken for a format that was stated and is another', () => {
    for (const format of ['vpc', 'vhdx', 'vmdk', 'vdi', 'qcow', 'luks']) {
      expect(verdict('disk.raw', { format }), format).not.toMatch(/ /);
    }
  });

  it('and the end of a VHD behind it is not guessed at', () => {
    createImage(driverNamed('vpc'), at('fixed.vhd'), { size: MiB, options: { subformat: 'fixed' } });
    const fixed = fs.readFileSync(at('fixed.vhd'));
    fs.truncateSync(at('disk.raw'), fixed.length - 512);
    fs.appendFileSync(at('disk.raw'), fixed.subarray(-512));
    expect(verdict('disk.raw')).toBe('format/ambiguous');
  });
});

describe('a guest that writes the header of an image into an overlay', () => {
  it('does not turn a raw base into an image that nobody said it was', async () => {
    createImage(driverNamed('qcow2'), at('evil.qcow2'), { size: MiB });
    const evil = fs.readFileSync(at('evil.qcow2'));
    for (const format of [null, 'raw']) {
      fs.writeFileSync(at('base.raw'), Buffer.alloc(MiB));
      createOverlay(at('top.qcow2'), 'base.raw', format);
      writing(at('top.qcow2'), (node) => writeGuest(node, evil, 0));
      const params = { path: at('top.qcow2'), options: {}, base: null, keep: false, rate: 0 };
      const done = commit(params, silentJob);
      if (format === null) await expect(done).rejects.toMatchObject({ code: 'commit/would-change-format' });
      else await done;
      const base = fs.readFileSync(at('base.raw')).subarray(0, evil.length);
      expect(base.equals(format === null ? Buffer.alloc(evil.length) : evil)).toBe(true);
    }
  });
});

describe('files that an image names', () => {
  const secret = (): string => {
    fs.mkdirSync(at('elsewhere'), { recursive: true });
    fs.writeFileSync(at('elsewhere/secret.raw'), Buffer.alloc(MiB, 's'));
    return at('elsewhere/secret.raw');
  };
  /** A qcow2 with an external data file of the name `name`, written into its header afterwards. */
  const withDataFile = (image: string, name: string): void => {
    const stand = 'd'.repeat(name.length);
    const driver = driverNamed('qcow2');
    fs.mkdirSync(path.dirname(at(image)), { recursive: true });
    createWithDataFile(driver, at(image), stand);
    patch(image, (bytes) => bytes.write(name, bytes.indexOf(stand)));
    fs.rmSync(path.join(path.dirname(at(image)), stand), { force: true });
  };

  it('as its data file: only those in its folder (CVE-2024-32498)', () => {
    const outside = secret();
    for (const name of [outside, '../elsewhere/secret.raw', '/etc/hostname', '/dev/zero']) {
      withDataFile('images/disk.qcow2', name);
      expect(verdict('images/disk.qcow2'), name).toBe('gate/refused');
      expect(verdict('images/disk.qcow2', { writable: true }), name).toBe('gate/refused');
    }
    withDataFile('images/disk.qcow2', '../elsewhere/secret.raw');
    expect(verdict('images/disk.qcow2', { policy: followAll })).toBe(`qcow2 ${MiB}`);
    expect(verdict('images/disk.qcow2', { files: { 'data-file': outside } })).toBe(`qcow2 ${MiB}`);
    fs.symlinkSync('../elsewhere/secret.raw', at('images/link.raw'));
    withDataFile('images/disk.qcow2', 'link.raw');
    expect(verdict('images/disk.qcow2')).toBe('gate/refused');
    fs.writeFileSync(at('images/near.raw'), Buffer.alloc(MiB));
    withDataFile('images/disk.qcow2', 'near.raw');
    expect(verdict('images/disk.qcow2')).toBe(`qcow2 ${MiB}`);
  });

  it('as a layer below: neither a description nor a name with a protocol (CVE-2024-4467)', () => {
    for (const name of ['json:{"driver":"raw","file":{"driver":"file","filename":"x"}}', 'nbd://127.0.0.1:9']) {
      createOverlay(at('top.qcow2'), name);
      expect(verdict('top.qcow2'), name).toBe('gate/scheme');
    }
  });

  it('as a layer below: never with write access', () => {
    fs.writeFileSync(at('base.raw'), Buffer.alloc(MiB));
    createOverlay(at('top.qcow2'), 'base.raw');
    const { node } = openImage(at('top.qcow2'), { writable: true });
    expect(node.backing?.files.map(({ storage }) => storage.writable)).toEqual([false]);
    node.close();
  });
});

describe('figures of qcow2 (CVE-2014-0143…0147, google/osv-scalibr#1997, cloud-hypervisor#8679, ublk-org/qcow2-rs#8)', () => {
  const faults: Readonly<Record<string, readonly [number, 4 | 8, number | bigint]>> = {
    'cluster_bits 0': [20, 4, 0],
    'cluster_bits 63': [20, 4, 63],
    'an L1 table of 4 G entries': [36, 4, 0xffff_ffff],
    'an L1 table at the end of all numbers': [40, 8, 2n ** 63n - 65536n],
    'a refcount table at an odd place': [48, 8, 1000n],
    'a refcount table of 4 G clusters': [56, 4, 0xffff_ffff],
    '4 G snapshots': [60, 4, 0xffff_ffff],
    'a snapshot table behind all numbers': [64, 8, 2n ** 63n],
    'a name of the layer below outside of the first cluster': [8, 8, 70_000n],
    'refcount_order 200': [96, 4, 200],
    'a header of 4 GiB': [100, 4, 0xffff_fff8],
  };
  for (const [name, [offset, width, value]] of Object.entries(faults)) {
    it(name, () => {
      disk('qcow2', 'disk.qcow2');
      patch('disk.qcow2', (_, view) => {
        if (width === 4) view.setUint32(offset, Number(value));
        else view.setBigUint64(offset, BigInt(value));
      });
      expect(verdict('disk.qcow2')).not.toMatch(/ /);
    });
  }

  it('an L2 table that is the header, the L1 table, or itself (cloud-hypervisor#8008)', () => {
    for (const place of [0, 1, 3]) {
      disk('qcow2', 'disk.qcow2');
      patch('disk.qcow2', (_, view) => {
        const l1 = Number(view.getBigUint64(40));
        view.setBigUint64(l1, (2n ** 63n) | BigInt(place * 64 * KiB));
      });
      const said = work('disk.qcow2', { writable: true });
      expect(said).not.toBe('endless');
      const { node, driver } = openImage(at('disk.qcow2'));
      const findings = [...(driver.check?.(node, { progress: () => {}, throwIfCancelled: () => {} }) ?? [])];
      node.close();
      if (place > 0) expect(findings.length).toBeGreaterThan(0);
    }
  });
});

describe('figures of VHD', () => {
  /** Changes the dynamic header, with a checksum that is right. */
  const header = (change: (view: DataView) => void): void =>
    patch('disk.vhd', (bytes) => {
      const part = bytes.subarray(512, 512 + dynamicHeader.size);
      const view = new DataView(part.buffer, part.byteOffset, part.length);
      change(view);
      view.setUint32(dynamicHeader.fields.checksum.offset, checksumOf(part, dynamicHeader.fields.checksum.offset));
    });
  const both = (change: (view: DataView) => void): void =>
    patch('disk.vhd', (bytes) => {
      for (const start of [0, bytes.length - 512]) {
        const part = bytes.subarray(start, start + footer.size);
        const view = new DataView(part.buffer, part.byteOffset, part.length);
        change(view);
        view.setUint32(footer.fields.checksum.offset, checksumOf(part, footer.fields.checksum.offset));
      }
    });
  beforeEach(() => void disk('vpc', 'disk.vhd'));

  it('a block table behind the end of the file', () => {
    header((view) => view.setBigUint64(16, BigInt(GiB)));
    expect(verdict('disk.vhd')).toMatch(/^vhd\//);
    header((view) => view.setBigUint64(16, 2n ** 63n));
    expect(verdict('disk.vhd')).not.toMatch(/ /);
  });
  it('a block table of 4 G entries', () => {
    header((view) => view.setUint32(28, 0xffff_ffff));
    expect(verdict('disk.vhd')).toMatch(/^vhd\/|^vpc/);
  });
  it('a block table that is too short for the disk', () => {
    header((view) => view.setUint32(28, 1));
    expect(verdict('disk.vhd')).toMatch(/^vhd\//);
  });
  it('blocks of 0, 1 and 3 GiB (CVE-2014-0148)', () => {
    for (const size of [0, 1, 3 * GiB]) {
      header((view) => view.setUint32(32, size));
      expect(verdict('disk.vhd')).toMatch(/^vhd\//);
    }
  });
  it('a geometry of zeroes', () => {
    both((view) => view.setUint32(56, 0));
    expect(verdict('disk.vhd')).not.toBe('endless');
  });
  it('a disk of 16 EiB', () => {
    both((view) => {
      view.setBigUint64(40, 2n ** 64n - 512n);
      view.setBigUint64(48, 2n ** 64n - 512n);
      view.setUint32(56, 0xffff_10ff);
    });
    expect(verdict('disk.vhd')).not.toMatch(/ /);
  });
  it('a parent that is missing is refused with the identity that is looked for', () => {
    createImage(driverNamed('vpc'), at('child.vhd'), { size: 4 * MiB, backing: 'disk.vhd' });
    fs.rmSync(at('disk.vhd'));
    expect(() => openImage(at('child.vhd'))).toThrow(/[0-9a-f]{8}-[0-9a-f]{4}-/i);
  });
});

describe('figures of VDI', () => {
  beforeEach(() => void disk('vdi', 'disk.vdi'));
  const faults: Readonly<Record<string, readonly [number, number]>> = {
    'blocks of no bytes': [0x178, 0],
    'blocks of 3 bytes': [0x178, 3],
    'blocks of 2 GiB': [0x178, 2 ** 31],
    '4 G blocks': [0x180, 0xffff_ffff],
    'no blocks': [0x180, 0],
    'a block map behind the file': [0x154, 0x7fff_fe00],
    'data in the header': [0x158, 16],
  };
  for (const [name, [offset, value]] of Object.entries(faults)) {
    it(name, () => {
      patch('disk.vdi', (_, view) => view.setUint32(offset, value, true));
      expect(verdict('disk.vdi')).toMatch(/^(vdi|storage|bytes)\//);
    });
  }
  it('a block far behind the file, and one twice', () => {
    patch('disk.vdi', (_, view) => view.setUint32(view.getUint32(0x154, true), 0x7fff_ffff, true));
    expect(verdict('disk.vdi')).toMatch(/^vdi\/|^storage\//);
  });
});

describe('figures of qcow (CVE-2014-0222)', () => {
  it.each([
    ['cluster_bits 63', 32, 63],
    ['l2_bits 63', 33, 63],
    ['l2_bits 14', 33, 14],
    ['cluster_bits 0', 32, 0],
  ])('%s', (_, offset, value) => {
    disk('qcow', 'disk.qcow');
    patch('disk.qcow', (bytes) => (bytes[offset] = value));
    expect(verdict('disk.qcow')).toMatch(/^qcow\//);
  });
  it('a disk of 8 EiB', () => {
    disk('qcow', 'disk.qcow');
    patch('disk.qcow', (_, view) => view.setBigUint64(24, 2n ** 63n - 512n));
    expect(verdict('disk.qcow')).not.toMatch(/ /);
  });
});

describe('figures of VHDX (qemu GL#3860, #4033, #4390, #4470, #4487)', () => {
  it('a size that the tables cannot hold, or beyond what they could', () => {
    for (const size of [BigInt(TiB), BigInt(64 * TiB + 512), 2n ** 63n - 512n]) {
      disk('vhdx', 'disk.vhdx');
      patch('disk.vhdx', (bytes, view) => {
        // The metadata region: its table names the item by GUID 2fa54224-cd1b-4876-b211-5dbed83bf4b8.
        const guid = Buffer.from('2442a52f1bcd7648b2115dbed83bf4b8', 'hex');
        const entry = bytes.indexOf(guid);
        expect(entry).toBeGreaterThan(0);
        const region = entry - (entry % (64 * KiB));
        view.setBigUint64(region + view.getUint32(entry + 16, true), size, true);
      });
      expect(verdict('disk.vhdx')).toMatch(/^vhdx\/|^storage\//);
    }
  });
});

/** An overlay over an image of that name and format. */
function createOverlay(file: string, backing: string, format: string | null = 'raw'): void {
  fs.rmSync(file, { force: true });
  const driver = driverNamed('qcow2');
  createImage(driver, file, { size: MiB });
  const { node } = openImage(file, { writable: true });
  if (!isWritable(node)) throw new Error('not writable');
  node.setBacking({ path: backing, format });
  node.flush();
  node.close();
}

/** A qcow2 with an external data file called `name` beside it. */
function createWithDataFile(driver: FormatDriver, file: string, name: string): void {
  fs.rmSync(file, { force: true });
  const data = path.join(path.dirname(file), name);
  fs.rmSync(data, { force: true });
  fs.writeFileSync(file, '');
  const files: { close(): void }[] = [];
  const storage = openFile(file, { writable: true, lock: 'none' });
  try {
    driver.create?.({
      storage,
      name: file,
      size: MiB,
      options: { data_file: name },
      backing: null,
      createFile() {
        const made = openFile(data, { writable: true, lock: 'none', create: 'new', mode: 0o644 });
        files.push(made);
        return made;
      },
      job: { progress: () => {}, throwIfCancelled: () => {} },
    });
  } finally {
    storage.close();
    for (const one of files) one.close();
  }
}

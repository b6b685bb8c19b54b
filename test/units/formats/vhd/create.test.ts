// New VHDs beside those of qemu-img: sizes, geometry, structures, and what other readers say of them.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { GiB, KiB, MiB, TiB } from '../../../../core/block/units.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { geometryFor, roundSize } from '../../../../core/formats/vhd/geometry.ts';
import { dynamicHeader, footer } from '../../../../core/formats/vhd/spec.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { SeededRandom } from '../../../seeded-random.ts';
import { checkAt, createImage, createIn, regionsOf, withImage } from '../new-image.ts';

function optionText(options: Readonly<Record<string, OptionValue>>): string[] {
  const parts = Object.entries(options).map(([name, value]) => `${name}=${value === true ? 'on' : value}`);
  return parts.length === 0 ? [] : ['-o', parts.join(',')];
}

/** A file of one of the two kinds, without what is different in every image. */
function anonymous(file: string): Uint8Array {
  const bytes = Uint8Array.from(fs.readFileSync(file));
  for (const at of [0, bytes.length - footer.size]) {
    const values = { unique_id: '00000000-0000-0000-0000-000000000000', time_stamp: 0, checksum: 0 };
    if (bytes[at] === 0x63) footer.patch(bytes.subarray(at, at + footer.size), values);
  }
  return bytes;
}

describe('the size of a new disk', () => {
  it('stops at 2040 GiB', () => {
    expect(roundSize(2040 * GiB, false).size).toBe(2040 * GiB);
    expect(roundSize(2040 * GiB, true).size).toBe(2040 * GiB);
    for (const exact of [true, false]) {
      expect(() => roundSize(2040 * GiB + 1, exact)).toThrow("The image size is too large for file format 'vpc'");
    }
  });

  it('has the geometry that Windows and VirtualBox give their disks', () => {
    // Out of the footers of foreign images: Windows 10 (10 MiB, 4 MiB), qemu 11 (1079296 bytes).
    expect(geometryFor((10 * MiB) / 512)).toEqual({ cylinders: 301, heads: 4, sectors_per_track: 17 });
    expect(geometryFor((4 * MiB) / 512)).toEqual({ cylinders: 120, heads: 4, sectors_per_track: 17 });
    expect(geometryFor(1079296 / 512)).toEqual({ cylinders: 31, heads: 4, sectors_per_track: 17 });
  });
});

describeWith({ peers: ['qemu-img'] }, 'new VHDs', () => {
  const folder = scratchFolder('vhd-create');
  const ours = path.join(folder, 'ours.vhd');
  const theirs = path.join(folder, 'theirs.vhd');
  const random = new SeededRandom(20260);
  const odd = Array.from({ length: 12 }, () =>
    Math.floor(Math.exp(Math.log(2 ** 41) * (random.below(1000) / 1000)) + 1),
  );
  const sizes = [0, 1, 511, 512, 513, 100 * KiB, 10_000_000, 64 * MiB, 504 * MiB, GiB, 8 * GiB, 31.5 * GiB];
  const large = [126 * GiB, 127 * GiB - 512, 127 * GiB, 128 * GiB, TiB, 2040 * GiB];

  for (const size of [...sizes, ...large, ...odd]) {
    it(`of ${size} bytes are those of qemu-img, byte for byte but the identity`, () => {
      for (const options of [{}, { force_size: true }]) {
        createImage(vhd, ours, { size, options });
        mustRun('qemu-img', ['create', '-q', '-f', 'vpc', ...optionText(options), theirs, String(size)]);
        expect(Buffer.compare(anonymous(ours), anonymous(theirs))).toBe(0);
      }
    });
  }

  it('that are fixed are those of qemu-img too', () => {
    for (const options of [{ subformat: 'fixed' }, { subformat: 'fixed', force_size: true }]) {
      createImage(vhd, ours, { size: 10_000_000, options });
      mustRun('qemu-img', ['create', '-q', '-f', 'vpc', ...optionText(options), theirs, '10000000']);
      expect(Buffer.compare(anonymous(ours), anonymous(theirs))).toBe(0);
    }
  });

  it('are opened by qemu-img and libvhdi with the size that we see', () => {
    for (const options of [{}, { subformat: 'fixed' }, { block_size: 64 * KiB }, { block_size: 8 * MiB }]) {
      createImage(vhd, ours, { size: 20 * MiB, options });
      const size = withImage(ours, {}, (node) => node.size);
      const info = JSON.parse(mustRun('qemu-img', ['info', '-f', 'vpc', '--output=json', ours])) as unknown;
      expect(info).toMatchObject({ 'virtual-size': size });
      expect(checkAt(vhd, ours).findings).toEqual([]);
      withImage(ours, {}, (node) => regionsOf(vhd, node));
    }
  });

  it('too large are refused with the sentence of qemu-img', () => {
    const theirWords = runQemuImg(['create', '-q', '-f', 'vpc', theirs, '2041G']).stderr;
    expect(() => createImage(vhd, ours, { size: 2041 * GiB })).toThrow(/too large/);
    try {
      createImage(vhd, ours, { size: 2041 * GiB });
    } catch (error) {
      expect(theirWords.trim()).toBe(`qemu-img: ${theirs}: ${(error as Error).message}`);
    }
  });
});

describeWith({ peers: ['vhdiinfo'] }, 'libvhdi', () => {
  const folder = scratchFolder('vhd-libyal');

  it('reads identity, type and size as we wrote them', () => {
    const file = path.join(folder, 'a.vhd');
    const uuid = '0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9';
    for (const [subformat, type] of [
      ['dynamic', 'Dynamic'],
      ['fixed', 'Fixed'],
    ]) {
      createImage(vhd, file, { size: 64 * MiB, options: { subformat: subformat ?? '', uuid } });
      const told = mustRun('vhdiinfo', [file]);
      expect(told).toContain(`Identifier\t\t: ${uuid}`);
      expect(told).toContain(`Disk type\t\t: ${type}`);
      expect(told).toContain(`(${roundSize(64 * MiB, false).size} bytes)`);
    }
  });
});

describe('creation options', () => {
  it('that make no sense are refused', () => {
    const make = (options: Record<string, OptionValue>): void =>
      createIn(vhd, new MemoryStorage(), 'x.vhd', { size: MiB, options });
    expect(() => make({ uuid: 'abc' })).toThrow(/UUID/);
    expect(() => make({ block_size: 3 * MiB })).toThrow(/Block size/);
    expect(() => make({ block_size: 512 })).toThrow(/Block size/);
  });

  it('give fresh identities, or the one that was asked', () => {
    const idOf = (options: Record<string, OptionValue>): string => {
      const storage = new MemoryStorage();
      createIn(vhd, storage, 'x.vhd', { size: MiB, options });
      return footer.parse(storage.bytes()).unique_id;
    };
    expect(idOf({})).not.toBe(idOf({}));
    expect(idOf({ uuid: '0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9' })).toBe('0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9');
  });

  it('reserve the space of a fixed disk', () => {
    const file = path.join(scratch, 'full.vhd');
    createImage(vhd, file, { size: 4 * MiB, options: { subformat: 'fixed', preallocation: 'full' } });
    expect(fs.statSync(file).blocks * 512).toBeGreaterThanOrEqual(4 * MiB);
    createImage(vhd, file, { size: 4 * MiB, options: { subformat: 'fixed' } });
    expect(fs.statSync(file).blocks * 512).toBeLessThan(MiB);
  });
  const scratch = scratchFolder('vhd-options');

  it('put the header where the specification has it', () => {
    const storage = new MemoryStorage();
    createIn(vhd, storage, 'x.vhd', { size: 5 * MiB });
    const header = dynamicHeader.parse(storage.bytes().subarray(512));
    expect(header).toMatchObject({ table_offset: 1536, max_table_entries: 3, block_size: 2 * MiB });
  });
});

// Tables that lie: every class of published fault in readers of this format is refused with its place, or found by the check.
import { describe, expect, it } from 'vitest';
import { MiB, TiB } from '../../../../core/block/units.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { headerOffsets, regionTableOffsets } from '../../../../core/formats/vhdx/spec.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { checkOf, contentOf, regionsOf } from '../new-image.ts';
import { batOffset, metadataOffset, noGate, openBytes, seal, setHeaders, smallImage } from './crafted.ts';

const itemsOffset = metadataOffset + 64 * 1024;

function u32(image: Uint8Array, offset: number, value: number): void {
  new DataView(image.buffer, image.byteOffset).setUint32(offset, value, true);
}

function u64(image: Uint8Array, offset: number, value: bigint): void {
  new DataView(image.buffer, image.byteOffset).setBigUint64(offset, value, true);
}

/** The error of opening, or of reading the first sector of `block`. */
function failure(image: Uint8Array, block = 0): { code: string; where: unknown } {
  try {
    const node = openBytes(image);
    readGuest(node, new Uint8Array(512), block * MiB);
  } catch (error) {
    if (isImageError(error)) return { code: error.code, where: error.where };
    throw error;
  }
  return { code: 'none', where: null };
}

function entry(image: Uint8Array, index: number, state: number, place: number): void {
  u64(image, batOffset + index * 8, BigInt(place) + BigInt(state));
}

const findings = (image: Uint8Array): string[] => {
  const node = openBytes(image);
  regionsOf(vhdx, node);
  return checkOf(vhdx, node).findings.map(({ code }) => code);
};

describe('the header section', () => {
  it('needs its signature and one valid header', () => {
    const image = smallImage();
    for (const [spoiled, code] of [
      [[0], 'vhdx/not-vhdx'],
      [headerOffsets, 'vhdx/no-header'],
    ] as const) {
      const broken = image.slice();
      for (const offset of spoiled) broken[offset] = 0x58;
      expect(failure(broken).code).toBe(code);
    }
    expect(failure(image.slice(0, 100_000)).code).toBe('vhdx/not-vhdx');
    expect(failure(new Uint8Array(0)).code).toBe('vhdx/not-vhdx');
  });

  it('is read from the other header when one is torn', () => {
    const before = smallImage();
    for (const offset of headerOffsets) {
      const image = before.slice();
      image[offset + 3000] = 1;
      expect(difference(contentOf(openBytes(image)), contentOf(openBytes(before)))).toBeNull();
      expect(findings(image)).toEqual(['vhdx/check-header']);
    }
  });

  it('may be twice the same (Disk2vhd), not two different ones of one age', () => {
    const image = smallImage();
    image.copyWithin(headerOffsets[0], headerOffsets[1], headerOffsets[1] + 4096);
    expect(failure(image).code).toBe('none');
    image[headerOffsets[0] + 20] = 77;
    seal(image);
    expect(failure(image).code).toBe('vhdx/no-header');
  });

  it('has a version that is known', () => {
    const image = smallImage();
    setHeaders(image, { Version: 2 });
    expect(failure(image).code).toBe('vhdx/version');
  });

  it('does not count beyond its largest sequence number', () => {
    const image = smallImage();
    setHeaders(image, { SequenceNumber: 2n ** 64n - 2n });
    expect(failure(image).code).toBe('none');
    const node = openBytes(image, true);
    if (!isWritable(node)) throw new Error('not writable');
    expect(() => writeGuest(node, new Uint8Array(512), 0)).toThrow(
      expect.objectContaining({ code: 'vhdx/sequence-end' }),
    );
  });
});

describe('the region table', () => {
  const spoil = (change: (image: Uint8Array, at: number) => void): Uint8Array => {
    const image = smallImage();
    for (const offset of regionTableOffsets) change(image, offset);
    seal(image);
    return image;
  };

  it('is read from its second copy', () => {
    const image = smallImage();
    image[regionTableOffsets[0] + 9] = 1;
    expect(findings(image)).toEqual(['vhdx/check-region-table']);
    image[regionTableOffsets[1] + 9] = 1;
    expect(failure(image).code).toBe('vhdx/region-table');
  });

  it('is mended by the next writer, like the headers', () => {
    for (const spoiled of [...headerOffsets, ...regionTableOffsets]) {
      const image = smallImage();
      image[spoiled + 9] = 1;
      expect(findings(image)).toHaveLength(1);
      const storage = new MemoryStorage(image, 'crafted.vhdx');
      const request = { writable: true, gate: noGate, withBacking: true, runtime: {}, forRepair: false };
      const node = vhdx.open(storage, request);
      if (!isWritable(node)) throw new Error('not writable');
      writeGuest(node, positionCoded(7 * MiB, 512, 2), 7 * MiB);
      node.flush();
      node.close();
      expect(findings(storage.bytes())).toEqual([]);
    }
  });

  it('may not differ from its copy unnoticed', () => {
    const image = smallImage();
    image[regionTableOffsets[1] + 5000] = 1;
    seal(image);
    expect(findings(image)).toEqual(['vhdx/check-region-table']);
  });

  const faults: Readonly<Record<string, readonly [code: string, change: (image: Uint8Array, at: number) => void]>> = {
    'too many entries': ['bytes/limit', (image, at) => u32(image, at + 8, 2048)],
    'no entries': ['vhdx/region-missing', (image, at) => u32(image, at + 8, 0)],
    'an entry twice': ['vhdx/region-twice', (image, at) => image.copyWithin(at + 48, at + 16, at + 48)],
    'a region at an odd place': ['vhdx/region-place', (image, at) => u64(image, at + 32, BigInt(2 * MiB + 512))],
    'a region of no length': ['vhdx/region-place', (image, at) => u32(image, at + 40, 0)],
    'a region in the header section': ['vhdx/region-place', (image, at) => u64(image, at + 32, 0n)],
    'a region beyond the file': ['vhdx/region-place', (image, at) => u64(image, at + 32, BigInt(TiB))],
    'a region beyond all numbers': ['storage/too-large', (image, at) => u64(image, at + 32, 2n ** 63n)],
    'a region over the log': ['vhdx/region-overlap', (image, at) => u64(image, at + 32, BigInt(MiB))],
    'regions over each other': ['vhdx/region-overlap', (image, at) => u32(image, at + 40, 2 * MiB)],
  };
  for (const [name, [code, change]] of Object.entries(faults)) {
    it(`with ${name} is refused`, () => expect(failure(spoil(change)).code).toBe(code));
  }

  it('with a region that is required and not known is refused by its name', () => {
    const add = (required: number) => (image: Uint8Array, at: number) => {
      u32(image, at + 8, 3);
      image.fill(0xab, at + 80, at + 96);
      u64(image, at + 96, BigInt(6 * MiB));
      u32(image, at + 104, MiB);
      u32(image, at + 108, required);
    };
    expect(() => openBytes(spoil(add(1)))).toThrow(/abababab-abab-abab-abab-abababababab/);
    const image = new Uint8Array(7 * MiB);
    image.set(spoil(add(0)));
    expect(failure(image).code).toBe('none');
    expect([...vhdx.regions(openBytes(image))].map(({ label }) => label)).toContain(
      '{abababab-abab-abab-abab-abababababab} region',
    );
  });
});

describe('the metadata', () => {
  const spoil = (change: (image: Uint8Array) => void): Uint8Array => {
    const image = smallImage();
    change(image);
    return image;
  };
  const table = (index: number): number => metadataOffset + 32 + index * 32;

  // CVE-2014-0148 and the reports on VirtualDiskSize: none of these fields is covered by a checksum.
  const faults: Readonly<Record<string, readonly [code: string, change: (image: Uint8Array) => void]>> = {
    'no signature': ['vhdx/metadata-table', (image) => u32(image, metadataOffset, 0)],
    'too many items': ['bytes/limit', (image) => u32(image, metadataOffset + 8, 0xffff_0000)],
    'no items': ['vhdx/item-missing', (image) => u32(image, metadataOffset + 8, 0)],
    'an item twice': ['vhdx/item-twice', (image) => image.copyWithin(table(1), table(0), table(1))],
    'an item in the table': ['vhdx/item-place', (image) => u32(image, table(0) + 16, 100)],
    'an item behind the region': ['vhdx/item-place', (image) => u32(image, table(0) + 16, MiB - 4)],
    'an item beyond all': ['vhdx/item-place', (image) => u32(image, table(0) + 16, 0xffff_fff0)],
    'an item of 4 GiB': ['vhdx/item-place', (image) => u32(image, table(0) + 20, 0xffff_ffff)],
    'an item that is too short': ['bytes/truncated', (image) => u32(image, table(0) + 20, 4)],
    'a place without length': ['vhdx/item-place', (image) => u32(image, table(0) + 20, 0)],
    'a block size of 0': ['vhdx/block-size', (image) => u32(image, itemsOffset, 0)],
    'a block size of 3 MiB': ['vhdx/block-size', (image) => u32(image, itemsOffset, 3 * MiB)],
    'a block size of 512 MiB': ['vhdx/block-size', (image) => u32(image, itemsOffset, 512 * MiB)],
    'a block size of 512': ['vhdx/block-size', (image) => u32(image, itemsOffset, 512)],
    'a size beyond 64 TiB': ['vhdx/virtual-size', (image) => u64(image, itemsOffset + 8, BigInt(64 * TiB + 512))],
    'a size beyond 32 bits of blocks': ['vhdx/virtual-size', (image) => u64(image, itemsOffset + 8, 2n ** 52n)],
    'a size beyond all numbers': ['storage/too-large', (image) => u64(image, itemsOffset + 8, 2n ** 64n - 512n)],
    'a size that is no sectors': ['vhdx/virtual-size-sectors', (image) => u64(image, itemsOffset + 8, 1000n)],
    'a size that the BAT cannot hold': ['vhdx/bat-short', (image) => u64(image, itemsOffset + 8, BigInt(TiB))],
    'a sector size of 0': ['vhdx/sector-size', (image) => u32(image, itemsOffset + 32, 0)],
    'a sector size of 1024': ['vhdx/sector-size', (image) => u32(image, itemsOffset + 32, 1024)],
    'a physical sector size of 1': ['vhdx/sector-size', (image) => u32(image, itemsOffset + 36, 1)],
    'a parent and no locator': ['vhdx/item-missing', (image) => u32(image, itemsOffset + 4, 2)],
  };
  for (const [name, [code, change]] of Object.entries(faults)) {
    it(`with ${name} is refused`, () => {
      expect(failure(spoil(change))).toMatchObject({ code, where: { file: 'crafted.vhdx' } });
    });
  }

  it('with an item that is required and not known is refused by its name', () => {
    const add = (flags: number): Uint8Array =>
      spoil((image) => {
        u32(image, metadataOffset + 8, 6 << 16);
        image.fill(0xcd, table(5), table(5) + 16);
        u32(image, table(5) + 24, flags);
      });
    expect(() => openBytes(add(4))).toThrow(/cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd/);
    expect(failure(add(0)).code).toBe('none');
    expect(failure(add(1)).code).toBe('none');
  });

  it('of a file that was not finished is refused', () => {
    const image = spoil((bytes) => {
      u32(bytes, metadataOffset + 8, 6 << 16);
      bytes.set(
        [0xf0, 0x85, 0xcc, 0x71, 0x69, 0x1b, 0x28, 0x4e, 0x95, 0x58, 0xc3, 0xbf, 0x83, 0xae, 0x75, 0xd3],
        table(5),
      );
    });
    expect(failure(image).code).toBe('vhdx/incomplete');
  });
});

describe('the BAT', () => {
  const spoil = (index: number, state: number, place: number): Uint8Array => {
    const image = smallImage();
    entry(image, index, state, place);
    return image;
  };
  const at = { file: 'crafted.vhdx', offset: batOffset + 8 };

  const faults: Readonly<Record<string, readonly [code: string, finding: string, state: number, place: number]>> = {
    'with a reserved state': ['vhdx/block-state', 'vhdx/check-state', 4, 0],
    'behind the file': ['vhdx/block-outside', 'vhdx/check-outside', 6, 1000 * MiB],
    'far behind the file': ['vhdx/block-outside', 'vhdx/check-outside', 6, 2 ** 52],
    'in the header section': ['vhdx/block-overlap', 'vhdx/check-overlap', 6, 0],
    'partially present without a parent': ['vhdx/partial-no-parent', 'vhdx/check-partial', 7, 4 * MiB],
  };
  for (const [name, [code, finding, state, place]] of Object.entries(faults)) {
    it(`does not read a block ${name}`, () => {
      const image = spoil(1, state, place);
      expect(failure(image, 1)).toMatchObject({ code });
      if (code !== 'vhdx/partial-no-parent') expect(failure(image, 1)).toMatchObject({ where: at });
      expect(findings(image)).toContain(finding);
      const node = openBytes(image, true);
      if (!isWritable(node)) throw new Error('not writable');
      expect(() => writeGuest(node, positionCoded(MiB, 512, 1), MiB)).toThrow();
      // The blocks beside it are as readable as ever.
      const found = new Uint8Array(MiB);
      readGuest(openBytes(image), found, 0);
      expect(difference(found, positionCoded(0, MiB, 1))).toBeNull();
    });
  }

  it('has blocks that the end of the file cuts', () => {
    const image = smallImage();
    const cut = image.slice(0, image.length - 512);
    expect(failure(cut, 2).code).toBe('none');
    expect(() => contentOf(openBytes(cut))).toThrow(expect.objectContaining({ code: 'vhdx/block-cut' }));
    expect(findings(cut)).toEqual(['vhdx/check-outside']);
  });

  it('has no two blocks in one place, none over a table', () => {
    expect(findings(spoil(1, 6, 4 * MiB))).toEqual(['vhdx/check-overlap']);
    expect(findings(spoil(1, 6, batOffset))).toEqual(['vhdx/check-overlap']);
    expect(findings(spoil(1, 6, metadataOffset))).toEqual(['vhdx/check-overlap']);
    expect(findings(spoil(1, 6, MiB))).toEqual(['vhdx/check-overlap']);
  });

  it('has no sector bitmaps in a disk without parent', () => {
    // 4096 blocks of 1 MiB to a chunk: the entry behind them is that of the bitmap.
    const image = smallImage();
    entry(image, 4096, 6, 5 * MiB);
    const found = findings(image);
    expect(found).toContain('vhdx/check-bitmap');
    expect(found).toContain('vhdx/check-overlap');
    const odd = smallImage();
    entry(odd, 4096, 3, 0);
    expect(findings(odd)).toContain('vhdx/check-state');
  });

  it('that is broken from end to end gives findings that end', () => {
    const image = smallImage({ block_state_zero: false });
    u64(image, itemsOffset + 8, BigInt(120_000 * MiB));
    for (let index = 0; index < 120_000; index++) entry(image, index, 6, 4 * MiB);
    const found = checkOf(vhdx, openBytes(image)).findings;
    expect(found.length).toBeLessThan(400);
    expect(found.reduce((sum, { count }) => sum + count, 0)).toBeGreaterThan(119_000);
    regionsOf(vhdx, openBytes(image));
  });

  it('of drafts of the format is read', () => {
    const image = spoil(0, 5, 0);
    const found = new Uint8Array(512);
    readGuest(openBytes(image), found, 0);
    expect(found.every((byte) => byte === 0)).toBe(true);
    expect(findings(image)).toEqual([]);
  });
});

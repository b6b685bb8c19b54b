// Differencing VHDX disks: chains read and written, identities, moved and changed parents, a disk given another parent or none.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BlockNode } from '../../../../core/block/node.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { followNothing, followSameFolder } from '../../../../core/formats/gate.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { parseParentLocator, parentPaths, recordedPaths } from '../../../../core/formats/vhdx/parent-locator.ts';
import { itWith, mustRun, peer } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkAt, contentAt, createImage, regionsOf, withImage, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';
import { libvhdiReads, readByLibvhdi, readBySevenZip, whyNoSevenZip } from './readers.ts';

/** 7-Zip wants whole 4 KiB. */
const size = 20 * MiB + 3 * 4096;

/** An image over another one, and the buffer that says what its guest sees. */
function layer(file: string, below: string | null, model: Uint8Array, options = {}): void {
  createImage(vhdx, file, { size: model.length, options: { block_size: MiB, ...options }, backing: below });
}

function identityAt(node: BlockNode): string {
  const identity = vhdx.facts(node).further?.['data-write-guid'];
  if (typeof identity !== 'string') throw new Error('no identity');
  return identity;
}

function write(file: string, model: Uint8Array, start: number, length: number, number: number): void {
  const bytes = positionCoded(start, length, number);
  writing(file, (node) => writeGuest(node, bytes, start));
  model.set(bytes, start);
}

describe('chains of VHDX', () => {
  const folder = scratchFolder('vhdx-chain');
  const at = (name: string): string => path.join(folder, name);
  const seed = chosenSeed('vhdx chains');

  for (const options of [{}, { block_size: 4 * MiB }, { logical_sector_size: 4096 }]) {
    it(`of three with ${JSON.stringify(options)} are read and written`, () => {
      const model = new Uint8Array(size);
      const names = ['base.vhdx', 'mid.vhdx', 'top.vhdx'];
      names.forEach((name, index) => {
        const below = model.slice();
        layer(at(name), index === 0 ? null : (names[index - 1] ?? null), model, options);
        for (let round = 0; round < 2; round++) {
          const random = new SeededRandom(seed + 10 * index + round);
          writing(at(name), (node) =>
            guestAtWork(node, model, { random, layer: 10 * index + round + 1, steps: 60, longest: 2 * MiB, below }),
          );
          expect(difference(contentAt(at(name)), model)).toBeNull();
        }
        expect(checkAt(vhdx, at(name)).findings).toEqual([]);
        withImage(at(name), {}, (node) => regionsOf(vhdx, node));
      });
      const wide = 'logical_sector_size' in options;
      if (whyNoSevenZip() === null && !wide) expect(difference(readBySevenZip(at('top.vhdx')), model)).toBeNull();
    });
  }

  for (const options of [{}, { logical_sector_size: 4096, block_size: 2 * MiB }]) {
    const unless = libvhdiReads() ? null : 'no python3-libvhdi';
    itWith({ unless }, `of three with ${JSON.stringify(options)} are read by libvhdi`, () => {
      // Only written, not zeroed: this release takes blocks of the state zero over a parent for the start of the file.
      const model = new Uint8Array(size);
      const names = ['base.vhdx', 'mid.vhdx', 'top.vhdx'];
      names.forEach((name, index) => {
        layer(at(name), index === 0 ? null : (names[index - 1] ?? null), model, options);
        const random = new SeededRandom(seed + index);
        writing(at(name), (node) =>
          guestAtWork(node, model, { random, layer: index + 1, steps: 60, longest: 2 * MiB, zeroes: false }),
        );
      });
      expect(difference(readByLibvhdi(names.map(at)), model)).toBeNull();
    });
  }

  itWith({ peers: ['vhdiinfo'] }, 'say to libvhdi whose children they are', () => {
    const model = new Uint8Array(size);
    layer(at('p.vhdx'), null, model);
    layer(at('c.vhdx'), 'p.vhdx', model);
    const identity = withImage(at('p.vhdx'), {}, (node) => identityAt(node));
    const info = mustRun('vhdiinfo', [at('c.vhdx')]);
    expect(info).toMatch(/Disk type\s+: Differential/);
    expect(info).toContain(`Parent identifier\t: ${identity}`);
    expect(info).toMatch(/Parent filename\s+: .*p\.vhdx/);
  });

  itWith({ unless: peer('7z') === null ? 'no 7z' : whyNoSevenZip() }, 'hold a sector at a time', () => {
    const model = new Uint8Array(size);
    layer(at('b.vhdx'), null, model);
    write(at('b.vhdx'), model, 0, 3 * MiB, 1);
    layer(at('o.vhdx'), 'b.vhdx', model);
    write(at('o.vhdx'), model, MiB + 1000, 100, 2);
    withImage(at('o.vhdx'), {}, (node) => {
      // Two sectors of one block: the rest is below.
      expect(node.map({ start: MiB, length: MiB })).toMatchObject({ kind: 'below', length: 512 });
      expect(node.map({ start: MiB + 512, length: MiB - 512 })).toMatchObject({ kind: 'data', length: 1024 });
      expect(node.map({ start: MiB + 1536, length: MiB })).toMatchObject({ kind: 'below' });
    });
    expect(difference(readBySevenZip(at('o.vhdx')), model)).toBeNull();
    // Filled up, the block needs no bitmap any more.
    write(at('o.vhdx'), model, MiB, MiB / 2, 3);
    write(at('o.vhdx'), model, MiB + MiB / 2, MiB / 2, 3);
    withImage(at('o.vhdx'), {}, (node) => {
      expect(node.map({ start: MiB, length: MiB })).toMatchObject({ kind: 'data', length: MiB });
    });
    expect(difference(readBySevenZip(at('o.vhdx')), model)).toBeNull();
  });

  it('end below the shorter parent in zeroes', () => {
    const small = new Uint8Array(5 * MiB + 512);
    layer(at('small.vhdx'), null, small);
    write(at('small.vhdx'), small, 0, small.length, 1);
    createImage(vhdx, at('large.vhdx'), { size: 9 * MiB, options: { block_size: MiB }, backing: 'small.vhdx' });
    const model = new Uint8Array(9 * MiB);
    model.set(small);
    expect(difference(contentAt(at('large.vhdx')), model)).toBeNull();
    write(at('large.vhdx'), model, 5 * MiB + 100, 2000, 2);
    expect(difference(contentAt(at('large.vhdx')), model)).toBeNull();
  });
});

describe('the parent of a differencing VHDX', () => {
  const folder = scratchFolder('vhdx-parent');
  const at = (name: string): string => path.join(folder, name);
  const make = (): Uint8Array => {
    fs.rmSync(folder, { recursive: true });
    fs.mkdirSync(folder);
    const model = new Uint8Array(4 * MiB);
    layer(at('base.vhdx'), null, model);
    write(at('base.vhdx'), model, 0, MiB, 1);
    layer(at('child.vhdx'), 'base.vhdx', model);
    write(at('child.vhdx'), model, 3000, 5000, 2);
    return model;
  };

  it('is named in the facts, by its path and its identity', () => {
    make();
    const identity = withImage(at('base.vhdx'), {}, (node) => identityAt(node));
    withImage(at('child.vhdx'), {}, (node) => {
      const facts = vhdx.facts(node);
      expect(facts.backing).toEqual({ path: 'base.vhdx', format: 'vhdx' });
      expect(facts.further).toMatchObject({
        subformat: 'differencing',
        parent: { 'data-write-guid': [identity], relative_path: '.\\base.vhdx' },
      });
    });
  });

  it('that changed is refused with both identities', () => {
    const model = make();
    const before = withImage(at('base.vhdx'), {}, (node) => identityAt(node));
    write(at('base.vhdx'), model, 0, 512, 9);
    const after = withImage(at('base.vhdx'), {}, (node) => identityAt(node));
    const open = (): unknown => openImage(at('child.vhdx'));
    expect(open).toThrow(expect.objectContaining({ code: 'vhdx/parent-changed' }));
    expect(open).toThrow(new RegExp(`${after}.*${before}`));
    // Without its parent it still tells what it is.
    withImage(at('child.vhdx'), { withBacking: false }, (node) => expect(node.size).toBe(4 * MiB));
  });

  it('that is gone is refused with the identity that is looked for', () => {
    make();
    const identity = withImage(at('base.vhdx'), {}, (node) => identityAt(node));
    fs.renameSync(at('base.vhdx'), at('elsewhere.vhdx'));
    const open = (): unknown => openImage(at('child.vhdx'));
    expect(open).toThrow(expect.objectContaining({ code: 'vhdx/parent-missing' }));
    expect(open).toThrow(new RegExp(`${identity}.*base\\.vhdx`));
  });

  it('is found by its absolute path when the image has moved, and beside it when both have', () => {
    const model = make();
    fs.mkdirSync(at('other'));
    fs.renameSync(at('child.vhdx'), at('other/child.vhdx'));
    expect(difference(contentAt(at('other/child.vhdx')), model)).toBeNull();
    // A stranger at the recorded place is passed over.
    fs.copyFileSync(at('base.vhdx'), at('other/base.vhdx'));
    createImage(vhdx, at('base.vhdx'), { size: 4 * MiB });
    expect(difference(contentAt(at('other/child.vhdx')), model)).toBeNull();
  });

  it('is not looked for where the caller does not allow it', () => {
    make();
    expect(() => openImage(at('child.vhdx'), { policy: followNothing })).toThrow(
      expect.objectContaining({ code: 'gate/refused' }),
    );
    withImage(at('child.vhdx'), { policy: followSameFolder }, (node) => expect(node.backing).not.toBeNull());
  });

  it('must be a VHDX', () => {
    make();
    fs.writeFileSync(at('raw.img'), new Uint8Array(MiB));
    const create = (): void => createImage(vhdx, at('x.vhdx'), { size: MiB, backing: 'raw.img', backingFormat: 'raw' });
    expect(create).toThrow(expect.objectContaining({ code: 'vhdx/parent-format' }));
  });

  it('is not given to a fixed disk, nor hidden by blocks of zeroes', () => {
    make();
    const create = (options: Record<string, string | boolean>) => (): void =>
      createImage(vhdx, at('x.vhdx'), { size: MiB, backing: 'base.vhdx', options });
    expect(create({ subformat: 'fixed' })).toThrow(expect.objectContaining({ code: 'vhdx/fixed-parent' }));
    expect(create({ block_state_zero: true })).toThrow(expect.objectContaining({ code: 'vhdx/zero-parent' }));
  });

  it('is not made its own grandchild', () => {
    make();
    const turn = (): void =>
      writing(at('base.vhdx'), (node) => node.setBacking({ path: 'child.vhdx', format: 'vhdx' }));
    expect(turn).toThrow(expect.objectContaining({ code: 'gate/loop' }));
  });
});

describe('a VHDX given another parent', () => {
  const folder = scratchFolder('vhdx-reparent');
  const at = (name: string): string => path.join(folder, name);
  const make = (): { base: Uint8Array; model: Uint8Array } => {
    const base = new Uint8Array(size);
    layer(at('base.vhdx'), null, base);
    write(at('base.vhdx'), base, MiB / 2, 12 * MiB, 1);
    const model = base.slice();
    layer(at('child.vhdx'), 'base.vhdx', model);
    write(at('child.vhdx'), model, 3000, 5 * MiB + 7, 2);
    write(at('child.vhdx'), model, 9 * MiB, 3 * MiB, 2);
    write(at('child.vhdx'), model, size - 700, 700, 2);
    return { base, model };
  };

  it('reads on through it', () => {
    const { model } = make();
    fs.copyFileSync(at('base.vhdx'), at('moved.vhdx'));
    const long = `${'folder-with-a-long-name/'.repeat(6)}base.vhdx`;
    fs.mkdirSync(path.dirname(at(long)), { recursive: true });
    fs.copyFileSync(at('base.vhdx'), at(long));
    for (const name of ['moved.vhdx', long, 'base.vhdx']) {
      writing(at('child.vhdx'), (node) => node.setBacking({ path: name, format: 'vhdx' }), { withBacking: false });
      withImage(at('child.vhdx'), {}, (node) => {
        expect(vhdx.facts(node).backing?.path).toBe(name);
        expect(node.backing?.name).toBe(at(name));
      });
      expect(difference(contentAt(at('child.vhdx')), model)).toBeNull();
      expect(checkAt(vhdx, at('child.vhdx')).findings).toEqual([]);
      // 7-Zip looks for the parent in the image's own folder only.
      if (whyNoSevenZip() === null && name !== long) {
        expect(difference(readBySevenZip(at('child.vhdx')), model)).toBeNull();
      }
    }
  });

  it('stands alone without one: what it does not hold is zero', () => {
    const { base, model } = make();
    const alone = model.slice();
    withImage(at('child.vhdx'), {}, (node) => {
      for (let start = 0; start < size;) {
        const mapping = node.map({ start, length: size - start });
        if (mapping.kind === 'below') alone.fill(0, start, start + mapping.length);
        start += mapping.length;
      }
    });
    expect(difference(alone, model)).not.toBeNull();
    writing(at('child.vhdx'), (node) => node.setBacking(null));
    expect(difference(contentAt(at('child.vhdx')), alone)).toBeNull();
    expect(checkAt(vhdx, at('child.vhdx')).findings).toEqual([]);
    withImage(at('child.vhdx'), {}, (node) => expect(vhdx.facts(node).backing).toBeNull());
    expect(difference(contentAt(at('base.vhdx')), base)).toBeNull();
    if (peer('qemu-img') !== null) {
      fs.writeFileSync(at('alone.raw'), alone);
      expect(mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', at('alone.raw'), at('child.vhdx')])).toContain(
        'identical',
      );
    }
  });

  it('gets its first', () => {
    const { base } = make();
    const model = base.slice();
    createImage(vhdx, at('new.vhdx'), { size, options: { block_size: MiB, block_state_zero: false } });
    writing(at('new.vhdx'), (node) => node.setBacking({ path: 'base.vhdx', format: null }));
    expect(difference(contentAt(at('new.vhdx')), model)).toBeNull();
    write(at('new.vhdx'), model, 700, 300 * KiB, 5);
    expect(difference(contentAt(at('new.vhdx')), model)).toBeNull();
    if (whyNoSevenZip() === null) expect(difference(readBySevenZip(at('new.vhdx')), model)).toBeNull();
  });
});

describe('parent locators', () => {
  const where = { file: 'x' };

  it('name relative paths the way Windows writes them', () => {
    const paths = recordedPaths('/vms/a/child.vhdx', '/vms/b/base.vhdx');
    expect(paths.get('relative_path')).toBe('..\\b\\base.vhdx');
    expect(recordedPaths('/vms/a/child.vhdx', '/vms/a/base.vhdx').get('relative_path')).toBe('.\\base.vhdx');
  });

  it('are tried in the order of the specification', () => {
    const pairs = new Map([
      ['absolute_win32_path', '\\\\?\\C:\\vms\\Base.vhdx'],
      ['relative_path', '..\\up\\base.vhdx'],
      ['volume_path', '\\\\?\\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\\vms\\base.vhdx'],
    ]);
    const found = parentPaths({ identities: [], pairs });
    expect(found[0]).toBe(process.platform === 'win32' ? '..\\up\\base.vhdx' : '../up/base.vhdx');
    expect(found).toContain('base.vhdx');
    expect(found).toContain('Base.vhdx');
  });

  it('that lead outside their item are refused', () => {
    const item = new Uint8Array(32);
    const view = new DataView(item.buffer);
    item.set([0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13]);
    view.setUint16(18, 1, true);
    for (const [offset, value] of [
      [20, 0xffff_ffff],
      [24, 31],
      [28, 0xffff],
      [30, 3],
    ] as const) {
      const broken = item.slice();
      new DataView(broken.buffer).setUint32(offset - (offset % 4), 0, true);
      if (offset < 28) new DataView(broken.buffer).setUint32(offset, value, true);
      else new DataView(broken.buffer).setUint16(offset, value, true);
      expect(() => parseParentLocator(broken, where)).toThrow(expect.objectContaining({ code: 'vhdx/locator' }));
    }
    view.setUint16(18, 300, true);
    expect(() => parseParentLocator(item, where)).toThrow(expect.objectContaining({ code: 'bytes/limit' }));
    item.fill(0, 0, 16);
    view.setUint16(18, 1, true);
    expect(() => parseParentLocator(item, where)).toThrow(expect.objectContaining({ code: 'vhdx/locator-type' }));
  });
});

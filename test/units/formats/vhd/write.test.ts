// Written VHDs: random guests beside a plain buffer, judged by qemu-img, 7-Zip and our own check.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { followNothing } from '../../../../core/formats/gate.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { describeWith, mustRun } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkAt, contentAt, createImage, createIn, regionsOf, withImage, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

const kinds: readonly (readonly [string, Record<string, OptionValue>])[] = [
  ['dynamic', {}],
  ['fixed', { subformat: 'fixed' }],
  ['dynamic, blocks of 32 KiB', { block_size: 32 * KiB }],
  ['dynamic, exact size', { force_size: true }],
];

describeWith({ peers: ['qemu-img', 'qemu-io', '7z'] }, 'written VHDs', () => {
  const folder = scratchFolder('vhd-write');
  const seed = chosenSeed('vhd write');

  for (const [name, options] of kinds) {
    it(`(${name}) hold what the guest wrote, for us, qemu-img and 7-Zip`, () => {
      const file = path.join(folder, 'w.vhd');
      const raw = path.join(folder, 'w.raw');
      createImage(vhd, file, { size: 9 * MiB + 1024, options });
      const size = withImage(file, {}, (node) => node.size);
      const model = new Uint8Array(size);
      const random = new SeededRandom(seed);
      for (let session = 1; session <= 3; session++) {
        writing(file, (node) => guestAtWork(node, model, { random, layer: session, steps: 60, longest: 3 * MiB }));
        expect(difference(contentAt(file), model)).toBe(null);
        expect(checkAt(vhd, file).findings.filter(({ severity }) => severity !== 'leak')).toEqual([]);
      }
      fs.writeFileSync(raw, model);
      expect(mustRun('qemu-img', ['compare', '-f', 'vpc', '-F', 'raw', file, raw])).toContain('Images are identical');
      fs.rmSync(path.join(folder, 'out'), { recursive: true, force: true });
      mustRun('7z', ['x', '-tVHD', `-o${path.join(folder, 'out')}`, file]);
      const [extracted] = fs.readdirSync(path.join(folder, 'out'));
      expect(difference(fs.readFileSync(path.join(folder, 'out', extracted ?? '')), model)).toBe(null);
      withImage(file, {}, (node) => regionsOf(vhd, node));
    });
  }

  it('are written on by qemu-io and by us in turn', () => {
    const file = path.join(folder, 'turns.vhd');
    mustRun('qemu-img', ['create', '-q', '-f', 'vpc', file, '20M']);
    const size = withImage(file, {}, (node) => node.size);
    const model = new Uint8Array(size);
    const random = new SeededRandom(seed + 1);
    for (let turn = 0; turn < 4; turn++) {
      const start = random.below(18 * 2048) * 512;
      mustRun('qemu-io', ['-f', 'vpc', '-c', `write -P ${turn + 1} ${start} 1M`, file]);
      model.fill(turn + 1, start, start + MiB);
      writing(file, (node) => guestAtWork(node, model, { random, layer: turn + 9, steps: 12, longest: MiB }));
      expect(difference(contentAt(file), model)).toBe(null);
    }
    const raw = path.join(folder, 'turns.raw');
    fs.writeFileSync(raw, model);
    expect(mustRun('qemu-img', ['compare', '-f', 'vpc', '-F', 'raw', file, raw])).toContain('Images are identical');
  });

  it('keep their holes: a few bytes do not take a whole block of the disk', () => {
    const file = path.join(folder, 'sparse.vhd');
    createImage(vhd, file, { size: 64 * MiB });
    writing(file, (node) => writeGuest(node, positionCoded(5 * MiB, 4096, 1), 5 * MiB));
    expect(fs.statSync(file).blocks * 512).toBeLessThan(256 * KiB);
  });

  it('reuse the room of a block that was given back', () => {
    const file = path.join(folder, 'reuse.vhd');
    createImage(vhd, file, { size: 64 * MiB });
    const block = positionCoded(0, 2 * MiB, 1);
    writing(file, (node) => writeGuest(node, block, 0));
    const before = fs.statSync(file).size;
    writing(file, (node) => {
      expect(node.zero({ start: 0, length: 2 * MiB })).toEqual({ start: 0, length: 2 * MiB });
      node.flush();
      writeGuest(node, block.subarray(0, 700), 10 * MiB + 5);
    });
    expect(fs.statSync(file).size).toBe(before);
    const expected = new Uint8Array(withImage(file, {}, (node) => node.size));
    expected.set(block.subarray(0, 700), 10 * MiB + 5);
    expect(difference(contentAt(file), expected)).toBe(null);
    expect(checkAt(vhd, file).findings).toEqual([]);
  });
});

describe('resizing', () => {
  const folder = scratchFolder('vhd-resize');

  for (const [name, options] of kinds) {
    it(`(${name}) keeps the content, and what comes to light is zero`, () => {
      const file = path.join(folder, 'r.vhd');
      createImage(vhd, file, { size: 6 * MiB, options });
      let model: Uint8Array = new Uint8Array(withImage(file, {}, (node) => node.size));
      const random = new SeededRandom(7);
      for (const size of [8 * MiB, 300 * MiB, 5 * MiB + 512, 5 * MiB + 9 * 512, 700 * MiB, 3 * MiB]) {
        writing(file, (node) => {
          guestAtWork(node, model, { random, layer: 1, steps: 6, longest: MiB });
          // The very end, so that a cut really cuts something.
          const last = positionCoded(node.size - 512, 512, 2);
          writeGuest(node, last, node.size - 512);
          model.set(last, node.size - 512);
          node.resize(size);
          expect(node.size).toBe(vhd.sizeFor?.(size, options));
          const next = new Uint8Array(node.size);
          next.set(model.subarray(0, Math.min(model.length, next.length)));
          model = next;
        });
        expect(difference(contentAt(file), model)).toBe(null);
        expect(checkAt(vhd, file).findings.filter(({ severity }) => severity !== 'leak')).toEqual([]);
        withImage(file, {}, (node) => regionsOf(vhd, node));
      }
    });
  }

  it('moves the BAT when there is no room behind it', () => {
    const storage = new MemoryStorage();
    createIn(vhd, storage, 'm.vhd', { size: 2 * MiB });
    const gate = { openImage: neverOpened, openFile: neverOpened };
    const node = vhd.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
    if (!isWritable(node)) throw new Error('not writable');
    const bytes = positionCoded(0, 4096, 3);
    writeGuest(node, bytes, 0);
    node.resize(2000 * MiB);
    node.flush();
    const found = new Uint8Array(4096);
    writeGuest(node, positionCoded(node.size - 4096, 4096, 3), node.size - 4096);
    node.flush();
    const view = new DataView(storage.bytes().buffer);
    expect(view.getUint32(512 + 20)).toBeGreaterThan(2 * MiB);
    expect(view.getUint32(512 + 28)).toBe(1001);
    storage.readAt(found, 2048 + 512);
    expect(difference(found, bytes)).toBe(null);
  });
});

function neverOpened(): never {
  throw new Error('nothing is to be opened');
}

describeWith({ peers: ['qemu-img'] }, 'a resized VHD', () => {
  const folder = scratchFolder('vhd-resized');

  it('is the same for qemu-img', () => {
    const file = path.join(folder, 'q.vhd');
    for (const options of [{}, { subformat: 'fixed' }, { force_size: true }]) {
      createImage(vhd, file, { size: 6 * MiB, options });
      writing(file, (node) => {
        writeGuest(node, positionCoded(0, 6 * MiB, 1), 0);
        node.resize(300 * MiB);
        writeGuest(node, positionCoded(280 * MiB, MiB, 1), 280 * MiB);
      });
      const size = withImage(file, {}, (node) => node.size);
      const raw = path.join(folder, 'q.raw');
      mustRun('qemu-img', ['convert', '-f', 'vpc', '-O', 'raw', file, raw]);
      expect(fs.statSync(raw).size).toBe(size);
      const expected = path.join(folder, 'expected.raw');
      const descriptor = fs.openSync(expected, 'w');
      fs.writeSync(descriptor, positionCoded(0, 6 * MiB, 1), 0, 6 * MiB, 0);
      fs.writeSync(descriptor, positionCoded(280 * MiB, MiB, 1), 0, MiB, 280 * MiB);
      fs.ftruncateSync(descriptor, size);
      fs.closeSync(descriptor);
      mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', raw, expected]);
    }
  });
});

describe('measure', () => {
  it('says how long the file of a copy gets', () => {
    const file = path.join(folder, 'm.vhd');
    const runs = [
      { start: 0, length: 100 },
      { start: 2 * MiB - 50, length: 100 },
      { start: 3 * MiB, length: 512 },
      { start: 9 * MiB, length: 4 * MiB },
    ];
    for (const options of [{}, { subformat: 'fixed' }, { block_size: 64 * KiB }] as Record<string, OptionValue>[]) {
      createImage(vhd, file, { size: 30 * MiB, options });
      writing(file, (node) => {
        for (const { start, length } of runs) writeGuest(node, positionCoded(start, length, 1), start);
      });
      const measured = vhd.measure?.({ size: 30 * MiB, options, backing: null, data: () => runs });
      expect(measured?.required).toBe(fs.statSync(file).size);
      writing(file, (node) => writeGuest(node, new Uint8Array(node.size).fill(1), 0));
      expect(measured?.fullyAllocated).toBe(fs.statSync(file).size);
    }
  });
  const folder = scratchFolder('vhd-measure');
});

describe('an image that may reach no other file', () => {
  it('is opened when it needs none', () => {
    const file = path.join(folder, 'alone.vhd');
    createImage(vhd, file, { size: MiB });
    expect(withImage(file, { policy: followNothing }, (node) => node.size)).toBeGreaterThanOrEqual(MiB);
  });
  const folder = scratchFolder('vhd-alone');
});

// Written VDIs: random guests beside a plain buffer, judged by qemu-img and 7-Zip; sizes that change; measure.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { header1, preHeader } from '../../../../core/formats/vdi/spec.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkAt, checkOf, contentAt, createImage, createIn, regionsOf, withImage, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

const kinds: readonly (readonly [string, Record<string, OptionValue>])[] = [
  ['dynamic', {}],
  ['static', { static: true }],
];

describeWith({ peers: ['qemu-img', 'qemu-io', '7z'] }, 'written VDIs', () => {
  const folder = scratchFolder('vdi-write');
  const seed = chosenSeed('vdi write');

  for (const [name, options] of kinds) {
    it(`(${name}) hold what the guest wrote, for us, qemu-img and 7-Zip`, () => {
      const file = path.join(folder, 'w.vdi');
      const raw = path.join(folder, 'w.raw');
      createImage(vdi, file, { size: 9 * MiB + 1024, options });
      const model = new Uint8Array(9 * MiB + 1024);
      const random = new SeededRandom(seed);
      for (let session = 1; session <= 3; session++) {
        writing(file, (node) => guestAtWork(node, model, { random, layer: session, steps: 60, longest: 3 * MiB }));
        expect(difference(contentAt(file), model)).toBe(null);
        expect(checkAt(vdi, file).findings).toEqual([]);
      }
      fs.writeFileSync(raw, model);
      expect(mustRun('qemu-img', ['check', '-f', 'vdi', file])).toContain('No errors were found');
      expect(mustRun('qemu-img', ['compare', '-f', 'vdi', '-F', 'raw', file, raw])).toContain('Images are identical');
      const out = path.join(folder, 'out');
      fs.rmSync(out, { recursive: true, force: true });
      mustRun('7z', ['x', '-tVDI', `-o${out}`, file]);
      const [extracted] = fs.readdirSync(out);
      expect(difference(fs.readFileSync(path.join(out, extracted ?? '')), model)).toBe(null);
      withImage(file, {}, (node) => regionsOf(vdi, node));
    });
  }

  it('are written on by qemu-io and by us in turn', () => {
    const file = path.join(folder, 'turns.vdi');
    mustRun('qemu-img', ['create', '-q', '-f', 'vdi', file, '20M']);
    const model = new Uint8Array(20 * MiB);
    const random = new SeededRandom(seed + 1);
    for (let turn = 0; turn < 4; turn++) {
      const start = random.below(18 * 2048) * 512;
      mustRun('qemu-io', ['-f', 'vdi', '-c', `write -P ${turn + 1} ${start} 1M`, file]);
      model.fill(turn + 1, start, start + MiB);
      writing(file, (node) => guestAtWork(node, model, { random, layer: turn + 9, steps: 12, longest: MiB }));
      expect(difference(contentAt(file), model)).toBe(null);
    }
    const raw = path.join(folder, 'turns.raw');
    fs.writeFileSync(raw, model);
    expect(mustRun('qemu-img', ['check', '-f', 'vdi', file])).toContain('No errors were found');
    expect(mustRun('qemu-img', ['compare', '-f', 'vdi', '-F', 'raw', file, raw])).toContain('Images are identical');
  });

  it('keep their holes, and places in one piece for what is written in one piece', () => {
    const file = path.join(folder, 'sparse.vdi');
    createImage(vdi, file, { size: 64 * MiB });
    writing(file, (node) => writeGuest(node, positionCoded(5 * MiB, 4096, 1), 5 * MiB));
    expect(fs.statSync(file).blocks * 512).toBeLessThan(256 * KiB);
    writing(file, (node) => {
      expect(node.reserve({ start: 20 * MiB, length: 30 * MiB }).covers).toEqual({ start: 20 * MiB, length: 30 * MiB });
    });
  });

  it('with damage are found out as qemu-img finds them', () => {
    const file = path.join(folder, 'damaged.vdi');
    const damage = (change: (map: DataView, header: Uint8Array) => void): string[] => {
      mustRun('qemu-img', ['create', '-q', '-f', 'vdi', file, '8M']);
      mustRun('qemu-io', ['-f', 'vdi', '-c', 'write 0 3M', file]);
      const bytes = Uint8Array.from(fs.readFileSync(file));
      change(new DataView(bytes.buffer, 512), bytes.subarray(preHeader.size));
      fs.writeFileSync(file, bytes);
      const theirs = runQemuImg(['check', '-f', 'vdi', file]);
      expect(theirs.status).toBe(2);
      const found = checkAt(vdi, file).findings;
      expect(found.length).toBeGreaterThan(0);
      return found.map(({ text }) => text);
    };
    expect(damage((map) => map.setUint32(4, 100, true))).toContain('ERROR: block index 1 too large, is 100');
    expect(damage((map) => map.setUint32(4, 0, true))).toContain('ERROR: block index 1 also used by 0');
    const count = damage((_, header) => header1.patch(header, { blocks_allocated: 7 }));
    expect(count).toContain('ERROR: allocated blocks mismatch, is 3, should be 7');
    expect(runQemuImg(['check', '-f', 'vdi', file]).stderr).toContain(count[0] ?? 'a line');
  });
});

describe('resizing', () => {
  const folder = scratchFolder('vdi-resize');

  for (const [name, options] of kinds) {
    it(`(${name}) keeps the content, and what comes to light is zero`, () => {
      const file = path.join(folder, 'r.vdi');
      createImage(vdi, file, { size: 6 * MiB, options });
      let model: Uint8Array = new Uint8Array(6 * MiB);
      const random = new SeededRandom(8);
      for (const size of [8 * MiB, 300 * MiB, 5 * MiB + 512, 5 * MiB + 9 * 512, 200 * MiB, 3 * MiB]) {
        writing(file, (node) => {
          guestAtWork(node, model, { random, layer: 1, steps: 6, longest: 2 * MiB });
          const last = positionCoded(node.size - 512, 512, 2);
          writeGuest(node, last, node.size - 512);
          model.set(last, node.size - 512);
          node.resize(size);
          expect(node.size).toBe(size);
          const next = new Uint8Array(node.size);
          next.set(model.subarray(0, Math.min(model.length, next.length)));
          model = next;
        });
        expect(difference(contentAt(file), model)).toBe(null);
        expect(checkAt(vdi, file).findings).toEqual([]);
        withImage(file, {}, (node) => regionsOf(vdi, node));
      }
    });
  }

  it('moves the block map when there is no room behind it', () => {
    const storage = new MemoryStorage();
    createIn(vdi, storage, 'm.vdi', { size: 3 * MiB });
    const gate = { openImage: neverOpened, openFile: neverOpened };
    const node = vdi.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
    if (!isWritable(node)) throw new Error('not writable');
    const bytes = positionCoded(0, 3 * MiB, 3);
    writeGuest(node, bytes, 0);
    node.resize(3000 * MiB);
    const end = positionCoded(node.size - 4096, 4096, 3);
    writeGuest(node, end, node.size - 4096);
    node.flush();
    const header = header1.parse(storage.bytes().subarray(preHeader.size));
    expect(header).toMatchObject({
      offset_blocks: 1024,
      offset_data: 1024 + MiB,
      blocks_in_image: 3000,
      blocks_allocated: 4,
    });
    const found = new Uint8Array(3 * MiB);
    readGuest(node, found, 0);
    expect(difference(found, bytes)).toBe(null);
    expect(checkOf(vdi, node).findings).toEqual([]);
  });
});

function neverOpened(): never {
  throw new Error('nothing is to be opened');
}

describeWith({ peers: ['qemu-img'] }, 'a resized VDI', () => {
  const folder = scratchFolder('vdi-resized');

  it('is the same for qemu-img', () => {
    const file = path.join(folder, 'q.vdi');
    const raw = path.join(folder, 'q.raw');
    for (const [, options] of kinds) {
      createImage(vdi, file, { size: 6 * MiB, options });
      writing(file, (node) => {
        writeGuest(node, positionCoded(0, 6 * MiB, 1), 0);
        node.resize(300 * MiB);
        writeGuest(node, positionCoded(280 * MiB, MiB, 1), 280 * MiB);
        node.resize(281 * MiB);
      });
      const descriptor = fs.openSync(raw, 'w');
      fs.writeSync(descriptor, positionCoded(0, 6 * MiB, 1), 0, 6 * MiB, 0);
      fs.writeSync(descriptor, positionCoded(280 * MiB, MiB, 1), 0, MiB, 280 * MiB);
      fs.closeSync(descriptor);
      expect(mustRun('qemu-img', ['check', '-f', 'vdi', file])).toContain('No errors were found');
      const verdict = mustRun('qemu-img', ['compare', '-f', 'vdi', '-F', 'raw', file, raw]);
      expect(verdict).toBe('Images are identical.\n');
    }
  });
});

describe('measure', () => {
  const folder = scratchFolder('vdi-measure');

  it('says how long the file of a copy gets', () => {
    const file = path.join(folder, 'm.vdi');
    const runs = [
      { start: 0, length: 100 },
      { start: MiB - 50, length: 100 },
      { start: 3 * MiB, length: 512 },
      { start: 9 * MiB, length: 4 * MiB },
    ];
    for (const [, options] of kinds) {
      createImage(vdi, file, { size: 30 * MiB, options });
      writing(file, (node) => {
        for (const { start, length } of runs) writeGuest(node, positionCoded(start, length, 1), start);
      });
      const measured = vdi.measure?.({ size: 30 * MiB, options, backing: null, data: () => runs });
      expect(measured?.required).toBe(fs.statSync(file).size);
      writing(file, (node) => writeGuest(node, new Uint8Array(node.size).fill(1), 0));
      expect(measured?.fullyAllocated).toBe(fs.statSync(file).size);
    }
  });
});

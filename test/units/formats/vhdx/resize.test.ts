// The virtual size changed in place: what was there stays, what is new is zero, and the BAT moves when it must be longer.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type WritableNode } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { GiB, MiB, TiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { StepCounter } from '../../../faults/failing-storage.ts';
import { PowerCut, PowerCutStorage } from '../../../faults/power-cut.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { SeededRandom } from '../../../seeded-random.ts';
import { checkAt, checkOf, contentAt, createImage, createIn, regionsOf, withImage, writing } from '../new-image.ts';
import { noGate, openBytes } from './crafted.ts';

describeWith({ peers: ['qemu-img'] }, 'a VHDX resized', () => {
  const folder = scratchFolder('vhdx-resize');
  const file = path.join(folder, 'x.vhdx');
  const raw = path.join(folder, 'x.raw');

  function verdict(model: Uint8Array): void {
    expect(difference(contentAt(file), model)).toBeNull();
    fs.writeFileSync(raw, model);
    expect(runQemuImg(['compare', '-f', 'raw', '-F', 'vhdx', raw, file]).stdout).toContain('Images are identical');
    expect(runQemuImg(['check', '-f', 'vhdx', file]).status).toBe(0);
    expect(checkAt(vhdx, file).findings).toEqual([]);
    withImage(file, {}, (node) => regionsOf(vhdx, node));
  }

  const kinds: Readonly<Record<string, OptionValue>>[] = [
    { block_size: MiB },
    { block_size: 4 * MiB, block_state_zero: false },
    { block_size: 4 * MiB, subformat: 'fixed' },
  ];
  for (const options of kinds) {
    it(`with ${JSON.stringify(options)} grows and shrinks`, () => {
      const sizes = [5 * MiB + 512, 5 * MiB + 1024, 17 * MiB, 16 * MiB + 512, 6 * MiB - 512, 6 * MiB, 31 * MiB + 1536];
      createImage(vhdx, file, { size: sizes[0] ?? 0, options });
      let model = new Uint8Array(sizes[0] ?? 0);
      sizes.slice(1).forEach((size, index) => {
        const bytes = positionCoded(0, model.length, index + 1);
        writing(file, (node) => {
          writeGuest(node, bytes.subarray(model.length >> 1), model.length >> 1);
          node.resize(size);
          expect(node.size).toBe(size);
        });
        const next = new Uint8Array(size);
        model.set(bytes.subarray(model.length >> 1), model.length >> 1);
        next.set(model.subarray(0, size));
        model = next;
        verdict(model);
      });
      if (options.subformat === 'fixed') {
        const { size } = fs.statSync(file);
        writing(file, (node) => writeGuest(node, positionCoded(0, model.length, 9), 0));
        expect(fs.statSync(file).size).toBe(size);
      }
    });
  }

  for (const options of [
    'subformat=fixed,block_size=8M',
    'subformat=fixed,block_state_zero=off,block_size=8M',
    'block_size=1M',
  ]) {
    it(`grows when qemu-img made it with ${options}`, () => {
      mustRun('qemu-img', ['create', '-q', '-f', 'vhdx', '-o', options, file, '20M']);
      const model = new Uint8Array(45 * MiB);
      writing(file, (node) => {
        writeGuest(node, positionCoded(MiB, 19 * MiB, 1), MiB);
        node.resize(45 * MiB);
        writeGuest(node, positionCoded(30 * MiB, MiB, 2), 30 * MiB);
      });
      model.set(positionCoded(MiB, 19 * MiB, 1), MiB);
      model.set(positionCoded(30 * MiB, MiB, 2), 30 * MiB);
      verdict(model);
    });
  }

  it('gets a longer BAT behind its blocks', () => {
    createImage(vhdx, file, { size: 8 * MiB, options: { block_size: MiB } });
    writing(file, (node) => {
      writeGuest(node, positionCoded(0, 3 * MiB, 1), 0);
      // 1 MiB of BAT holds 128 GiB of blocks of 1 MiB.
      node.resize(300 * GiB);
      writeGuest(node, positionCoded(299 * GiB, 5000, 1), 299 * GiB);
    });
    withImage(file, {}, (node) => {
      expect(node.size).toBe(300 * GiB);
      const found = regionsOf(vhdx, node).filter(({ label }) => label === 'BAT region');
      expect(found.map(({ length }) => length)).toEqual([3 * MiB]);
      expect(found[0]?.start).toBeGreaterThan(4 * MiB);
    });
    expect(checkAt(vhdx, file).findings).toEqual([]);
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as Record<string, unknown>;
    expect(info['virtual-size']).toBe(300 * GiB);
    mustRun('qemu-img', [
      'dd',
      '-f',
      'vhdx',
      '-O',
      'raw',
      'bs=512',
      `skip=${(299 * GiB) / 512}`,
      `count=${299 * 2 ** 21 + 10}`,
      `if=${file}`,
      `of=${raw}`,
    ]);
    expect(
      difference(Uint8Array.from(fs.readFileSync(raw)).subarray(0, 5000), positionCoded(299 * GiB, 5000, 1), 299 * GiB),
    ).toBeNull();
    writing(file, (node) => node.resize(3 * MiB));
    verdict(positionCoded(0, 3 * MiB, 1));
  });

  it('stops at 64 TiB', () => {
    createImage(vhdx, file, { size: 8 * MiB });
    writing(file, (node) => {
      expect(() => node.resize(64 * TiB + 512)).toThrow('Image size too large; max of 64TB');
      node.resize(64 * TiB);
      expect(node.size).toBe(64 * TiB);
    });
    expect(runQemuImg(['check', '-f', 'vhdx', file]).status).toBe(0);
  });
});

describe('a differencing VHDX resized', () => {
  const folder = scratchFolder('vhdx-resize-child');
  const at = (name: string): string => path.join(folder, name);

  for (const base of [12 * MiB, 30 * MiB]) {
    it(`over a parent of ${base / MiB} MiB shows nothing of it that it did not show before`, () => {
      createImage(vhdx, at('base.vhdx'), { size: base, options: { block_size: MiB } });
      const below = positionCoded(0, base, 1);
      writing(at('base.vhdx'), (node) => writeGuest(node, below, 0));
      createImage(vhdx, at('child.vhdx'), { size: 12 * MiB + 512, options: { block_size: MiB }, backing: 'base.vhdx' });
      let model = new Uint8Array(12 * MiB + 512);
      model.set(below.subarray(0, model.length));
      const resize = (size: number): void => {
        writing(at('child.vhdx'), (node) => node.resize(size));
        const next = new Uint8Array(size);
        next.set(model.subarray(0, size));
        model = next;
        expect(difference(contentAt(at('child.vhdx')), model)).toBeNull();
        expect(checkAt(vhdx, at('child.vhdx')).findings).toEqual([]);
      };
      resize(20 * MiB);
      const bytes = positionCoded(9 * MiB + 100, 7 * MiB, 2);
      writing(at('child.vhdx'), (node) => writeGuest(node, bytes, 9 * MiB + 100));
      model.set(bytes, 9 * MiB + 100);
      resize(10 * MiB + 512);
      resize(10 * MiB + 1024);
      resize(25 * MiB);
    });
  }
});

describe('a power cut while a VHDX is resized', () => {
  /** A disk of `size` bytes whose first and last MiB are written. */
  function prepared(size: number): Uint8Array {
    const storage = new MemoryStorage(new Uint8Array(0), 'crafted.vhdx');
    createIn(vhdx, storage, 'crafted.vhdx', { size, options: { block_size: MiB, block_state_zero: false } });
    const node = open(storage);
    writeGuest(node, positionCoded(0, MiB, 1), 0);
    writeGuest(node, positionCoded(size - 1000, 1000, 1), size - 1000);
    node.flush();
    node.close();
    return storage.bytes();
  }

  function open(storage: Storage): WritableNode {
    const node = vhdx.open(storage, {
      writable: true,
      gate: noGate,
      withBacking: true,
      runtime: {},
      forRepair: false,
    });
    if (!isWritable(node)) throw new Error('not writable');
    return node;
  }

  // The first fits into a BAT of 1 MiB, the second does not: the BAT moves.
  for (const [before, after] of [
    [5 * MiB + 512, 9 * MiB],
    [9 * MiB, 5 * MiB + 512],
    [126_900 * MiB, 132_000 * MiB],
  ] as const) {
    it(`from ${before} to ${after} bytes leaves one of the two`, () => {
      const image = prepared(before);
      for (let n = 1; ; n++) {
        const counter = new StepCounter(n);
        const storage = new PowerCutStorage(image, counter, 'crafted.vhdx');
        try {
          const node = open(storage);
          node.resize(after);
          node.close();
        } catch (error) {
          if (!(error instanceof PowerCut)) throw error;
        }
        const left = openBytes(storage.afterCut(new SeededRandom(n)));
        const title = `cut at step ${n} (${counter.kinds[n - 1]})`;
        expect([before, after], title).toContain(left.size);
        const tail = new Uint8Array(Math.min(left.size, before) - Math.min(left.size, before - 1000));
        readGuest(left, tail, Math.min(left.size, before) - tail.length);
        const start = Math.min(left.size, before) - tail.length;
        expect(difference(tail, positionCoded(start, tail.length, 1), start), title).toBeNull();
        const head = new Uint8Array(MiB);
        readGuest(left, head, 0);
        expect(difference(head, positionCoded(0, MiB, 1)), title).toBeNull();
        if (left.size > before) {
          const grown = new Uint8Array(Math.min(MiB, left.size - before));
          readGuest(left, grown, before);
          expect(
            grown.every((byte) => byte === 0),
            title,
          ).toBe(true);
        }
        const corrupt = checkOf(vhdx, left).findings.filter(({ code }) => !mended.includes(code));
        expect(corrupt, title).toEqual([]);
        if (!counter.struck) {
          expect(left.size).toBe(after);
          return;
        }
      }
    });
  }
});

/** What the next writer puts right by itself. */
const mended = ['vhdx/check-log-pending', 'vhdx/check-header'];

// Guests that write, zero and discard in images of every kind and maker: the verdict is qemu-img's, the content a plain buffer's.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { isWritable } from '../../../../core/block/node.ts';
import { resolve } from '../../../../core/block/read.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { describeWith, itWith, mustRun, runQemuImg, sharedFolder } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkAt, contentAt, createImage, regionsOf, withImage, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'guests in VHDX disks', () => {
  const folder = scratchFolder('vhdx-write');
  const seed = chosenSeed('vhdx guests');

  function work(file: string, steps: number, longest: number, twice = true): void {
    const model = contentAt(file);
    for (let round = 0; round < (twice ? 2 : 1); round++) {
      const random = new SeededRandom(seed + round);
      writing(file, (node) => guestAtWork(node, model, { random, layer: round + 1, steps, longest }));
      expect(difference(contentAt(file), model)).toBeNull();
    }
    const raw = path.join(folder, 'model.raw');
    fs.writeFileSync(raw, model);
    expect(runQemuImg(['compare', '-f', 'raw', '-F', 'vhdx', raw, file]).stdout).toContain('Images are identical');
    expect(runQemuImg(['check', '-f', 'vhdx', file]).stdout).toContain('No errors');
    expect(checkAt(vhdx, file).findings).toEqual([]);
    withImage(file, {}, (node) => regionsOf(vhdx, node));
  }

  const kinds: Readonly<Record<string, OptionValue>>[] = [
    { block_size: MiB },
    { block_size: 2 * MiB, block_state_zero: false },
    { block_size: 8 * MiB },
    { subformat: 'fixed', block_size: MiB },
    { log_size: 3 * MiB, block_size: MiB },
  ];
  for (const options of kinds) {
    it(`that we made with ${JSON.stringify(options)}`, () => {
      const file = path.join(folder, 'ours.vhdx');
      createImage(vhdx, file, { size: 20 * MiB + 1536, options });
      work(file, 200, 3 * MiB);
    });
  }

  for (const options of [
    'block_size=1M',
    'block_size=4M,block_state_zero=off',
    'subformat=fixed,block_size=8M',
    'subformat=fixed,block_state_zero=off,block_size=8M',
  ]) {
    it(`that qemu-img made with ${options}`, () => {
      const file = path.join(folder, 'theirs.vhdx');
      mustRun('qemu-img', ['create', '-q', '-f', 'vhdx', '-o', options, file, '20M']);
      mustRun('qemu-io', ['-f', 'vhdx', '-c', 'write -q -P 7 3M 2M', '-c', 'write -q -P 8 12M 100k', file]);
      work(file, 150, 3 * MiB);
    });
  }

  itWith({ shared: true }, 'that Windows made', () => {
    const file = path.join(folder, 'windows.vhdx');
    const packed = path.join(sharedFolder() ?? '', 'images', 'vhdx-win10-fixed-10M', 'fixed.vhdx.gz');
    fs.writeFileSync(file, zlib.gunzipSync(fs.readFileSync(packed)));
    work(file, 150, 2 * MiB);
  });

  it('takes turns with qemu-io', () => {
    const file = path.join(folder, 'turns.vhdx');
    createImage(vhdx, file, { size: 64 * MiB, options: { block_size: MiB } });
    const model = new Uint8Array(64 * MiB);
    const random = new SeededRandom(seed);
    for (let turn = 0; turn < 12; turn++) {
      const start = random.below(63 * MiB);
      const length = 1 + random.below(MiB);
      if (turn % 2 === 0) {
        writing(file, (node) => writeGuest(node, positionCoded(start, length, turn), start));
        model.set(positionCoded(start, length, turn), start);
      } else {
        const sector = start - (start % 512);
        mustRun('qemu-io', ['-f', 'vhdx', '-c', `write -q -P ${turn} ${sector} 256k`, file]);
        model.fill(turn, sector, sector + 256 * KiB);
      }
    }
    expect(difference(contentAt(file), model)).toBeNull();
    expect(checkAt(vhdx, file).findings).toEqual([]);
  });
});

describe('a VHDX open for writing', () => {
  const folder = scratchFolder('vhdx-open');
  const file = path.join(folder, 'x.vhdx');

  it('hands out many blocks at once, in one piece', () => {
    createImage(vhdx, file, { size: 64 * MiB, options: { block_size: MiB } });
    writing(file, (node) => {
      const place = node.reserve({ start: 0, length: 48 * MiB });
      expect(place).toMatchObject({ fresh: true, covers: { start: 0, length: 48 * MiB } });
      // A second place in the same blocks, before the first is published, is the same room.
      const second = node.reserve({ start: 5 * MiB + 100, length: 200 });
      expect(second.offset).toBe(place.offset + 5 * MiB + 100);
      place.storage.writeAt(positionCoded(0, 48 * MiB, 1), place.offset);
      place.publish();
      second.publish();
    });
    const model = new Uint8Array(64 * MiB);
    model.set(positionCoded(0, 48 * MiB, 1), 0);
    expect(difference(contentAt(file), model)).toBeNull();
  });

  it('shows no guest what is not published', () => {
    createImage(vhdx, file, { size: 8 * MiB, options: { block_size: MiB } });
    writing(file, (node) => {
      const place = node.reserve({ start: 0, length: MiB });
      place.storage.writeAt(positionCoded(0, MiB, 1), place.offset);
      expect(node.map({ start: 0, length: MiB }).kind).toBe('zero');
    });
    expect(contentAt(file).every((byte) => byte === 0)).toBe(true);
  });

  it('tells holes from data, which qemu-img does not', () => {
    createImage(vhdx, file, { size: 8 * MiB, options: { block_size: MiB } });
    writing(file, (node) => {
      writeGuest(node, positionCoded(2 * MiB, 100, 1), 2 * MiB);
      writeGuest(node, positionCoded(3 * MiB, 100, 1), 3 * MiB);
      writeGuest(node, positionCoded(6 * MiB, 100, 1), 6 * MiB);
    });
    withImage(file, {}, (node) => {
      const runs = [...resolve(node)].map(({ start, length, mapping }) => [start / MiB, length / MiB, mapping.kind]);
      expect(runs).toEqual([
        [0, 2, 'zero'],
        [2, 2, 'data'],
        [4, 2, 'zero'],
        [6, 1, 'data'],
        [7, 1, 'zero'],
      ]);
    });
  });

  it('changes DataWriteGuid once per opening that writes, and not for one that only looks', () => {
    createImage(vhdx, file, { size: 8 * MiB });
    const guid = (): unknown => withImage(file, {}, (node) => vhdx.facts(node).further?.['data-write-guid']);
    const first = guid();
    writing(file, () => {});
    expect(guid()).toBe(first);
    writing(file, (node) => {
      writeGuest(node, positionCoded(0, 512, 1), 0);
      node.flush();
      writeGuest(node, positionCoded(512, 512, 1), 512);
    });
    const second = guid();
    expect(second).not.toBe(first);
    writing(file, (node) => writeGuest(node, positionCoded(0, 512, 2), 0));
    expect(guid()).not.toBe(second);
  });

  it('keeps an identity that was asked for through the first filling only', () => {
    const asked = 'aaaaaaaa-2222-4333-8444-555555555555';
    createImage(vhdx, file, { size: 8 * MiB, options: { data_write_guid: asked } });
    const guid = (): unknown => withImage(file, {}, (node) => vhdx.facts(node).further?.['data-write-guid']);
    const { node } = openImage(file, { writable: true });
    if (!isWritable(node)) throw new Error('not writable');
    writeGuest(node, positionCoded(0, 5 * MiB, 1), 0);
    node.writeBack();
    node.close();
    expect(guid()).toBe(asked);
    expect(difference(contentAt(file).subarray(0, 5 * MiB), positionCoded(0, 5 * MiB, 1))).toBeNull();
    const again = openImage(file, { writable: true }).node;
    if (!isWritable(again)) throw new Error('not writable');
    writeGuest(again, positionCoded(0, 512, 1), 0);
    again.writeBack();
    again.close();
    expect(guid()).not.toBe(asked);
  });

  it('reads and writes sectors of 4096 bytes at any byte', () => {
    createImage(vhdx, file, { size: 16 * MiB + 4096, options: { logical_sector_size: 4096, block_size: MiB } });
    const model = new Uint8Array(16 * MiB + 4096);
    const random = new SeededRandom(chosenSeed('vhdx 4096'));
    writing(file, (node) => guestAtWork(node, model, { random, layer: 1, steps: 100, longest: MiB }));
    expect(difference(contentAt(file), model)).toBeNull();
    expect(checkAt(vhdx, file).findings).toEqual([]);
  });

  it('uses the room of discarded blocks again', () => {
    createImage(vhdx, file, { size: 32 * MiB, options: { block_size: MiB } });
    writing(file, (node) => writeGuest(node, positionCoded(0, 16 * MiB, 1), 0));
    const { size } = fs.statSync(file);
    writing(file, (node) => {
      for (let block = 0; block < 16; block++) node.release({ start: block * MiB, length: MiB });
      // Not before the disk knows of it.
      writeGuest(node, positionCoded(16 * MiB, MiB, 2), 16 * MiB);
      node.flush();
      for (let block = 17; block < 30; block++) writeGuest(node, positionCoded(block * MiB, 700, 2), block * MiB);
    });
    expect(fs.statSync(file).size).toBe(size + MiB);
    const model = new Uint8Array(32 * MiB);
    model.set(positionCoded(16 * MiB, MiB, 2), 16 * MiB);
    for (let block = 17; block < 30; block++) model.set(positionCoded(block * MiB, 700, 2), block * MiB);
    expect(difference(contentAt(file), model)).toBeNull();
  });
});

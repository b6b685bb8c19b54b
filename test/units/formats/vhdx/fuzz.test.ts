// Mutants of what no other program makes here: a differencing disk with partially present blocks, and a disk with a log to replay.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type BlockNode } from '../../../../core/block/node.ts';
import { readGuest, resolve } from '../../../../core/block/read.ts';
import { MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate } from '../../../../core/formats/driver.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { fieldsIn, Mutator } from '../../../fuzz/mutate.ts';
import { reseal } from '../../../fuzz/reseal.ts';
import { positionCoded } from '../../../position-coded.ts';
import { batOffset, batSector, openStorage, putLog, smallImage } from './crafted.ts';

const mutants = Number(process.env.FUZZ_MUTANTS ?? 500);
const cpuLimit = 2_000_000; // microseconds
/** More than a mutant may make the file grow by. */
const fileLimit = 128 * MiB;

class SmallDisk extends MemoryStorage {
  override truncate(size: number): void {
    if (size > fileLimit) throw new RangeError('the mutant grows without bounds');
    super.truncate(size);
  }
}

const parent = smallImage();
const gate: OpenGate = {
  openImage: () => openStorage(new MemoryStorage(parent, 'parent.vhdx'), false),
  openFile: () => {
    throw new Error('no file is expected');
  },
};

function open(bytes: Uint8Array, writable: boolean): BlockNode {
  const request = { writable, gate, withBacking: true, runtime: {}, forRepair: false };
  return vhdx.open(new SmallDisk(bytes, 'mutant.vhdx'), request);
}

function differencing(): Uint8Array {
  const storage = new MemoryStorage();
  vhdx.create?.({
    storage,
    name: 'mutant.vhdx',
    size: 8 * MiB,
    options: { block_size: MiB },
    backing: { path: 'parent.vhdx', format: 'vhdx' },
    openBacking: () => openStorage(new MemoryStorage(parent, 'parent.vhdx'), false),
    createFile: () => {
      throw new Error('no file is expected');
    },
    job: silentJob,
  });
  const node = open(storage.bytes(), true);
  if (!isWritable(node)) throw new Error('not writable');
  writeGuest(node, positionCoded(5000, 3000, 2), 5000);
  writeGuest(node, positionCoded(3 * MiB, MiB, 2), 3 * MiB);
  writeGuest(node, positionCoded(7 * MiB + 70_000, 600, 2), 7 * MiB + 70_000);
  node.zero({ start: 2 * MiB, length: MiB });
  node.flush();
  const file = node.files[0]?.storage;
  node.close();
  if (!(file instanceof MemoryStorage)) throw new Error('no file');
  return file.bytes();
}

function withLog(): Uint8Array {
  const image = smallImage();
  const bytes = batSector(image, { 0: [6, 5 * MiB], 2: [6, 4 * MiB] });
  putLog(image, [
    { at: 0, sequence: 4n, tail: 0, changes: [{ kind: 'zero', offset: 4 * MiB, length: 64 * 1024 }] },
    { at: 4096, sequence: 5n, tail: 0, changes: [{ kind: 'data', offset: batOffset, bytes }] },
  ]);
  return image;
}

function answer(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!isImageError(error)) throw error;
  }
}

function exercise(bytes: Uint8Array, writing: boolean): void {
  answer(() => {
    const node = open(bytes, false);
    answer(() => vhdx.facts(node));
    answer(() => {
      for (const run of resolve(node)) readGuest(node, new Uint8Array(Math.min(run.length, 4096)), run.start);
    });
    answer(() => {
      for (const region of vhdx.regions(node)) region.annotate({ start: region.start, length: region.length });
    });
    answer(() => {
      const findings = vhdx.check?.(node, silentJob);
      while (findings?.next().done === false);
    });
    node.close();
  });
  if (!writing) return;
  answer(() => {
    const node = open(bytes, true);
    if (!isWritable(node)) throw new Error('not writable');
    for (const start of [1000, 3 * MiB + 7, 6 * MiB - 100]) {
      if (start + 200 <= node.size) answer(() => writeGuest(node, new Uint8Array(200), start));
    }
    answer(() => node.zero({ start: 0, length: Math.min(node.size, MiB) }));
    if (node.size < 1024 * MiB) answer(() => node.resize(node.size + 3 * MiB));
    if (node.size < 1024 * MiB) answer(() => node.setBacking(null));
    answer(() => node.flush());
    answer(() => node.close());
  });
}

describe('mutants', () => {
  for (const [name, image] of Object.entries({ 'a differencing disk': differencing(), 'a log to replay': withLog() })) {
    it(`of ${name} give an answer or an ImageError`, { timeout: 3_600_000 }, async () => {
      const fields = await fieldsIn('vhdx', image);
      expect(fields.length).toBeGreaterThan(40);
      const mutator = new Mutator(`vhdx/${name}`, image, fields);
      let opened = 0;
      for (let index = 0; index < mutants; index++) {
        const { bytes, text } = mutator.mutant(index);
        if (index % 4 !== 3) reseal('vhdx', bytes);
        const before = process.cpuUsage();
        try {
          exercise(bytes, index % 2 === 0);
        } catch (error) {
          throw new Error(`mutant ${index} (${text})`, { cause: error });
        }
        const { user, system } = process.cpuUsage(before);
        expect(user + system, `mutant ${index} (${text}) took long`).toBeLessThan(cpuLimit);
        answer(() => {
          open(bytes, false).close();
          opened++;
        });
      }
      // Otherwise it is the front door only that was tried.
      expect(opened).toBeGreaterThan(mutants / 4);
    });
  }
});

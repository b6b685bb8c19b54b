// bench: what it writes stands where it should, in every number of requests at once; what it cannot do it says.
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import { bench, type BenchParams } from '../../../core/operations/bench.ts';
import { qcow2 } from '../../../core/formats/qcow2/driver.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { contentAt, createImage } from '../formats/new-image.ts';

const folder = scratchFolder('bench');
const KiB = 1024;
const size = 1024 * KiB;

function params(name: string, more: Partial<BenchParams> = {}): BenchParams {
  const file = path.join(folder, name);
  createImage(qcow2, file, { size });
  const numbers = { count: 32, depth: 4, offset: 0, length: 4 * KiB, step: 8 * KiB, pattern: 7, flushInterval: 0 };
  return { path: file, options: {}, write: true, ...numbers, drain: true, ...more };
}

/** Which of the disk's pieces of 4 KiB hold the pattern. */
const written = (file: string): number[] => {
  const bytes = contentAt(file);
  const found: number[] = [];
  for (let at = 0; at < size; at += 4 * KiB) {
    const piece = bytes.subarray(at, at + 4 * KiB);
    expect(piece.every((byte) => byte === piece[0])).toBe(true);
    if (piece[0] === 7) found.push(at / 4 / KiB);
  }
  return found;
};

describeWith({ peers: ['qemu-img'] }, 'bench writes', () => {
  for (const more of [{}, { depth: 1 }, { flushInterval: 8 }, { flushInterval: 8, drain: false }, { depth: 64 }]) {
    it(JSON.stringify(more), async () => {
      const asked = params(`write-${Object.values(more).join('-')}`, more);
      let ready = 0;
      const { seconds } = await bench(asked, silentJob, () => ready++);
      expect(ready).toBe(1);
      expect(seconds).toBeGreaterThan(0);
      expect(written(asked.path)).toEqual(Array.from({ length: 32 }, (_, i) => 2 * i));
      mustRun('qemu-img', ['check', '-q', asked.path]);
    });
  }

  it('goes on at the start behind the end', async () => {
    const asked = params('wraps', { offset: size - 16 * KiB, count: 4 });
    await bench(asked, silentJob);
    expect(written(asked.path)).toEqual([0, 2, 252, 254]);
  });
});

describe('bench', () => {
  it('reads without changing anything', async () => {
    const asked = params('reads', { write: false, count: 500, depth: 16 });
    await bench(asked, silentJob);
    expect(written(asked.path)).toEqual([]);
  });

  it('says what cannot be', async () => {
    const outside = params('outside', { write: false, offset: size });
    await expect(bench(outside, silentJob)).rejects.toMatchObject({ code: 'bench/request' });
    const huge = params('huge', { length: 0x7fff_ffff, depth: 0x7fff_ffff, count: 0x7fff_ffff });
    await expect(bench(huge, silentJob)).rejects.toMatchObject({ code: 'bench/memory' });
  });
});

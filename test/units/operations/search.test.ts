// Search in both directions against a walk over every byte of a plain buffer, and both, with comparison, over disks of a TiB.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BlockNode } from '../../../core/block/node.ts';
import type { Storage } from '../../../core/block/storage.ts';
import { openImage } from '../../../core/formats/open.ts';
import { readPattern, type Match, type PatternText } from '../../../core/operations/find-pattern.ts';
import { sparseDisk, sparseFile, storedBefore, type SparseBytes } from '../../../core/operations/known-zeroes.ts';
import { searchBack, searchOn } from '../../../core/operations/search.ts';
import { compareBack, compareStep } from '../../../core/workbench/images/compare-step.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../seeded-random.ts';

const MiB = 1024 * 1024;
const pattern = (text: string, kind: PatternText['kind'] = 'bytes', ignoreCase = false) =>
  readPattern({ kind, text, ignoreCase });

/** Bytes in memory that say of each `unit` whether it is zero, as the tables of a format do; `holes` that cannot be read. */
function inMemory(bytes: Buffer, unit: number, broken: readonly number[] = []): SparseBytes {
  const zero = Array.from({ length: Math.ceil(bytes.length / unit) }, (_, index) =>
    bytes.subarray(index * unit, index * unit + unit).equals(Buffer.alloc(Math.min(unit, bytes.length - index * unit))),
  );
  return {
    size: bytes.length,
    read(into, start) {
      const lost: { start: number; length: number }[] = [];
      bytes.copy(into, 0, start, start + into.length);
      for (const one of broken) {
        const [from, to] = [Math.max(one, start), Math.min(one + unit, start + into.length)];
        if (to > from) lost.push({ start: from, length: to - from });
      }
      for (const one of lost) into.fill(0, one.start - start, one.start - start + one.length);
      return lost;
    },
    extent(at, end) {
      const next = Math.min(end, at - (at % unit) + unit);
      const kind = broken.includes(at - (at % unit)) ? 'lost' : zero[Math.floor(at / unit)] === true ? 'zero' : 'data';
      return { kind, length: next - at };
    },
  };
}

/** All places from the first to the last, not overlapping, tried byte by byte. */
function everyPlace(bytes: Buffer, fits: (at: number) => number): Match[] {
  const found: Match[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const length = fits(at);
    if (length === 0) continue;
    found.push({ start: at, length });
    at += length - 1;
  }
  return found;
}

function allOf(search: typeof searchOn, bytes: SparseBytes, text: string, from: number, limit = 3): Match[] {
  const found: Match[] = [];
  for (let at: number | null = from; at !== null;) {
    const step = search(bytes, pattern(text), at, limit, performance.now() + 5);
    found.push(...step.matches);
    at = step.next;
  }
  return found;
}

describe('patterns', () => {
  const fits = (asked: PatternText, bytes: readonly number[]): boolean => {
    const found = readPattern(asked).within(Buffer.from(bytes)).first(0);
    return found !== null && found.start === 0 && found.length === bytes.length;
  };
  it('are read as people write them', () => {
    const hex = (text: string): PatternText => ({ kind: 'bytes', text, ignoreCase: false });
    for (const text of ['4D 5A', '4d5a', '0x4D, 0x5A', '4D-5A']) expect(fits(hex(text), [0x4d, 0x5a])).toBe(true);
    expect(fits(hex('4D 5? ?0'), [0x4d, 0x5f, 0xa0])).toBe(true);
    expect(fits(hex('4D 5? ?0'), [0x4d, 0x6f, 0xa0])).toBe(false);
    expect(fits(hex('4D ?? 50'), [0x4d, 0x0a, 0x50])).toBe(true);
    const text = (kind: PatternText['kind'], ignoreCase: boolean): PatternText => ({ kind, text: 'äB', ignoreCase });
    expect(fits(text('utf-8', true), [0xc3, 0x84, 0x62])).toBe(true);
    expect(fits(text('utf-8', false), [0xc3, 0x84, 0x62])).toBe(false);
    expect(fits(text('utf-16', true), [0xc4, 0, 0x62, 0])).toBe(true);
    expect(fits(text('utf-16be', false), [0, 0xe4, 0, 0x42])).toBe(true);
    const id = '01020304-0506-0708-090a-0b0c0d0e0f10';
    const order = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    expect(fits({ kind: 'uuid', text: id, ignoreCase: false }, order)).toBe(true);
    const mixed = [4, 3, 2, 1, 6, 5, 8, 7, ...order.slice(8)];
    expect(fits({ kind: 'guid', text: `{${id}}`, ignoreCase: false }, mixed)).toBe(true);
    for (const wrong of ['4', '4g', '?? ??', '4D 5']) expect(() => pattern(wrong), wrong).toThrow(/is not/);
    expect(() => pattern('00'.repeat(1025))).toThrow(/1 to 1024/);
    expect(() => pattern(' ')).toThrow(/1 to 1024/);
  });
});

describe('search', () => {
  const seed = chosenSeed('search');
  it(`finds what is there, in both directions (seed ${seed})`, () => {
    const random = new SeededRandom(seed);
    const bytes = Buffer.alloc(MiB + 300_077);
    // Few values, so that there is much to find; at the joints of the pieces that are read too.
    for (const start of [0, MiB - 3000, MiB + 250_000]) {
      for (let at = start; at < start + 9000 && at < bytes.length; at++) bytes[at] = random.below(3) + 0x40;
    }
    bytes[MiB - 3000] = 0x42;
    bytes[8999] = 0x42;
    const disk = inMemory(bytes, 4096);
    const cases: readonly (readonly [string, (at: number) => number])[] = [
      ['40 41 42', (at) => (bytes[at] === 0x40 && bytes[at + 1] === 0x41 && bytes[at + 2] === 0x42 ? 3 : 0)],
      ['41 ?? 4?', (at) => (bytes[at] === 0x41 && ((bytes[at + 2] ?? 0) & 0xf0) === 0x40 ? 3 : 0)],
      ['00 00 42', (at) => (bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 0x42 ? 3 : 0)],
      ['?2 00 00', (at) => (((bytes[at] ?? 0) & 15) === 2 && bytes[at + 1] === 0 && bytes[at + 2] === 0 ? 3 : 0)],
    ];
    for (const [text, fits] of cases) {
      const expected = everyPlace(bytes, fits);
      expect(expected.length).toBeGreaterThan(0);
      expect(allOf(searchOn, disk, text, 0), text).toEqual(expected);
      // Backwards, overlapping places may be others: the first one is what is compared, from many starts.
      const anywhere: number[] = [];
      for (let at = 0; at < bytes.length; at++) if (fits(at) > 0) anywhere.push(at);
      for (let run = 0; run < 30; run++) {
        const before = run === 0 ? bytes.length : random.below(bytes.length);
        const nearest = anywhere.findLast((at) => at < before);
        const step = searchBack(disk, pattern(text), before, 1, Infinity);
        expect(step.matches[0]?.start, `${text} before ${before}`).toBe(nearest);
      }
    }
  });

  it('passes over what cannot be read, and says how much', () => {
    const bytes = Buffer.alloc(MiB, 0x20);
    for (const at of [100, 200_000, 600_000]) bytes.write('needle', at);
    const disk = inMemory(bytes, 65536, [3 * 65536]);
    const on = searchOn(disk, pattern('needle', 'utf-8'), 0, 10, Infinity);
    expect(on).toEqual({
      matches: [
        { start: 100, length: 6 },
        { start: 600_000, length: 6 },
      ],
      next: null,
      unread: 65536,
    });
    const back = searchBack(disk, pattern('needle', 'utf-8'), MiB, 10, Infinity);
    expect(back.matches.map(({ start }) => start)).toEqual([600_000, 100]);
    expect(back.unread).toBe(65536);
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'a TiB that is mostly empty', () => {
  const folder = scratchFolder('search');
  const at = { cwd: folder };
  const TiB = 2 ** 40;
  const place = 700 * 1024 * MiB + 12_345;

  const all = (compare: typeof compareStep, one: BlockNode, two: BlockNode, from: number): Match[] => {
    const found: Match[] = [];
    for (let place: number | null = from; place !== null;) {
      const { differing, next } = compare(one, two, place, 10);
      found.push(...differing);
      place = next;
    }
    return found;
  };

  it.each(['qcow2', 'raw', 'vhdx'])('%s: is searched and compared in a moment, both ways', (format) => {
    const name = `huge.${format}`;
    mustRun('qemu-img', ['create', '-q', '-f', format, name, '1T'], at);
    mustRun('qemu-io', ['-f', format, '-c', `write -P 77 ${place} 4`, '-c', 'write -P 1 1M 64k', name], at);
    const { node } = openImage(path.join(folder, name), { format, share: true });
    mustRun('qemu-img', ['create', '-q', '-f', format, `empty.${format}`, '1T'], at);
    const { node: other } = openImage(path.join(folder, `empty.${format}`), { share: true, format });
    const disk = sparseDisk(node);
    const began = performance.now();
    const needle = pattern('4D 4? 4D 4D');
    expect(searchOn(disk, needle, 0, 1, Infinity).matches).toEqual([{ start: place, length: 4 }]);
    expect(searchBack(disk, needle, TiB, 1, Infinity).matches).toEqual([{ start: place, length: 4 }]);
    expect(searchOn(disk, pattern('4D 4? 4D 4E'), 0, 1, Infinity)).toEqual({ matches: [], next: null, unread: 0 });
    expect(searchBack(disk, pattern('4D 4? 4D 4E'), TiB, 1, Infinity)).toEqual({ matches: [], next: null, unread: 0 });
    const there = [
      { start: MiB, length: 65536 },
      { start: place - (place % 512), length: 512 },
    ];
    expect(all(compareStep, node, other, 0)).toEqual(there);
    expect(all(compareBack, node, other, TiB)).toEqual(there.toReversed());
    const took = performance.now() - began;
    console.log(`search: 1 TiB ${format}, four searches and two comparisons in ${took.toFixed(0)} ms`);
    expect(took).toBeLessThan(5000);
    node.close();
    other.close();
  });

  it('a sparse file is passed over by its holes', () => {
    const name = path.join(folder, 'huge.raw');
    const { node } = openImage(name, { format: 'raw', share: true });
    const storage = node.files[0]?.storage as Storage;
    expect(fs.statSync(name).blocks * 512).toBeLessThan(16 * MiB);
    expect(searchBack(sparseFile(storage), pattern('4D 4D 4D 4D'), TiB, 1, Infinity).matches[0]?.start).toBe(place);
    expect(storedBefore(sparseFile(storage), MiB, Infinity)).toEqual({ start: 0, end: 4096 });
    expect(storedBefore(sparseFile(storage), 4 * MiB, Infinity).end).toBe(MiB + 65536);
    node.close();
  });
});

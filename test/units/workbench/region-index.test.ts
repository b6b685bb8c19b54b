// The index of regions: pauses, limits, files with more regions than are kept, a walk that fails on its way.
import { describe, expect, it } from 'vitest';
import { ImageError } from '../../../core/errors/image-error.ts';
import type { Region } from '../../../core/formats/driver.ts';
import { RegionIndex, type RegionWalk } from '../../../core/workbench/map/region-index.ts';

const length = 512;

function region(index: number): Region {
  return { start: index * length, length, label: `piece ${index}`, kind: 'data', annotate: () => [] };
}

/** Regions of 512 bytes, with a pause before every `pause`th. */
function* pieces(count: number, pause = 0): Generator<Region | null, void, void> {
  for (let index = 0; index < count; index++) {
    if (pause > 0 && index % pause === 0) yield null;
    yield region(index);
  }
}

function* failing(count: number): RegionWalk {
  yield* pieces(count);
  throw new ImageError('session/no-file', { role: 'nowhere' });
}

const labels = (regions: readonly Region[] | null): string[] | undefined => regions?.map(({ label }) => label);
/** Asked again and again, as a window does. */
function patiently(index: RegionIndex, start: number, end: number, limit: number): Region[] {
  for (let turn = 0; turn < 100_000; turn++) {
    const found = index.touching(start, end, limit, performance.now() + 5);
    if (found !== null) return found;
  }
  throw new Error('never found');
}

describe('the index of regions', () => {
  it('stops at a pause when the time is over, and goes on later', () => {
    const index = new RegionIndex(() => pieces(10, 1), 10 * length);
    expect(index.touching(9 * length, 10 * length, 5, 0)).toBeNull();
    expect(index.at).toBe(0);
    index.advance(0);
    expect(index.at).toBe(length);
    expect(labels(patiently(index, 9 * length, 10 * length, 5))).toEqual(['piece 9']);
    index.advance(Infinity);
    expect(index.finished).toBe(true);
    expect(index.columns.labelOf(index.columns.find(4 * length + 1))).toBe('piece 4');
  });

  it('does not walk further than it is asked for', () => {
    const index = new RegionIndex(() => pieces(100_000), 100_000 * length);
    expect(labels(index.touching(0, 100_000 * length, 3, Infinity))).toEqual(['piece 0', 'piece 1', 'piece 2']);
    expect(index.at).toBeLessThan(1000 * length);
  });

  it('finds places behind the kept regions, there and back, and never leaves one out', () => {
    const count = 130_000;
    const index = new RegionIndex(() => pieces(count), count * length);
    for (const at of [129_990, 101_000, 120_000, 99_999, 100_000, 5]) {
      const expected = Array.from({ length: 8 }, (_, step) => `piece ${at + step}`);
      expect(labels(patiently(index, at * length, count * length, 8)), String(at)).toEqual(expected);
    }
    // Page after page over the border of what is kept, each beginning where the last one ended.
    let at = 99_000;
    for (let page = 0; page < 20; page++) {
      const found = patiently(index, at * length, count * length, 500);
      expect(labels(found)).toEqual(Array.from({ length: 500 }, (_, step) => `piece ${at + step}`));
      at += found.length;
    }
  });

  it('tells the rest of a file as one region that says why it is not known', () => {
    const index = new RegionIndex(() => failing(3), 10 * length);
    index.advance(Infinity);
    expect(index.fault?.code).toBe('session/no-file');
    const [rest, ...others] = patiently(index, 3 * length, 10 * length, 5);
    expect(others).toEqual([]);
    expect(rest).toMatchObject({ start: 3 * length, length: 7 * length });
    expect(rest?.label).toContain('cannot be told: ');
    expect(index.columns.totals.reduce((sum, bytes) => sum + bytes, 0)).toBe(10 * length);
  });

  it('says so too where the walk fails behind the kept regions', () => {
    const count = 100_500;
    const index = new RegionIndex(() => failing(count), (count + 4) * length);
    const found = patiently(index, (count - 2) * length, (count + 4) * length, 10);
    expect(found.map(({ start }) => start / length)).toEqual([count - 2, count - 1, count]);
    expect(found.at(-1)?.length).toBe(4 * length);
  });
});

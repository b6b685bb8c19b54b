// The limit of a copy: held on average, and not made up for after the copy was paused.
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Pace } from '../../../../core/block/copy/pace.ts';

/** Milliseconds that `count` pieces of 100 ms each take. */
async function take(pace: Pace, count: number): Promise<number> {
  const start = performance.now();
  for (let piece = 0; piece < count; piece++) await pace.wait(1_000_000);
  return performance.now() - start;
}

it('keeps below the limit', async () => {
  // The first piece goes at once.
  expect(await take(new Pace(10_000_000), 6)).toBeGreaterThan(480);
});

it('does not hurry after it was held up', async () => {
  const pace = new Pace(10_000_000);
  await take(pace, 1);
  await pause(1200);
  // At most a quarter of a second is made up for.
  expect(await take(pace, 9)).toBeGreaterThan(500);
});

it('lets go what has no limit', async () => {
  expect(await take(new Pace(0), 1000)).toBeLessThan(500);
});

// commit of every format with differencing: the base gets what the overlay holds, the overlay is empty, and the chain still opens.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { withImage } from '../formats/new-image.ts';
import { silentJob, type Job } from '../../../core/job.ts';
import { commit, type CommitParams } from '../../../core/operations/commit.ts';
import { scratchFolder } from '../../scratch.ts';
import { Chain, chainFormats, KiB, MiB, type Write } from './chains.ts';

const scratch = scratchFolder('commit');
const size = 8 * MiB;

function run(chain: Chain, name: string, more: Partial<CommitParams> = {}, job: Job = silentJob) {
  return commit({ path: chain.at(name), options: {}, base: null, keep: false, rate: 0, ...more }, job);
}

const w = (start: number, length: number, layer: number): Write => ({ start, length, layer });
const baseWrites = [w(0, 3 * MiB, 1), w(4 * MiB, MiB, 1), w(6 * MiB, 512 * KiB, 1)];
const topWrites = [w(100 * KiB, 70 * KiB, 3), w(2 * MiB + 512, 1000, 3), w(6 * MiB, 256 * KiB, 0), w(7 * MiB, MiB, 3)];

for (const row of chainFormats) {
  describe(row.name, () => {
    it('into the base below; the overlay is empty then, and goes on being one', async () => {
      const chain = new Chain(scratch, row, 'plain');
      chain.make('base', size, null, baseWrites);
      chain.make('top', size, 'base', topWrites);
      const full = fs.statSync(chain.at('top')).size;
      const { emptied, copied, zeroed } = await run(chain, 'top');
      expect(emptied).toBe(true);
      expect(copied).toBeGreaterThanOrEqual(MiB + 70 * KiB);
      expect(copied + zeroed).toBeLessThanOrEqual(size);
      expect(chain.wrong('base', chain.model('top'))).toBeNull();
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(chain.own('top')).toBe(0);
      if (row.format !== 'vhdx') expect(fs.statSync(chain.at('top')).size).toBeLessThan(full);
      chain.models.set('base', chain.model('top').slice());
      chain.write('top', [w(MiB, 100 * KiB, 5)]);
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      await run(chain, 'top');
      expect(chain.wrong('base', chain.model('top'))).toBeNull();
    });

    it('-d leaves the overlay as it is', async () => {
      const chain = new Chain(scratch, row, 'keep');
      chain.make('base', size, null, baseWrites);
      chain.make('top', size, 'base', topWrites);
      const before = chain.own('top');
      expect(await run(chain, 'top', { keep: true })).toMatchObject({ emptied: null });
      expect(chain.own('top')).toBe(before);
      expect(chain.wrong('base', chain.model('top'))).toBeNull();
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
    });

    it('-b: past the images in between', async () => {
      const chain = new Chain(scratch, row, 'deeper');
      chain.make('base', size, null, baseWrites);
      chain.make('mid', size, 'base', [w(MiB, 200 * KiB, 4), w(4 * MiB, 256 * KiB, 0), w(5 * MiB, 4 * KiB, 4)]);
      chain.make('top', size, 'mid', topWrites);
      const { base } = await run(chain, 'top', { base: chain.file('base') });
      expect(path.basename(base)).toBe(chain.file('base'));
      expect(chain.wrong('base', chain.model('top'))).toBeNull();
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
    });

    // A differencing VHD has the size of its parent.
    if (row.format !== 'vpc') {
      it('a base that is smaller grows; a larger one keeps its end', async () => {
        const chain = new Chain(scratch, row, 'sizes');
        chain.make('small', 5 * MiB + 512 * KiB, null, [w(0, 5 * MiB + 512 * KiB, 1)]);
        chain.make('top', size, 'small', topWrites);
        await run(chain, 'top');
        expect(chain.wrong('small', chain.model('top'))).toBeNull();
        expect(chain.wrong('top', chain.model('top'))).toBeNull();
        chain.make('large', 10 * MiB, null, [w(0, 10 * MiB, 1)]);
        chain.make('over', size, 'large', topWrites);
        await run(chain, 'over');
        expect(chain.wrong('over', chain.model('over'))).toBeNull();
        const whole = chain.model('large').slice();
        whole.set(chain.model('over'));
        expect(chain.wrong('large', whole)).toBeNull();
      });
    }

    it('a job that is cancelled leaves an image that reads the same', async () => {
      const chain = new Chain(scratch, row, 'cancel');
      chain.make('base', size, null, baseWrites);
      chain.make('top', size, 'base', topWrites);
      for (const n of [1, 2, 4]) {
        let asked = 0;
        const job: Job = {
          progress: () => {},
          throwIfCancelled: () => {
            if (++asked === n) throw new Error('stop');
          },
        };
        await expect(run(chain, 'top', {}, job)).rejects.toThrow('stop');
        expect(chain.wrong('top', chain.model('top'))).toBeNull();
      }
    });
  });
}

describe('what cannot be', () => {
  const row = chainFormats.find(({ format }) => format === 'qcow2');
  if (row === undefined) throw new Error('no qcow2');

  it('no layer below, and a name that is not in the chain', async () => {
    const chain = new Chain(scratch, row, 'refused');
    chain.make('base', size, null, baseWrites);
    chain.make('top', size, 'base', topWrites);
    const bytes = fs.readFileSync(chain.at('base'));
    await expect(run(chain, 'base')).rejects.toMatchObject({ code: 'commit/no-backing' });
    await expect(run(chain, 'top', { base: 'other' })).rejects.toMatchObject({ code: 'commit/not-in-chain' });
    const dependents = (of: string): string[] => (of === chain.at('base') ? [chain.at('top'), chain.at('third')] : []);
    await expect(run(chain, 'top', { dependents })).rejects.toMatchObject({
      code: 'in-place/dependents',
      detail: { count: 1 },
    });
    expect(fs.readFileSync(chain.at('base')).equals(bytes)).toBe(true);
    // Told to do it all the same; the chain's own images do not count.
    await run(chain, 'top', { dependents, force: true });
    expect(chain.wrong('top', chain.model('top'))).toBeNull();
    await run(chain, 'top', { dependents: (of) => (of === chain.at('base') ? [chain.at('top')] : []) });
  });

  it('a lower layer that shows more than the middle one: its end stays hidden in the base', async () => {
    const chain = new Chain(scratch, row, 'short-middle');
    chain.make('base', size, null, [w(0, size, 1)]);
    chain.make('mid', 4 * MiB, 'base', [w(MiB, 64 * KiB, 2)]);
    chain.make('top', size, 'mid', [w(7 * MiB, 64 * KiB, 3)]);
    await run(chain, 'top', { base: chain.file('base') });
    expect(chain.wrong('base', chain.model('top'))).toBeNull();
  });

  it('a rate is kept', async () => {
    const chain = new Chain(scratch, row, 'rate');
    chain.make('base', size, null, []);
    chain.make('top', size, 'base', [w(0, 3 * MiB, 2)]);
    const started = performance.now();
    await run(chain, 'top', { rate: 10 * MiB });
    expect(performance.now() - started).toBeGreaterThan(180);
    expect(withImage(chain.at('base'), {}, (node) => node.map({ start: 0, length: 512 }).kind)).toBe('data');
  });
});

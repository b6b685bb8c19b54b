// Random writes, rebases and commits in every format with differencing, against plain buffers; qemu-img reads the end of each sequence.
import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import { commit } from '../../../core/operations/commit.ts';
import { rebase } from '../../../core/operations/rebase.ts';
import { difference } from '../../position-coded.ts';
import { scratchFolder } from '../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../seeded-random.ts';
import { contentAt } from '../formats/new-image.ts';
import { Chain, chainFormats, KiB, MiB, type Write } from './chains.ts';

const scratch = scratchFolder('layers-random');
const size = 4 * MiB;
const steps = process.env.PLATTER_LONG === '1' ? 200 : 14;

/** a and b stand alone, mid lies over a, top over any of them or over none. */
class Play {
  readonly chain: Chain;
  readonly #random: SeededRandom;
  #layer = 0;
  #below: 'a' | 'b' | 'mid' | null = 'mid';
  readonly told: string[] = [];

  constructor(chain: Chain, random: SeededRandom) {
    this.chain = chain;
    this.#random = random;
    chain.make('a', size, null, this.#writes(4));
    chain.make('b', size, null, this.#writes(4));
    this.#remake('mid', 'a');
    this.#remake('top', 'mid');
  }

  #writes(count: number): Write[] {
    return Array.from({ length: count }, () => {
      const start = this.#random.below(size - 512);
      const length = 1 + this.#random.below(Math.min(size - start, this.#random.oneIn(4) ? MiB : 100 * KiB));
      const aligned = this.#random.oneIn(2)
        ? { start: start - (start % (64 * KiB)), length: 64 * KiB }
        : { start, length };
      this.#layer = (this.#layer % 250) + 1;
      return { ...aligned, layer: this.#random.oneIn(4) ? 0 : this.#layer };
    });
  }

  #remake(name: 'mid' | 'top', below: 'a' | 'b' | 'mid'): void {
    fs.rmSync(this.chain.at(name), { force: true });
    this.chain.make(name, size, below, this.#writes(3));
    if (name === 'top') this.#below = below;
  }

  async step(): Promise<void> {
    const { chain } = this;
    const what = this.#random.below(4);
    if (what === 0) {
      this.told.push('write');
      chain.write('top', this.#writes(2));
    } else if (what < 3) {
      const to = this.#random.pick(['a', 'b', 'mid', null] as const);
      this.told.push(`rebase ${to ?? 'none'}`);
      const backing = to === null ? null : { path: chain.file(to), format: chain.row.format };
      const params = { path: chain.at('top'), options: {}, backing, unsafe: false, compress: false, base: {} };
      await rebase({ ...params, storeZeroes: this.#random.oneIn(3) }, silentJob);
      this.#below = to;
    } else if (this.#below !== null) {
      const deep = this.#below === 'mid' && this.#random.oneIn(2);
      const keep = this.#random.oneIn(3);
      const into = deep ? 'a' : this.#below;
      this.told.push(`commit ${into}${keep ? ', kept' : ''}`);
      await commit(
        { path: chain.at('top'), options: {}, base: deep ? chain.file('a') : null, keep, rate: 0 },
        silentJob,
      );
      chain.models.set(into, chain.model('top').slice());
      expect(difference(contentAt(chain.at(into)), chain.model('top'))).toBeNull();
      if (deep || into === 'a') {
        // What lay between has lost its meaning, and what read through the base reads something else.
        if (!deep) expect(difference(contentAt(chain.at('top')), chain.model('top'))).toBeNull();
        this.#remake('mid', 'a');
        if (deep) this.#remake('top', 'mid');
      }
    }
    expect(difference(contentAt(chain.at('top')), chain.model('top'))).toBeNull();
  }
}

describe('random layers', () => {
  const seed = chosenSeed('random layers');
  for (const [index, row] of chainFormats.entries()) {
    it(`${row.name} (seed ${seed})`, async () => {
      const play = new Play(new Chain(scratch, row, 'random'), new SeededRandom(seed + index));
      try {
        for (let i = 0; i < steps; i++) await play.step();
        for (const name of ['a', 'b', 'top']) expect(play.chain.wrong(name, play.chain.model(name))).toBeNull();
      } catch (error) {
        console.log(`seed ${seed}, ${row.name}: ${play.told.join('; ')}`);
        throw error;
      }
    }, 60_000);
  }
});

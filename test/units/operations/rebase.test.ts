// rebase of every format with differencing: the content stays, what is equal in both bases is not copied, links lead to the new base.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { withImage } from '../formats/new-image.ts';
import { isImageError } from '../../../core/errors/image-error.ts';
import { silentJob } from '../../../core/job.ts';
import { rebase, type RebaseParams } from '../../../core/operations/rebase.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { Chain, chainFormats, KiB, MiB, type Write } from './chains.ts';

const scratch = scratchFolder('rebase');
const size = 8 * MiB;

function run(chain: Chain, name: string, to: string | null, more: Partial<RebaseParams> = {}) {
  const backing = to === null ? null : { path: chain.file(to), format: chain.row.format };
  const params = { path: chain.at(name), options: {}, backing, unsafe: false, compress: false, base: {} };
  return rebase({ ...params, ...more }, silentJob);
}

const w = (start: number, length: number, layer: number): Write => ({ start, length, layer });

/** Equal in the first 4 MiB and in the zeroes, different behind. */
const oldBase = [w(0, 3 * MiB, 1), w(4 * MiB, MiB, 1), w(6 * MiB, 512 * KiB, 1)];
const newBase = [w(0, 3 * MiB, 1), w(4 * MiB, MiB, 2), w(7 * MiB, 300 * KiB, 2)];
const topWrites = [w(100 * KiB, 70 * KiB, 3), w(2 * MiB + 512, 1000, 3), w(6 * MiB + 64 * KiB, 128 * KiB, 0)];

for (const row of chainFormats) {
  describe(row.name, () => {
    it('to another base, and back', async () => {
      const chain = new Chain(scratch, row, 'other');
      chain.make('old', size, null, oldBase);
      chain.make('new', size, null, newBase);
      chain.make('top', size, 'old', topWrites);
      const before = chain.own('top');
      const { copied } = await run(chain, 'top', 'new');
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(withImage(chain.at('top'), {}, (node) => path.basename(node.backing?.name ?? ''))).toBe(chain.file('new'));
      // What is equal in both bases, the first 4 MiB, stays with the base but for what was the image's own.
      expect(copied).toBeGreaterThanOrEqual(MiB);
      expect(chain.own('top') - before).toBeLessThanOrEqual(4 * MiB);
      await run(chain, 'top', 'old');
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(chain.wrong('old', chain.model('old'))).toBeNull();
      expect(chain.wrong('new', chain.model('new'))).toBeNull();
    });

    it('to none, and over a base again', async () => {
      const chain = new Chain(scratch, row, 'none');
      chain.make('base', size, null, oldBase);
      chain.make('top', size, 'base', topWrites);
      await run(chain, 'top', null);
      fs.renameSync(chain.at('base'), chain.at('away'));
      expect(withImage(chain.at('top'), {}, (node) => node.backing)).toBeNull();
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      chain.make('new', size, null, newBase);
      await run(chain, 'top', 'new');
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(withImage(chain.at('top'), {}, (node) => node.backing?.size)).toBe(size);
    });

    it('to the base of its base', async () => {
      const chain = new Chain(scratch, row, 'deeper');
      chain.make('base', size, null, oldBase);
      chain.make('mid', size, 'base', [w(MiB, 200 * KiB, 4), w(4 * MiB, 256 * KiB, 0), w(5 * MiB, 4 * KiB, 4)]);
      chain.make('top', size, 'mid', topWrites);
      const before = chain.own('top');
      await run(chain, 'top', 'base');
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(chain.own('top') - before).toBeLessThanOrEqual(4 * MiB);
    });

    it('-u after the base was renamed', async () => {
      const chain = new Chain(scratch, row, 'renamed');
      chain.make('base', size, null, oldBase);
      chain.make('top', size, 'base', topWrites);
      fs.renameSync(chain.at('base'), chain.at('elsewhere'));
      await run(chain, 'top', 'elsewhere', { unsafe: true });
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      expect(withImage(chain.at('top'), {}, (node) => path.basename(node.backing?.name ?? ''))).toBe(
        chain.file('elsewhere'),
      );
    });

    // A differencing VHD has the size of its parent.
    if (row.format !== 'vpc') {
      it('bases that are smaller and larger than the image, and than each other', async () => {
        const chain = new Chain(scratch, row, 'sizes');
        chain.make('small', 5 * MiB + 512 * KiB, null, [w(0, 5 * MiB, 1)]);
        chain.make('large', 10 * MiB, null, [w(0, 5 * MiB, 1), w(5 * MiB, 5 * MiB, 2)]);
        chain.make('top', size, 'small', [w(6 * MiB, 100 * KiB, 3)]);
        await run(chain, 'top', 'large');
        expect(chain.wrong('top', chain.model('top'))).toBeNull();
        await run(chain, 'top', 'small');
        expect(chain.wrong('top', chain.model('top'))).toBeNull();
        // Before the copy of a byte: the new base would read through the image.
        chain.make('above', size, 'top', []);
        const refused = await run(chain, 'top', 'above').catch((error: unknown) => error);
        expect(isImageError(refused)).toBe(true);
        expect(chain.wrong('top', chain.model('top'))).toBeNull();
      });
    }
  });
}

describe('compressed', () => {
  for (const row of chainFormats.filter(({ format }) => format === 'qcow' || format === 'qcow2')) {
    it(row.name, async () => {
      const chain = new Chain(scratch, row, 'packed');
      chain.make('base', size, null, oldBase);
      chain.make('top', size, 'base', topWrites);
      await run(chain, 'top', null, { compress: true });
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
      const kinds = withImage(chain.at('top'), {}, (node) => node.map({ start: 4 * MiB, length: 512 }).kind);
      expect(kinds).toBe('packed');
    });
  }

  it('a format without compressed units says so before anything', async () => {
    const row = chainFormats.find(({ format }) => format === 'vdi');
    if (row === undefined) throw new Error('no vdi');
    const chain = new Chain(scratch, row, 'packed');
    chain.make('top', size, null, topWrites);
    const bytes = fs.readFileSync(chain.at('top'));
    await expect(run(chain, 'top', null, { compress: true })).rejects.toMatchObject({ code: 'convert/no-compression' });
    expect(fs.readFileSync(chain.at('top')).equals(bytes)).toBe(true);
  });
});

describe('a job that is cancelled', () => {
  it('leaves an image over its old base', async () => {
    const row = chainFormats.find(({ format }) => format === 'qcow2');
    if (row === undefined) throw new Error('no qcow2');
    const chain = new Chain(scratch, row, 'cancel');
    chain.make('base', size, null, oldBase);
    chain.make('new', size, null, newBase);
    chain.make('top', size, 'base', topWrites);
    for (const to of ['new', null]) {
      let asked = 0;
      const job = {
        progress: () => {},
        throwIfCancelled: () => {
          if (++asked === 4) throw new Error('stop');
        },
      };
      const backing = to === null ? null : { path: chain.file(to), format: 'qcow2' };
      const params = { path: chain.at('top'), options: {}, backing, unsafe: false, compress: false, base: {} };
      await expect(rebase(params, job)).rejects.toThrow('stop');
      expect(withImage(chain.at('top'), {}, (node) => path.basename(node.backing?.name ?? ''))).toBe('base.qcow2');
      expect(chain.wrong('top', chain.model('top'))).toBeNull();
    }
  });
});

describeWith({ peers: ['vhdiinfo'] }, 'the link as libvhdi reads it', () => {
  for (const row of chainFormats.filter(({ format }) => format === 'vpc' || format === 'vhdx')) {
    it(row.name, async () => {
      const chain = new Chain(scratch, row, 'link');
      chain.make('old', size, null, oldBase);
      chain.make('new', size, null, newBase);
      chain.make('top', size, 'old', topWrites);
      const ids = (name: string): string[] =>
        [...mustRun('vhdiinfo', [chain.at(name)]).matchAll(/^\s*((?:Parent )?[Ii]dentifier)\s*: (\S+)$/gm)].map(
          (match) => match[2] ?? '',
        );
      const before = ids('top');
      await run(chain, 'top', 'new');
      const after = ids('top');
      expect(after).toHaveLength(2);
      expect(after[1]).not.toBe(before[1]);
      expect(after[1]).toBe(ids('new')[0]);
    });
  }
});

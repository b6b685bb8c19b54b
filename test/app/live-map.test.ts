// An image that fills while it is watched: the pixels of its map from free to full, pause, the finished image, cancel, a job that fails.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { coarser } from '../../renderer/features/clusters/live-cells.ts';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { missingWindow } from './window.ts';
import { graveFaults } from './grave-faults.ts';
import { tokenColour } from './token-colour.ts';

const MiB = 1024 * 1024;

describe('cells of a disk that is being written', () => {
  it('are the mean of the finest ones, and hide nothing that is there', () => {
    const finest = Uint8Array.of(255, 255, 0, 0, 1, 0, 255, /* second class */ 0, 0, 255, 255, 0, 0, 0);
    expect([...coarser(finest, 2, 0, 5, 3)]).toEqual([0, 255, 0, 0, 0, 0]);
    expect([...coarser(finest, 2, 1, 0, 4)]).toEqual([255, 0, 1, 255, 0, 255, 0, 0]);
    expect([...coarser(finest, 2, 2, 0, 2)]).toEqual([128, 85, 128, 0]);
    expect([...coarser(finest, 2, 50, 0, 1)]).toEqual([109, 73]);
  });
});

describeWith(
  { peers: ['chromium', 'qemu-img'], unless: missingWindow() },
  'an image that fills while it is watched',
  () => {
    const folder = scratchFolder('live-window');
    const disks = path.join(folder, 'disks');
    const run = (program: string, ...args: string[]): string =>
      execFileSync(program, args, { cwd: disks, encoding: 'utf8' });
    let page: Page;

    const bench = useBench(folder, {
      stores: ['disks'],
      prepare() {
        // 64 MiB: noise, but for the zeroes from 24 to 40 MiB.
        const source = fs.openSync(path.join(disks, 'source.raw'), 'w');
        const noise = Buffer.alloc(MiB);
        for (let index = 0; index < noise.length; index++) noise[index] = (index * index * 31 + (index >> 3)) & 0xff;
        for (let piece = 0; piece < 64; piece++)
          if (piece < 24 || piece >= 40) fs.writeSync(source, noise, 0, MiB, piece * MiB);
        fs.closeSync(source);
      },
    });
    beforeAll(() => {
      ({ page } = bench());
    });

    /** Starts a slow convert in its sheet and follows the link in the tray. */
    async function watchConvert(target: string, format: string, rate: string): Promise<void> {
      await page.evaluate(`location.hash = '#/library'`);
      await page.getByRole('link', { name: 'source.raw', exact: true }).click();
      await page.getByRole('heading', { level: 1, name: 'source.raw' }).waitFor();
      await page.locator('main').getByRole('button', { name: 'Convert', exact: true }).click();
      const sheet = page.getByRole('dialog');
      await sheet.waitFor();
      await look('sheet');
      await sheet.getByRole('combobox', { name: 'Format' }).selectOption(format);
      await sheet.getByRole('textbox', { name: 'Target' }).fill(path.join(disks, target));
      await sheet.getByLabel('At most, in a second').fill(rate);
      await sheet.getByRole('button', { name: 'Convert', exact: true }).click();
      await page.getByTestId('tray-job').getByRole('link', { name: 'Watch it fill' }).click();
      await page.getByRole('heading', { level: 1, name: target }).waitFor();
      await page.locator('[data-testid=map-guest][data-drawn=exact]').waitFor();
    }

    /** The colours (hex) at the middle of the cells that hold these mebibytes, as they are drawn now. */
    function coloursAt(...places: number[]): Promise<string[]> {
      return page.evaluate<string[]>(`((places) => {
      const element = document.querySelector('[data-testid=map-guest]');
      if (element === null) return [];
      const context = element.getContext('2d');
      const { cell, first, columns, level } = element.dataset;
      const size = Number(cell) * devicePixelRatio;
      const bytes = 65536 * 2 ** Number(level);
      return places.map((place) => {
        const index = Math.floor((place * 1048576) / bytes) - Number(first);
        const x = (index % Number(columns)) * size + Math.floor(size / 2) - 1;
        const y = Math.floor(index / Number(columns)) * size + Math.floor(size / 2) + 1;
        const pixel = [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
        return pixel.map((value) => value.toString(16).padStart(2, '0')).join('');
      });
    })(${JSON.stringify(places)})`);
    }
    const token = (name: string): Promise<string> => tokenColour(page, name);
    const seriousFaults = (): Promise<string[]> => graveFaults(page);
    async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
      for (const end = Date.now() + 30_000; Date.now() < end;) {
        if (await condition()) return;
        await page.waitForTimeout(50);
      }
      throw new Error(`never: ${what}`);
    }
    const look = async (name: string): Promise<void> => {
      if (process.env.LIVE_SHOTS !== undefined)
        await page.screenshot({ path: `${process.env.LIVE_SHOTS}/${name}.png` });
    };
    const partials = (): string[] => fs.readdirSync(disks).filter((name) => name.includes('.partial-'));

    it('goes from free to full in the order of the copy, waits when paused, and becomes the finished image', async () => {
      const [data, empty] = [await token('--map-data'), await token('--map-empty')];
      await watchConvert('made.qcow2', 'qcow2', '6M');
      await until(async () => (await coloursAt(1))[0] === data, 'the first mebibytes are full');
      expect(await coloursAt(1, 60)).toEqual([data, empty]);
      expect(partials()).toHaveLength(1);
      expect(fs.existsSync(path.join(disks, 'made.qcow2'))).toBe(false);
      await page.getByText(partials()[0] ?? '', { exact: false }).waitFor();
      const rows = page.getByRole('table', { name: 'Guest disk' });
      await rows.getByText('Not written yet').waitFor();
      await look('filling');

      const main = page.locator('main');
      await main.getByRole('button', { name: 'Pause' }).click();
      await main.locator('[data-state=paused]').waitFor();
      // What was under way when it was asked to wait is still written.
      await page.waitForTimeout(700);
      const written = async (): Promise<string> => (await rows.getByRole('row', { name: 'Data' }).textContent()) ?? '';
      const before = await written();
      await page.waitForTimeout(1200);
      expect(await written()).toBe(before);
      expect(await seriousFaults()).toEqual([]);
      await page.emulateMedia({ colorScheme: 'dark' });
      await page.waitForTimeout(200);
      expect(await seriousFaults()).toEqual([]);
      expect(await coloursAt(1, 60)).toEqual([await token('--map-data'), await token('--map-empty')]);
      await look('paused-dark');
      await page.emulateMedia({ colorScheme: 'light' });
      // A page that is loaded again goes on where the job is.
      await page.reload();
      await page.locator('[data-testid=map-guest][data-drawn=exact]').waitFor();
      expect(await coloursAt(1, 60)).toEqual([data, empty]);
      await main.getByRole('button', { name: 'Resume' }).click();
      const zero = await token('--map-zero');
      const whole = `${data} ${zero} ${data}`;
      await until(
        async () => (await coloursAt(1, 30, 42)).join(' ') === whole,
        'zeroes, and what follows them is full',
      );

      await page.getByRole('heading', { level: 1, name: 'made.qcow2' }).waitFor();
      await page.waitForURL(/#\/image\/[^/]+\/map$/);
      await page.locator('[data-testid=map-guest][data-drawn=exact]').waitFor();
      expect(await coloursAt(1, 30, 60)).toEqual([data, empty, data]);
      expect(partials()).toEqual([]);
      expect(run('qemu-img', 'compare', 'source.raw', 'made.qcow2')).toContain('identical');
      await look('finished');
      // The way back leads past the page that is gone.
      await page.goBack();
      await page.getByRole('heading', { level: 1, name: 'source.raw' }).waitFor();
    });

    it('says that it was cancelled, and still shows how far it was', async () => {
      await watchConvert('given-up.vhdx', 'vhdx', '8M');
      const empty = await token('--map-empty');
      await page.evaluate(`location.hash = '#/jobs'`);
      await page.getByTestId('job').first().getByRole('link', { name: 'Watch it fill' }).click();
      await page.locator('[data-testid=map-guest][data-drawn=exact]').waitFor();
      const main = page.locator('main');
      const rows = page.getByRole('table', { name: 'Guest disk' });
      await rows.getByRole('row', { name: 'Data' }).waitFor();
      await main.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('Cancelled. What was written so far was removed').waitFor();
      expect(await main.getByTestId('live-job').getAttribute('data-state')).toBe('cancelled');
      const cell = page.getByTestId('map-guest');
      expect(await cell.getAttribute('data-drawn')).toBe('exact');
      expect(await page.getByRole('link', { name: 'Watch it fill' }).count()).toBe(0);
      expect(partials()).toEqual([]);
      expect(fs.existsSync(path.join(disks, 'given-up.vhdx'))).toBe(false);
      expect(await coloursAt(60)).toEqual([empty]);
      expect(await rows.getByText('Not written yet').count()).toBe(1);
      await look('cancelled');
      // The keys still work on what is left to see.
      await cell.focus();
      await page.keyboard.press('Home');
      await main.locator('aside').getByText('0x0').waitFor();
      expect(await seriousFaults()).toEqual([]);
      // Of a job that is over, and of none, there is nothing to watch.
      await page.reload();
      await page.getByText('Cancelled. What was written so far was removed').waitFor();
      expect(await cell.count()).toBe(0);
    });

    it('says that the job failed, and why', async () => {
      await watchConvert('failed.vmdk', 'vmdk', '8M');
      // Somebody removes what is being written: it cannot get its name.
      for (const name of partials()) fs.rmSync(path.join(disks, name));
      await page.getByText('The job failed. What was written so far was removed').waitFor();
      await page
        .locator('main')
        .getByText(/ENOENT|No such file/i)
        .first()
        .waitFor();
      expect(fs.existsSync(path.join(disks, 'failed.vmdk'))).toBe(false);
      await look('failed');
    });
  },
);

// The cluster map as a person meets it: the colours on the canvas against what qemu-io wrote, places, keys, layers, axe.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { runCommand } from './sheet-bench.ts';
import { tokenColour } from './token-colour.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the cluster map', () => {
  const folder = quickFolder('map-window');
  const disks = path.join(folder, 'disks');
  const run = (program: string, ...args: string[]): string =>
    execFileSync(program, args, {
      cwd: disks,
      encoding: 'utf8',
      env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    });
  const platter = (...args: string[]): string => runCommand(folder, args);
  let page: Page;

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '64M');
      run('qemu-io', '-c', 'write -P 1 0 2M', '-c', 'write -P 2 32M 4M', 'base.qcow2');
      run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
      run('qemu-io', '-c', 'write -P 3 16M 1M', '-c', 'write -z 48M 1M', '-c', 'write -c -P 4 60M 64k', 'top.qcow2');
      fs.copyFileSync(path.join(disks, 'base.qcow2'), path.join(disks, 'torn.qcow2'));
      // The L2 entries of 32 MiB to 33 MiB point into the middle of a cluster; one cluster more than is used has a refcount.
      const torn = fs.openSync(path.join(disks, 'torn.qcow2'), 'r+');
      const word = (at: number): number => {
        const bytes = Buffer.alloc(8);
        fs.readSync(torn, bytes, 0, 8, at);
        return Number(bytes.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
      };
      const l2 = word(word(40));
      for (let entry = 512; entry < 528; entry++) {
        fs.writeSync(torn, Buffer.from('8000000000000200', 'hex'), 0, 8, l2 + entry * 8);
      }
      const clusters = fs.fstatSync(torn).size / 65536;
      fs.ftruncateSync(torn, (clusters + 1) * 65536);
      fs.writeSync(torn, Buffer.from([0, 1]), 0, 2, word(word(48)) + clusters * 2);
      fs.closeSync(torn);
      run('qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', 'orphan.qcow2', '64M');
      const orphan = path.join(disks, 'orphan.qcow2');
      run(
        'qemu-io',
        '-c',
        'write -P 5 16M 1M',
        `json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"${orphan}"}}`,
      );
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  async function openMap(name: string): Promise<void> {
    await page.evaluate(`location.hash = '#/library'`);
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    await page.getByRole('link', { name: 'Map', exact: true }).click();
    await page.getByRole('table', { name: 'Guest disk' }).waitFor();
    await page.waitForTimeout(100);
  }

  const canvas = () => page.getByTestId('map-guest');

  /** Colours (hex) of the middle of cells, and those that the style sheet gives to classes. */
  function coloursOf(cells: readonly number[], view = 'guest'): Promise<string[]> {
    return page.evaluate<string[]>(`((cells) => {
      const element = document.querySelector('[data-testid=map-${view}]');
      const context = element.getContext('2d');
      const { cell, first, columns } = element.dataset;
      const size = Number(cell) * devicePixelRatio;
      return cells.map((one) => {
        const index = one - Number(first);
        const x = (index % Number(columns)) * size + Math.floor(size / 2) - 1;
        const y = Math.floor(index / Number(columns)) * size + Math.floor(size / 2) + 1;
        const pixel = [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
        return pixel.map((value) => value.toString(16).padStart(2, '0')).join('');
      });
    })(${JSON.stringify(cells)})`);
  }
  const token = (name: string): Promise<string> => tokenColour(page, name);
  const level = async (): Promise<number> => Number(await canvas().getAttribute('data-level'));
  const seriousFaults = () => graveFaults(page);

  it('draws what qemu-io wrote where it wrote it, in both themes', async () => {
    await openMap('top.qcow2');
    // 1024 clusters of 64 KiB fit, one by one.
    expect(await level()).toBe(0);
    for (const theme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: theme });
      await page.waitForTimeout(200);
      const [data, below, zero, packed, empty] = await Promise.all(
        ['data', 'below', 'zero', 'packed', 'empty'].map((name) => token(`--map-${name}`)),
      );
      const MiB = 16;
      const expected: (readonly [number, string | undefined])[] = [
        [0, below],
        [2 * MiB - 1, below],
        [2 * MiB, empty],
        [16 * MiB, data],
        [17 * MiB - 1, data],
        [17 * MiB, empty],
        [32 * MiB, below],
        [48 * MiB, zero],
        [60 * MiB, packed],
        [60 * MiB + 1, empty],
      ];
      // Patterns are drawn over a cell; its colour is the one that most of it has.
      const found = await coloursOf(expected.map(([cell]) => cell));
      expect(found.filter((colour, index) => colour !== expected[index]?.[1]).length, theme).toBeLessThanOrEqual(2);
      expect(found[3]).toBe(data);
      expect(found[2]).toBe(empty);
      expect(await seriousFaults()).toEqual([]);
    }
    await page.emulateMedia({ colorScheme: 'light' });
    const table = page.getByRole('table', { name: 'Guest disk' });
    for (const [name, size] of [
      ['Data', '1 MiB'],
      ['In a layer below', '6 MiB'],
      ['Compressed', '64 KiB'],
      ['Zero, and says so', '1 MiB'],
    ] as const) {
      expect(await table.getByRole('row', { name }).textContent()).toContain(size);
    }
  });

  it('hides what the legend leaves out', async () => {
    const dim = await token('--map-empty');
    await page.getByRole('checkbox', { name: 'Data' }).uncheck();
    await page.waitForTimeout(150);
    expect(await coloursOf([16 * 16])).toEqual([dim]);
    await page.getByRole('checkbox', { name: 'Data' }).check();
    await page.waitForTimeout(150);
    expect(await coloursOf([16 * 16])).toEqual([await token('--map-data')]);
  });

  it('says by keyboard what stands at a place, zooms, and goes to the layer that has it', async () => {
    await canvas().focus();
    await page.keyboard.press('Home');
    const place = page.getByTestId('place');
    await place.getByText('1 below: base.qcow2').waitFor();
    expect(await place.textContent()).toContain('L2[0]');
    await page.keyboard.press('End');
    await place.getByText('0x3ff0000').first().waitFor();
    const before = Number(await canvas().getAttribute('data-cell'));
    await page.keyboard.press('+');
    await page.keyboard.press('+');
    expect(Number(await canvas().getAttribute('data-cell'))).toBeGreaterThan(before);
    await page.keyboard.press('0');
    expect(Number(await canvas().getAttribute('data-cell'))).toBe(before);
    await page.keyboard.press('Home');
    await place.getByRole('button', { name: '1 below: base.qcow2' }).click();
    await page.getByRole('heading', { level: 1, name: 'base.qcow2' }).waitFor();
    await page.getByTestId('place').getByText('Stored at').waitFor();
  });

  it('zooms with the wheel around the place under it, and drags', async () => {
    await openMap('base.qcow2');
    const box = await canvas().boundingBox();
    if (box === null) throw new Error('no canvas');
    const at = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    const cellUnder = (): Promise<number> =>
      page.evaluate<number>(`((x, y) => {
        const { cell, first, columns } = document.querySelector('[data-testid=map-guest]').dataset;
        const size = Number(cell);
        return Number(first) + Math.floor(y / size) * Number(columns) + Math.floor(x / size);
      })(${box.width / 2}, ${box.height / 2})`);
    const before = await cellUnder();
    await page.mouse.move(at.x, at.y);
    for (let turn = 0; turn < 3; turn++) await page.mouse.wheel(0, -100);
    await page.waitForTimeout(200);
    expect(Number(await canvas().getAttribute('data-first'))).toBeGreaterThan(0);
    expect(await cellUnder()).toBe(before);
    await page.mouse.down();
    await page.mouse.move(at.x, at.y - 120, { steps: 4 });
    await page.mouse.up();
    await page.waitForTimeout(100);
    expect(await cellUnder()).toBeGreaterThan(before);
    expect(await page.getByTestId('place').count()).toBe(0);
  });

  it('shows the file beside the disk, and a place of one in the other', async () => {
    await openMap('base.qcow2');
    await page.getByRole('button', { name: 'Both' }).click();
    await page.getByRole('table', { name: 'File' }).getByText('Mapping tables').waitFor();
    await page.waitForTimeout(200);
    // Header, refcount table and block, L1 and L2 table, then the clusters that were written.
    const [header, ...others] = await coloursOf([0, 5, 6, 30], 'file');
    expect(header).not.toBe(others[0]);
    expect(others).toEqual([await token('--map-data'), await token('--map-data'), await token('--map-data')]);
    await canvas().focus();
    await page.keyboard.press('Home');
    await page.getByRole('button', { name: 'Show in the file' }).click();
    const place = page.getByTestId('place');
    await place.getByText('data clusters').waitFor();
    await place.getByText('refcount of cluster 5').first().waitFor();
    expect(await place.textContent()).toContain('@ 0x2000a1');
    expect(await seriousFaults()).toEqual([]);
  });

  it('opens a damaged image, marks what cannot be read, and what a check found', async () => {
    // The exit code says that something was found.
    expect(() => platter('image', 'check', path.join(disks, 'torn.qcow2'))).toThrow('Command failed');
    await openMap('torn.qcow2');
    const table = page.getByRole('table', { name: 'Guest disk' });
    expect(await table.getByRole('row', { name: 'Not readable' }).textContent()).toContain('1 MiB');
    await page.getByText('unaligned').first().waitFor();
    await page.getByRole('button', { name: 'File', exact: true }).click();
    await page.getByRole('table', { name: 'File' }).getByText('Lost: nothing refers to it').waitFor();
    await page.getByText(/Findings of the last check: \d+/).waitFor();
  });

  it('opens an image whose parent is gone: says so, and shows what the image itself holds', async () => {
    await openMap('orphan.qcow2');
    const reduced = page.getByRole('status').filter({ hasText: 'The layers below orphan.qcow2 are missing' });
    expect(await reduced.textContent()).toContain('gone.qcow2');
    const row = page.getByRole('table', { name: 'Guest disk' }).getByRole('row', { name: /^Data\b/ });
    expect(await row.textContent()).toContain('1 MiB');
  });

  it('saves the picture and the cells', async () => {
    await openMap('top.qcow2');
    const [picture] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Export PNG' }).click(),
    ]);
    expect(picture.suggestedFilename()).toBe('top.qcow2.map.png');
    expect(
      fs
        .readFileSync(await picture.path())
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    const [list] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Export JSON' }).click(),
    ]);
    const content = JSON.parse(fs.readFileSync(await list.path(), 'utf8')) as {
      classes: string[];
      totals: Record<string, number>;
      cells: [number, number][][];
    };
    expect(content.totals).toMatchObject({ data: 1048576, below: 6 * 1048576 });
    expect(content.cells[16 * 16]).toEqual([[content.classes.indexOf('data'), 255]]);
  });

  it('is drawn anew when a job has changed the image', async () => {
    await openMap('top.qcow2');
    run('qemu-io', '-c', 'write -P 9 20M 8M', 'top.qcow2');
    await page.getByRole('button', { name: 'Ask for everything again' }).click();
    platter('datastore', 'scan');
    await expect
      .poll(
        async () => {
          await page.getByRole('button', { name: 'Ask for everything again' }).click();
          return page.getByRole('table', { name: 'Guest disk' }).getByRole('row', { name: 'Data' }).textContent();
        },
        { timeout: 30_000, interval: 500 },
      )
      .toContain('9 MiB');
  });
});

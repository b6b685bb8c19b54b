// Layers of the map in the window: a snapshot's disk, how often clusters are referred to, pieces, findings on the disk; the colours on
// the canvas against refcounts and tables that the test reads from the file itself.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { runCommand } from './sheet-bench.ts';
import { missingWindow } from './window.ts';
import { graveFaults } from './grave-faults.ts';
import { tokenColour } from './token-colour.ts';

const cluster = 65536;

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'layers of the map', () => {
  const folder = scratchFolder('map-layers-window');
  const disks = path.join(folder, 'disks');
  const run = (program: string, ...args: string[]): string =>
    execFileSync(program, args, { cwd: disks, encoding: 'utf8' });
  let page: Page;
  /** The bytes of the image with snapshots, read without Platter. */
  let bytes: Buffer;
  const word = (at: number): number => Number(bytes.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
  const refcount = (host: number): number =>
    bytes.readUInt16BE(word(word(48) + Math.floor(host / 32768) * 8) + (host % 32768) * 2);

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      run('qemu-img', 'create', '-q', '-f', 'qcow2', 'snap.qcow2', '64M');
      run('qemu-io', '-c', 'write -P 1 0 4M', 'snap.qcow2');
      run('qemu-img', 'snapshot', '-c', 'before', 'snap.qcow2');
      run('qemu-io', '-c', 'write -P 2 0 1M', '-c', 'write -P 3 32M 2M', 'snap.qcow2');
      run('qemu-img', 'snapshot', '-c', 'after', 'snap.qcow2');
      run('qemu-io', '-c', 'write -P 4 33M 64k', 'snap.qcow2');
      bytes = fs.readFileSync(path.join(disks, 'snap.qcow2'));
      run('qemu-img', 'create', '-q', '-f', 'qcow2', 'torn.qcow2', '64M');
      run('qemu-io', '-c', 'write -P 1 0 4M', 'torn.qcow2');
      // The entry of the cluster at 2 MiB points into the middle of a cluster; the cluster at 3 MiB is not counted.
      const torn = fs.openSync(path.join(disks, 'torn.qcow2'), 'r+');
      const tornWord = (at: number): number => {
        const eight = Buffer.alloc(8);
        fs.readSync(torn, eight, 0, 8, at);
        return Number(eight.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
      };
      const l2 = tornWord(tornWord(40));
      const host = tornWord(l2 + 48 * 8);
      fs.writeSync(torn, Buffer.from('8000000000000200', 'hex'), 0, 8, l2 + 32 * 8);
      fs.writeSync(torn, Buffer.from([0, 0]), 0, 2, tornWord(tornWord(48)) + (host / cluster) * 2);
      fs.closeSync(torn);
      run('qemu-img', 'create', '-q', '-f', 'raw', 'plain.raw', '4M');
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  const canvas = (view: string) => page.locator(`[data-testid="map-${view}"]`);
  const drawn = (view: string) => page.locator(`[data-testid="map-${view}"][data-drawn="exact"]`).waitFor();

  async function openMap(name: string, query = ''): Promise<void> {
    await page.evaluate(`location.hash = '#/library'`);
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    const id = /image\/([^/?]+)/.exec(page.url())?.[1] ?? '';
    await page.evaluate(`location.hash = '#/image/${id}/map${query}'`);
    await page.getByRole('toolbar', { name: 'Controls of the map' }).waitFor();
  }

  /** The colour (hex) of the most pixels of each cell. */
  function coloursOf(cells: readonly number[], view: string): Promise<string[]> {
    return page.evaluate<string[]>(`((cells) => {
      const element = document.querySelector('[data-testid="map-${view}"]');
      const context = element.getContext('2d');
      const { cell, first, columns } = element.dataset;
      const size = Number(cell) * devicePixelRatio;
      return cells.map((one) => {
        const index = one - Number(first);
        const [x, y] = [(index % Number(columns)) * size, Math.floor(index / Number(columns)) * size];
        const { data } = context.getImageData(x + 1, y + 1, size - 3, size - 3);
        const counts = new Map();
        for (let at = 0; at < data.length; at += 4) {
          const colour = [data[at], data[at + 1], data[at + 2]].map((one) => one.toString(16).padStart(2, '0')).join('');
          counts.set(colour, (counts.get(colour) ?? 0) + 1);
        }
        return [...counts].sort((a, b) => b[1] - a[1])[0][0];
      });
    })(${JSON.stringify(cells)})`);
  }
  const token = (name: string): Promise<string> => tokenColour(page, name);
  const seriousFaults = (): Promise<string[]> => graveFaults(page);

  it('shows the disk of a snapshot, keeps it on the way to hex and back, and tells what others have too', async () => {
    await openMap('snap.qcow2');
    await drawn('guest');
    const select = page.getByRole('combobox', { name: 'Disk', exact: true });
    expect(await select.locator('option').allTextContents()).toEqual([
      'As it is now',
      'Snapshot before',
      'Snapshot after',
    ]);
    await select.selectOption({ label: 'Snapshot before' });
    await drawn('snapshot:1');
    const [data, empty] = [await token('--map-data'), await token('--map-empty')];
    // 4 MiB at the start; what was written at 32 MiB came later.
    expect(await coloursOf([0, 63, 64, 512, 543], 'snapshot:1')).toEqual([data, data, empty, empty, empty]);
    await page.getByRole('combobox', { name: 'Layer', exact: true }).selectOption({ label: 'Shared with snapshots' });
    await drawn('snapshot:1');
    const l1 = Number(bytes.readBigUInt64BE(word(64)));
    const shared = await token('--map-snapshot');
    const expected = Array.from({ length: 64 }, (_, at) =>
      refcount(word(word(l1) + at * 8) / cluster) > 1 ? shared : data,
    );
    expect(new Set(expected).size).toBe(2);
    expect(await coloursOf([...expected.keys()], 'snapshot:1')).toEqual(expected);
    expect(await seriousFaults()).toEqual([]);
    // By keyboard to a place of it, to its bytes, and back.
    await canvas('snapshot:1').focus();
    await page.keyboard.press('Home');
    const place = page.getByTestId('place');
    await place
      .getByText(`0x${word(word(l1)).toString(16)}`)
      .first()
      .waitFor();
    expect(page.url()).toContain('view=snapshot%3A1');
    await page.keyboard.press('Enter');
    await page.getByRole('grid').first().waitFor();
    expect(page.url()).toContain('/hex?view=snapshot%3A1');
    await page.getByRole('link', { name: 'Show in the map' }).click();
    await drawn('snapshot:1');
    expect(await select.inputValue()).toBe('snapshot:1');
    await page.goBack();
    await page.getByRole('grid').first().waitFor();
  });

  it('goes from the list of snapshots to the map of one', async () => {
    await openMap('snap.qcow2');
    await page.getByRole('link', { name: 'Snapshots', exact: true }).click();
    await page.getByRole('link', { name: 'after in the map' }).click();
    await drawn('snapshot:2');
    expect(await coloursOf([512, 543, 544], 'snapshot:2')).toEqual([
      await token('--map-data'),
      await token('--map-data'),
      await token('--map-empty'),
    ]);
  });

  it('colours every cluster of the file by its refcount, in both themes', async () => {
    await openMap('snap.qcow2', '?view=file&file-layer=counts');
    await drawn('file');
    const hosts = Array.from({ length: Math.floor(bytes.length / cluster) }, (_, host) => host);
    for (const theme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: theme });
      await page.waitForTimeout(300);
      const inks: Record<number, string> = {
        0: await token('--map-empty'),
        1: await token('--map-data'),
        2: await token('--map-ramp-start'),
      };
      const found = await coloursOf(hosts, 'file');
      const counted = hosts.map(refcount);
      expect(new Set(counted)).toEqual(new Set([1, 2, 3]));
      for (const host of hosts) {
        const count = counted[host] ?? 0;
        if (count === 3) expect(Object.values(inks)).not.toContain(found[host]);
        else expect(found[host], `cluster ${host} in ${theme}`).toBe(inks[count]);
      }
      expect(await seriousFaults()).toEqual([]);
    }
    await page.emulateMedia({ colorScheme: 'light' });
    const table = page.getByRole('table', { name: 'File', exact: true });
    const once = hosts.filter((host) => refcount(host) === 1).length;
    expect(await table.getByRole('row', { name: 'Once' }).textContent()).toContain(
      once * cluster >= 1024 * 1024 ? 'MiB' : `${(once * cluster) / 1024} KiB`,
    );
    await canvas('file').focus();
    await page.keyboard.press('Home');
    await page.getByTestId('place').getByText('1 times').waitFor();
  });

  it('marks on the disk what a check found in the file', async () => {
    // The exit code says that something was found.
    expect(() => runCommand(folder, ['image', 'check', path.join(disks, 'torn.qcow2')])).toThrow('Command failed');
    await openMap('torn.qcow2');
    await drawn('guest');
    await page.getByText('of them lie on the disk').waitFor();
    const bad = await token('--map-bad');
    const corner = (cell: number): Promise<string> =>
      page.evaluate<string>(`((one) => {
        const element = document.querySelector('[data-testid="map-guest"]');
        const { cell, first, columns } = element.dataset;
        const size = Number(cell) * devicePixelRatio;
        const index = one - Number(first);
        const x = (index % Number(columns)) * size + size - 3;
        const y = Math.floor(index / Number(columns)) * size + 1;
        const { data } = element.getContext('2d').getImageData(x, y, 1, 1);
        return [...data].slice(0, 3).map((value) => value.toString(16).padStart(2, '0')).join('');
      })(${cell})`);
    await expect
      .poll(() => Promise.all([32, 48, 40, 100].map(corner)))
      .toEqual([bad, bad, await token('--map-data'), await token('--map-empty')]);
    await page.getByRole('checkbox', { name: /Findings of the last check/ }).uncheck();
    await expect.poll(() => corner(48)).toBe(await token('--map-data'));
    await page.getByRole('checkbox', { name: /Findings of the last check/ }).check();
  });

  it('offers no layer that says nothing', async () => {
    await openMap('plain.raw');
    await page.getByRole('button', { name: 'Both' }).click();
    await drawn('file');
    expect(await page.getByRole('combobox', { name: 'Layer of the file' }).count()).toBe(0);
    expect(await page.getByRole('combobox', { name: 'Disk', exact: true }).count()).toBe(0);
    expect(
      await page.getByRole('combobox', { name: 'Layer', exact: true }).locator('option').allTextContents(),
    ).toEqual(['State', 'Fragmentation', 'Place in the file']);
  });
});

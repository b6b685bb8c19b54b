// Every link between the views of an image, clicked through, there and back again; and the addresses that are copied.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { imageAddress, parseImageLink } from '../../electron/addresses.ts';
import { describeWith, mustRun } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { missingWindow } from './window.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'links between views', () => {
  const folder = quickFolder('links');
  const disks = path.join(folder, 'disks');
  let page: Page;
  let id = '';
  /** Where qemu-img says that the second MiB of the disk is stored. */
  let stored = 0;

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      const at = { cwd: disks };
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'base.qcow2', '16M'], at);
      mustRun('qemu-io', ['-c', 'write -P 1 8M 64k', 'base.qcow2'], at);
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], at);
      mustRun('qemu-io', ['-c', 'write -P 2 1M 64k', '-c', 'write -c -P 3 4M 64k', 'top.qcow2'], at);
      const map = JSON.parse(
        execFileSync('qemu-img', ['map', '--output=json', 'top.qcow2'], { cwd: disks, encoding: 'utf8' }),
      ) as { start: number; offset?: number }[];
      stored = map.find(({ start }) => start === MiB)?.offset ?? -1;
    },
  });
  beforeAll(async () => {
    ({ page } = bench());
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('link', { name: 'top.qcow2', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'top.qcow2' }).waitFor();
    id = /image\/([^/?]+)/.exec(page.url())?.[1] ?? '';
  });
  const hex = (offset: number): string => `0x${offset.toString(16)}`;
  const place = () => page.getByTestId('place');
  const go = (address: string) => page.evaluate(`location.hash = ${JSON.stringify(address)}`);
  const arrive = (tab: string, view: string, at: number) =>
    page.waitForURL(
      (url) => url.hash.includes(`/${tab}?`) && url.hash.includes(`view=${view}`) && url.hash.includes(`at=${hex(at)}`),
    );
  const back = () => page.keyboard.press('Alt+ArrowLeft');

  it('map of the disk → file → hex of its bytes → disk, and all the way back', async () => {
    await go(`#/image/${id}/map?view=guest&at=${hex(MiB)}`);
    await place().getByRole('button', { name: 'Show in the file' }).click();
    await arrive('map', 'file', stored);
    await place()
      .getByTestId('on-disk')
      .getByRole('link', { name: hex(MiB) })
      .waitFor();
    await place().getByRole('button', { name: 'Show in hex', exact: true }).click();
    await arrive('hex', 'file', stored);
    const onDisk = page.getByTestId('on-disk').getByRole('link', { name: hex(MiB), exact: true });
    await onDisk.click();
    await arrive('hex', 'guest', MiB);
    await page.getByRole('button', { name: `file ${hex(stored)}` }).click();
    await arrive('hex', 'file', stored);
    await page.getByRole('grid').first().focus();
    for (const [tab, view, at] of [
      ['hex', 'guest', MiB],
      ['hex', 'file', stored],
      ['map', 'file', stored],
      ['map', 'guest', MiB],
    ] as const) {
      await back();
      await arrive(tab, view, at);
    }
    await place().getByRole('button', { name: 'Show in the file' }).waitFor();
    await page.keyboard.press('Alt+ArrowRight');
    await arrive('map', 'file', stored);
  });

  it('the owning entries of a place → their bytes → the map of the file', async () => {
    await go(`#/image/${id}/map?view=guest&at=${hex(4 * MiB)}`);
    await place().getByRole('link', { name: 'L2[64]' }).click();
    await page.locator('[data-field="path"]').filter({ hasText: 'L2[0][64]' }).waitFor();
    const entry = Number(/at=(0x[0-9a-f]+)/.exec(page.url())?.[1]);
    await page.getByRole('link', { name: 'Show in the map' }).click();
    await arrive('map', 'file', entry);
    await place().getByText('L2 tables').waitFor();
    await page.keyboard.press('Alt+ArrowLeft');
    await arrive('hex', 'file', entry);
    // A compressed cluster: the entry leads to its bytes, and they to the disk.
    await page.locator('[data-field="path"]').filter({ hasText: 'L2[0][64]' }).waitFor();
    await page.getByRole('grid').first().press('Enter');
    await page
      .getByTestId('on-disk')
      .getByRole('link', { name: hex(4 * MiB) })
      .waitFor();
  });

  it('what a layer below supplies → that image, at the same place, in hex and in the map', async () => {
    for (const [tab, name] of [
      ['map', '1 below: base.qcow2'],
      ['hex', 'base.qcow2'],
    ] as const) {
      await go(`#/image/${id}/${tab}?view=guest&at=${hex(8 * MiB)}`);
      await page.getByRole('button', { name, exact: true }).click();
      await page.getByRole('heading', { level: 1, name: 'base.qcow2' }).waitFor();
      await arrive(tab, 'guest', 8 * MiB);
      await page.goBack();
      await page.getByRole('heading', { level: 1, name: 'top.qcow2' }).waitFor();
      await arrive(tab, 'guest', 8 * MiB);
    }
  });

  it('to the chain and back', async () => {
    await go(`#/image/${id}/map?view=guest&at=${hex(MiB)}`);
    await place().getByRole('button', { name: 'Show in the chain' }).click();
    // The link names the place: the chain says at once who supplies it.
    await page.getByTestId('supplier').waitFor();
    await page.goBack();
    await place().getByRole('button', { name: 'Show in hex', exact: true }).click();
    await arrive('hex', 'guest', MiB);
    await page.getByRole('toolbar', { name: 'Hex view' }).getByRole('link', { name: 'Chain' }).click();
    await page.getByTestId('chain').waitFor();
    await page.goBack();
    await arrive('hex', 'guest', MiB);
  });

  it('copies addresses that the desktop program understands', async () => {
    for (const tab of ['hex', 'map']) {
      const address = `#/image/${id}/${tab}?view=guest&at=${hex(MiB)}`;
      await go(address);
      await page.getByRole('button', { name: 'Copy address' }).click();
      const said = page.getByRole('status').filter({ hasText: 'The address is in the clipboard' });
      await said.first().waitFor();
      const copied = await page.evaluate<string>('navigator.clipboard.readText()');
      // It would lie over the button of the other tab.
      await said.getByRole('button', { name: 'Close' }).click();
      await said.first().waitFor({ state: 'detached' });
      expect(copied).toBe(`platter://image/${id}?view=${tab}&of=guest&at=${hex(MiB)}`);
      const link = parseImageLink(copied);
      expect(link).not.toBeNull();
      expect(imageAddress(id, link)).toBe(address);
    }
  });
});

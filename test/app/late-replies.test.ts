// Replies that come late: what a person typed or chose meanwhile stays, and what was asked before is not shown for what is asked now.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'a reply that comes late', () => {
  const folder = quickFolder('late-replies');
  const images = new Images(path.join(folder, 'disks'));
  const patient = { timeout: 30_000 };
  let bench: SheetBench;
  /** Replies that the window has not been given; null: it gets them as they come. */
  let held: (() => void)[] | null = null;

  beforeAll(async () => {
    images.make('base.qcow2', null, '-P 1 0 1M');
    images.make('top.qcow2', 'base.qcow2', '-P 2 0 64k');
    fs.copyFileSync(images.at('base.qcow2'), images.at('same.qcow2'));
    bench = await SheetBench.open(folder, ['disks']);
    await bench.scan();
    await bench.page.routeWebSocket(/.*/, (toPage) => {
      const server = toPage.connectToServer();
      server.onMessage((message) => {
        if (held === null) toPage.send(message);
        else held.push(() => toPage.send(message));
      });
    });
    await bench.page.reload();
    await bench.page.getByRole('heading', { level: 1 }).waitFor();
  });
  afterAll(() => bench.close());
  afterEach(async () => {
    release();
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  function release(): void {
    const waiting = held ?? [];
    held = null;
    for (const give of waiting) give();
  }

  /** Until a reply is being held back: the question has been answered. */
  const answered = () => expect.poll(() => held?.length ?? 0, patient).toBeGreaterThan(0);

  it('leaves the new name of an image as it was typed', async () => {
    // What the sheet needs to open has come before.
    await bench.openSheet(images.at('top.qcow2'), 'move');
    await bench.dismiss();
    held = [];
    await bench.page.locator('.verb-menu-trigger').click();
    await bench.page.getByRole('menuitem', { name: /^Rename or move/ }).click();
    await bench.sheet.waitFor();
    await answered();
    const field = bench.sheet.getByLabel('Path in the datastore');
    await field.fill('typed.qcow2');
    release();
    await bench.sheet.locator('footer button[type=submit]:not(:disabled)').waitFor();
    expect(await field.inputValue()).toBe('typed.qcow2');
    // What was typed and taken away again is not written anew either.
    await field.fill('');
    expect(await field.inputValue()).toBe('');
    await field.fill('typed.qcow2');
    await bench.finish('Move');
    expect(fs.existsSync(images.at('typed.qcow2'))).toBe(true);
    fs.renameSync(images.at('typed.qcow2'), images.at('top.qcow2'));
    await bench.scan();
  });

  it('leaves the format of the image below as it was chosen', async () => {
    const sheet = await bench.openSheet(images.at('top.qcow2'), 'rebase');
    await sheet.locator('footer button[type=submit]').waitFor();
    const below = sheet.getByLabel('New image below');
    const format = sheet.getByLabel('Its format');
    await below.fill(images.at('base.qcow2'));
    await expect.poll(() => format.inputValue(), patient).toBe('qcow2');
    // Another path that is in no datastore has no format that is known.
    await below.fill('/nowhere/disk');
    await expect.poll(() => format.inputValue(), patient).toBe('');
    held = [];
    await below.fill(images.at('base.qcow2'));
    await answered();
    await format.selectOption('raw');
    release();
    // A later question that is answered: the earlier reply has come, too.
    await below.fill(images.at('same.qcow2'));
    await expect.poll(() => bench.command(), patient).toContain('same.qcow2');
    await bench.page.waitForTimeout(300);
    expect(await format.inputValue()).toBe('raw');
  });

  it('shows no comparison of other images than those that are named', async () => {
    const sheet = await bench.openSheet(images.at('base.qcow2'), 'compare');
    const second = sheet.getByLabel('Second image');
    const act = sheet.getByRole('button', { name: 'Compare', exact: true });
    await second.fill(images.at('same.qcow2'));
    held = [];
    await act.click();
    await answered();
    await second.fill(images.at('top.qcow2'));
    release();
    await expect.poll(() => act.isEnabled(), patient).toBe(true);
    expect(await sheet.getByTestId('verdict').count()).toBe(0);
    await act.click();
    await sheet.getByText('The disks hold different content').waitFor();
  });

  it('shows no digest by another algorithm than the one that is chosen', async () => {
    const sheet = await bench.openSheet(images.at('base.qcow2'), 'digest');
    const act = sheet.getByRole('button', { name: 'Digest', exact: true });
    await expect.poll(() => act.isEnabled(), patient).toBe(true);
    held = [];
    await act.click();
    await answered();
    await sheet.getByLabel('Algorithm').selectOption('md5');
    release();
    await expect.poll(() => act.isEnabled(), patient).toBe(true);
    expect(await sheet.getByTestId('digest').count()).toBe(0);
    await act.click();
    await sheet.getByTestId('digest').getByText(/^md5/i).waitFor();
  });
});

// What is selected in the library: it is the images that are selected, not their rows; with keys and mouse, through sorting, filters, and scans.
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'what is selected', () => {
  const folder = scratchFolder('selection');
  const patient = { timeout: 20_000 };
  /** Enough for two pages of the list. */
  const fillers = 260;
  let bench: SheetBench;
  let images: Images;
  let page: Page;

  beforeAll(async () => {
    images = new Images(path.join(folder, 'disks'));
    // By name alpha, beta, gamma, zulu; by what they hold gamma, alpha, zulu, beta.
    const held = { alpha: '2M', beta: '512k', gamma: '4M', zulu: '1M' };
    for (const [name, length] of Object.entries(held)) images.make(`${name}.qcow2`, null, `-P 5 0 ${length}`);
    for (let number = 0; number < fillers; number++) {
      fs.writeFileSync(images.at(`m${String(number).padStart(3, '0')}.img`), Buffer.alloc(512, 1));
    }
    bench = await SheetBench.open(folder, ['disks']);
    await bench.scan();
    ({ page } = bench);
  });
  afterAll(() => bench.close());
  beforeEach(async () => {
    await bench.goTo('#/library');
    await page.reload();
    await page.locator('[role=row]').getByText('alpha.qcow2').waitFor();
  });
  afterEach(async () => {
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  const row = (name: string) => page.locator('[role=row]', { hasText: name });
  const click = (name: string, modifiers: ('Shift' | 'Control')[] = []) =>
    row(name).locator('[role=gridcell]').nth(1).click({ modifiers });
  const head = (name: string) => page.getByRole('columnheader').getByRole('button', { name });
  const told = () => page.getByTestId('selected').textContent();
  const grid = () => page.getByRole('grid', { name: 'Images' });

  /** The selected ones as menus and buttons have them, and as the rows in sight show them. */
  async function selected(...names: string[]): Promise<void> {
    const total = names.length;
    const text = total > 1 ? new RegExp(`^Selected images: ${total} `) : total === 1 ? new RegExp(`${names[0]}$`) : /^/;
    await expect.poll(told, patient).toMatch(text);
    const shown = page.locator('[role=row][aria-selected=true] a.name');
    await expect
      .poll(async () => (await shown.allTextContents()).map((one) => one.trim()).sort(), patient)
      .toEqual(names.toSorted());
  }

  it('one stays selected when the list is put in another order, and is scrolled to', async () => {
    await click('alpha.qcow2');
    await selected('alpha.qcow2');
    await head('Name').click();
    await selected('alpha.qcow2');
    await expect.poll(() => row('alpha.qcow2').getAttribute('aria-rowindex'), patient).toBe(String(fillers + 5));
    await head('On disk').click();
    await expect.poll(() => row('alpha.qcow2').getAttribute('aria-rowindex'), patient).toBe('3');
    await selected('alpha.qcow2');
    await page.keyboard.press('F2');
    await expect.poll(() => bench.sheet.locator('input.mono').inputValue(), patient).toBe('alpha.qcow2');
  });

  it('several stay selected through another order; a filter leaves those that are seen', async () => {
    await head('On disk').click();
    await expect.poll(() => row('gamma.qcow2').getAttribute('aria-rowindex'), patient).toBe('2');
    await click('gamma.qcow2');
    await click('beta.qcow2', ['Control']);
    await click('zulu.qcow2', ['Control']);
    await selected('gamma.qcow2', 'beta.qcow2', 'zulu.qcow2');
    await head('On disk').click();
    await expect.poll(told, patient).toMatch(/^Selected images: 3 /);
    await page.getByRole('searchbox').fill('a.qcow2');
    await selected('gamma.qcow2', 'beta.qcow2');
    await page.getByRole('searchbox').fill('');
    await expect.poll(() => page.getByTestId('total').textContent(), patient).toContain(String(fillers + 4));
    await page.getByRole('searchbox').fill('qcow2');
    await selected('gamma.qcow2', 'beta.qcow2');
  });

  it('a scan that adds and removes images before and among them moves them, and drops what is gone', async () => {
    await click('beta.qcow2');
    await click('gamma.qcow2', ['Control']);
    fs.writeFileSync(images.at('aaa.img'), Buffer.alloc(512, 2));
    await bench.scan();
    await row('aaa.img').waitFor();
    await selected('beta.qcow2', 'gamma.qcow2');
    expect(await row('beta.qcow2').getAttribute('aria-rowindex')).toBe('4');
    fs.rmSync(images.at('aaa.img'));
    await bench.scan();
    await expect.poll(() => row('beta.qcow2').getAttribute('aria-rowindex'), patient).toMatch(/^[34]$/);
    await selected('beta.qcow2', 'gamma.qcow2');
    await click('m000.img');
    await selected('m000.img');
    await page.keyboard.press('Delete');
    await bench.sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await expect.poll(() => row('m000.img').count(), patient).toBe(0);
    expect(fs.existsSync(images.at('m000.img'))).toBe(false);
    await selected();
    expect(await told()).toContain('Choose an image');
    // A second stroke of the key finds nothing to delete.
    await grid().focus();
    await page.keyboard.press('Delete');
    expect(await bench.sheet.count()).toBe(0);
  });

  it('by keys: arrows, Shift for a range, Ctrl to stand without selecting, Space to take in, Escape for one again', async () => {
    await click('alpha.qcow2');
    await page.keyboard.press('Shift+ArrowDown');
    await page.keyboard.press('Shift+ArrowDown');
    await selected('alpha.qcow2', 'beta.qcow2', 'gamma.qcow2');
    await page.keyboard.press('Shift+ArrowUp');
    await selected('alpha.qcow2', 'beta.qcow2');
    await page.keyboard.press('Escape');
    await selected('beta.qcow2');
    await page.keyboard.press('Home');
    await selected('alpha.qcow2');
    await page.keyboard.press('Control+ArrowDown');
    await page.keyboard.press('Control+ArrowDown');
    await selected('alpha.qcow2');
    await page.keyboard.press('Space');
    await selected('alpha.qcow2', 'gamma.qcow2');
    await page.keyboard.press('Space');
    await selected('alpha.qcow2');
    await page.keyboard.press('Control+a');
    await expect.poll(told, patient).toContain('Selected images: 26');
    await page.keyboard.press('End');
    await selected('zulu.qcow2');
    await page.keyboard.press('Home');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'alpha.qcow2' }).waitFor();
  });

  it('the menu key opens the menu of what is selected; Delete names exactly that', async () => {
    await click('beta.qcow2');
    await click('gamma.qcow2', ['Control']);
    await page.keyboard.press('ContextMenu');
    const item = page.getByRole('menuitem', { name: /^Delete/ });
    await item.waitFor();
    const [at, menu] = [await row('gamma.qcow2').boundingBox(), await page.getByRole('menu').boundingBox()];
    expect(Math.abs((menu?.y ?? 0) - (at?.y ?? 0))).toBeLessThan(60);
    await page.keyboard.press('Escape');
    await item.waitFor({ state: 'hidden' });
    await selected('beta.qcow2', 'gamma.qcow2');
    await page.keyboard.press('Shift+F10');
    await item.waitFor();
    await page.keyboard.press('Escape');
    await item.waitFor({ state: 'hidden' });
    await page.keyboard.press('Delete');
    await bench.sheet.getByText(images.at('beta.qcow2')).waitFor();
    await bench.sheet.getByText(images.at('gamma.qcow2')).waitFor();
    expect(await bench.sheet.getByText(images.at('alpha.qcow2')).count()).toBe(0);
  });

  it('letters find an image where they are no verbs, also far down', async () => {
    await page.evaluate(`localStorage.setItem('platter-settings', JSON.stringify({ singleKeys: false }))`);
    await page.reload();
    await row('alpha.qcow2').waitFor();
    await grid().focus();
    await page.keyboard.type('zu');
    await selected('zulu.qcow2');
    await page.waitForTimeout(1000);
    await page.keyboard.type('m2');
    await selected('m200.img');
    await page.waitForTimeout(1000);
    await page.keyboard.press('g');
    await selected('gamma.qcow2');
    await page.evaluate(`localStorage.removeItem('platter-settings')`);
  });
});

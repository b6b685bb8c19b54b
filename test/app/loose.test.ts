// Files that are opened where they lie, in the window: known by themselves, changed like any other, forgotten, taken over by a datastore.
import fs from 'node:fs';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { Images } from './sheet-bench.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow, type Served } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'opened files', () => {
  const folder = scratchFolder('loose-window');
  const patient = { timeout: 20_000 };
  let images: Images;
  let served: Served;
  let browser: Browser;
  let page: Page;
  let faults: string[];

  beforeAll(async () => {
    images = new Images(path.join(folder, 'downloads'));
    for (const name of ['one.qcow2', 'two.qcow2', 'three.qcow2']) images.make(name, null, '-P 5 0 1M');
    fs.writeFileSync(images.at('notes.txt'), 'no image');
    served = await serveWindow(folder);
    browser = await launchBrowser();
    ({ page, faults } = await openWindow(browser, served.url));
    await page.getByRole('heading', { level: 1 }).waitFor();
  });
  afterAll(async () => {
    await browser.close();
    await served.stop();
  });
  afterEach(() => expect(faults.splice(0)).toEqual([]));

  const tree = () => page.getByRole('tree', { name: 'Datastores' });
  const rows = () => page.locator('[role=row][aria-rowindex]:not([aria-rowindex="1"])');
  const store = () => tree().getByRole('treeitem', { name: /downloads/ });
  const button = (name: string) => page.getByRole('button', { name, exact: true });

  async function open(file: string): Promise<void> {
    await page.keyboard.press('o');
    const sheet = page.getByRole('dialog');
    await sheet.getByLabel('Image file').fill(file);
    await sheet.getByText('It lies in no datastore').waitFor();
    await sheet.getByRole('button', { name: 'Open', exact: true }).click();
  }

  async function pick(verb: string | RegExp): Promise<void> {
    await page.locator('.verb-menu-trigger').click();
    await page.getByRole('menuitem', { name: verb }).click();
  }

  it('what is no image is refused in the sheet; an image gets a page of its own, and its folder is not looked through', async () => {
    await open(images.at('notes.txt'));
    const sheet = page.getByRole('dialog');
    await sheet.getByRole('alert').waitFor();
    await page.keyboard.press('Escape');
    await sheet.waitFor({ state: 'hidden' });
    for (const name of ['one.qcow2', 'two.qcow2']) {
      await open(images.at(name));
      await page.getByRole('heading', { level: 1, name }).waitFor();
    }
    await page.getByText('Opened files').first().waitFor();
    await store().click();
    await page.getByRole('heading', { level: 1, name: 'Opened files' }).waitFor();
    await expect.poll(() => rows().count(), patient).toBe(2);
    expect(await rows().getByText('three.qcow2').count()).toBe(0);
    expect(await button('Remove datastore').count()).toBe(0);
  });

  it('is changed in place and that is taken back, like any other image', async () => {
    await rows().getByText('one.qcow2').dblclick();
    await page.getByRole('heading', { level: 1, name: 'one.qcow2' }).waitFor();
    await page.locator('.verb-menu-trigger').click();
    await page.getByRole('menuitem', { name: /^Delete/ }).waitFor();
    expect(await page.getByRole('menuitem', { name: /Take back/ }).count()).toBe(0);
    await page.keyboard.press('Escape');
    await pick(/^Resize/);
    await page.getByRole('dialog').getByLabel('New virtual size').fill('16M');
    await page.getByRole('dialog').locator('footer button[type=submit]').click();
    await page.getByText('Done: Resize').waitFor();
    expect(images.info('one.qcow2')['virtual-size']).toBe(16 * 2 ** 20);
    await pick(/^Take back last change Resize$/);
    await page.getByTestId('would').waitFor();
    await page.getByRole('dialog').locator('footer button[type=submit]:not(:disabled)').click();
    await page.getByText('Done: Take back').waitFor();
    expect(images.info('one.qcow2')['virtual-size']).toBe(8 * 2 ** 20);
    images.qemuImg('check', images.at('one.qcow2'));
  });

  it('is renamed within its folder and stays the same image', async () => {
    await pick(/^Rename/);
    const sheet = page.getByRole('dialog');
    await expect.poll(() => sheet.locator('input.mono').inputValue(), patient).toBe('one.qcow2');
    await sheet.locator('input.mono').fill('renamed.qcow2');
    await sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await page.getByRole('heading', { level: 1, name: 'renamed.qcow2' }).waitFor();
    images.qemuImg('check', images.at('renamed.qcow2'));
  });

  it('is forgotten with what was written to it; its file stays', async () => {
    await page.getByLabel('Name for people').fill('Gold');
    await button('Save').click();
    await page.getByRole('heading', { level: 1, name: 'Gold' }).waitFor();
    await pick('Forget …');
    const dialog = page.getByRole('dialog');
    await dialog.getByText(images.at('renamed.qcow2')).waitFor();
    await dialog.getByText('are lost: 1').waitFor();
    await dialog.getByRole('button', { name: 'Forget', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'All images' }).waitFor();
    await expect.poll(() => rows().count(), patient).toBe(1);
    images.qemuImg('check', images.at('renamed.qcow2'));
    await open(images.at('renamed.qcow2'));
    await page.getByRole('heading', { level: 1, name: 'renamed.qcow2' }).waitFor();
  });

  it('all of a folder are forgotten at once', async () => {
    await store().click();
    await expect.poll(() => rows().count(), patient).toBe(2);
    await button('Forget …').click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('The 2 files').waitFor();
    await dialog.getByRole('button', { name: 'Forget', exact: true }).click();
    await expect.poll(() => store().count(), patient).toBe(0);
    expect(fs.readdirSync(images.folder)).toEqual(expect.arrayContaining(['renamed.qcow2', 'two.qcow2']));
  });

  it('become those of the datastore that their folder is made, with what was written to them', async () => {
    await open(images.at('two.qcow2'));
    await page.getByLabel('Name for people').fill('Kept');
    await button('Save').click();
    await page.getByRole('heading', { level: 1, name: 'Kept' }).waitFor();
    await store().click();
    await button('Make it a datastore').click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByLabel('Folder', { exact: true }).inputValue()).toBe(images.folder);
    await dialog.locator('footer button[type=submit]').click();
    await page.getByRole('heading', { level: 1, name: 'downloads' }).waitFor();
    await rows().getByText('three.qcow2').waitFor();
    await rows().getByText('Kept').waitFor();
    expect(await page.getByText('Opened files').count()).toBe(0);
    expect(await button('Remove datastore').count()).toBe(1);
    await rows().getByText('three.qcow2').click({ button: 'right' });
    await page.getByRole('menuitem', { name: /^Convert/ }).waitFor();
    expect(await page.getByRole('menuitem', { name: 'Forget …' }).count()).toBe(0);
    await page.keyboard.press('Escape');
  });
});

// The shell by the keyboard: palette, keys, menus, several images at once; and the question before files are opened that an image names.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img'], unless: missingWindow() }, 'the shell', () => {
  const folder = quickFolder('palette');
  const [disks, other] = [path.join(folder, 'disks'), path.join(folder, 'other')];
  const inDisks = (name: string): string => path.join(disks, name);
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
  let page: Page;

  const bench = useBench(folder, {
    folders: ['disks', 'other'],
    rule: 'ask',
    prepare() {
      for (const name of ['alpha', 'beta', 'gamma', 'delta', 'epsilon']) {
        qemuImg('create', '-q', '-f', 'qcow2', inDisks(`${name}.qcow2`), '8M');
      }
      qemuImg('create', '-q', '-f', 'qcow2', '-b', 'alpha.qcow2', '-F', 'qcow2', inDisks('overlay.qcow2'));
    },
  });
  beforeAll(async () => {
    ({ page } = bench());
    for (const place of [disks, other]) {
      await page.getByRole('button', { name: 'Add a datastore' }).first().click();
      await page.getByLabel('Folder', { exact: true }).fill(place);
      await page.getByRole('button', { name: 'Add', exact: true }).click();
      await page.getByRole('treeitem', { name: new RegExp(`^${path.basename(place)}`) }).waitFor();
    }
    await page.getByRole('treeitem', { name: 'All images' }).click();
    await page.getByTestId('total').getByText('Images: 6').waitFor();
  });

  const row = (name: string) => page.getByRole('row', { name: `${name}.qcow2` });
  const serious = () => graveFaults(page);

  it('finds images and verbs by the keyboard alone', async () => {
    await page.keyboard.press('Control+k');
    await page.keyboard.type('gam');
    await page.getByRole('option', { name: /gamma\.qcow2/ }).waitFor();
    expect(await serious()).toEqual([]);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'gamma.qcow2' }).waitFor();
    // What is offered now is about the image of the page.
    await page.keyboard.press('Control+k');
    await page.keyboard.type('resize');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Resize' }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await page.keyboard.type('nothing has this name');
    await page.getByText('Nothing is called that').waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('1');
    await page.getByRole('grid').waitFor();
  });

  it('says its keys, and gives up those without Ctrl when told to', async () => {
    await page.keyboard.press('?');
    const keys = page.getByRole('dialog', { name: 'Keyboard' });
    await keys.getByText('Ctrl K').waitFor();
    expect(await serious()).toEqual([]);
    await page.keyboard.press('Escape');
    await page.keyboard.press('4');
    await page.getByLabel('Keys without Ctrl or Cmd do something').uncheck();
    await page.getByRole('heading', { level: 1 }).click();
    await page.keyboard.press('1');
    await page.keyboard.press('n');
    await page.waitForTimeout(150);
    expect(page.url()).toContain('#/settings');
    expect(await page.locator('dialog').count()).toBe(0);
    await page.getByLabel('Keys without Ctrl or Cmd do something').check();
    await page.getByRole('heading', { level: 1 }).click();
    await page.keyboard.press('1');
    await page.getByRole('grid').waitFor();
  });

  it('selects one, a range, some and all, by mouse and by keys', async () => {
    const chosen = async (): Promise<string[]> =>
      page.locator('[role=row][aria-selected=true] .first .name').allTextContents();
    await row('alpha').getByRole('gridcell').nth(2).click();
    await row('delta')
      .getByRole('gridcell')
      .nth(2)
      .click({ modifiers: ['Shift'] });
    expect((await chosen()).map((name) => name.trim())).toEqual(['alpha.qcow2', 'beta.qcow2', 'delta.qcow2']);
    await row('beta')
      .getByRole('gridcell')
      .nth(2)
      .click({ modifiers: ['Control'] });
    expect(await chosen()).toHaveLength(2);
    await page.getByTestId('selected').getByText('Selected images: 2').waitFor();
    await page.keyboard.press('Home');
    await page.keyboard.press('Shift+ArrowDown');
    expect(await chosen()).toHaveLength(2);
    await page.keyboard.press('Control+ArrowDown');
    await page.keyboard.press('Space');
    expect(await chosen()).toHaveLength(3);
    await page.keyboard.press('Control+a');
    await page.getByTestId('selected').getByText('Selected images: 6').waitFor();
    await page.keyboard.press('Escape');
    expect(await chosen()).toHaveLength(1);
  });

  it('tags, checks and deletes several at once', async () => {
    await row('beta').getByRole('gridcell').nth(2).click();
    await row('epsilon')
      .getByRole('gridcell')
      .nth(2)
      .click({ modifiers: ['Control'] });
    await page.keyboard.press('t');
    await page.getByLabel('Tags to add').fill('old, test');
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await row('epsilon').getByRole('link', { name: '#old' }).waitFor();
    await page.keyboard.press('k');
    await page.getByText('Checked, nothing is wrong: 2').waitFor();
    await row('beta').click({ button: 'right' });
    expect(await serious()).toEqual([]);
    await page.getByRole('menuitem', { name: /^Delete/ }).click();
    const sheet = page.getByRole('dialog', { name: 'Delete 2 images' });
    await sheet.getByText(inDisks('beta.qcow2')).waitFor();
    await sheet.getByRole('button', { name: 'Delete' }).click();
    await page.getByTestId('total').getByText('Images: 4').waitFor();
    expect(fs.readdirSync(disks).filter((name) => /beta|epsilon/.test(name))).toEqual([]);
  });

  it('moves images that are dragged onto a datastore', async () => {
    await row('delta').dragTo(page.getByRole('treeitem', { name: /^other/ }));
    const sheet = page.getByRole('dialog', { name: 'Migrate 1 images' });
    expect(await sheet.getByRole('combobox', { name: 'Datastore' }).textContent()).toContain('other');
    await sheet.getByRole('button', { name: 'Migrate' }).click();
    await page.getByText('Done: Migrate').waitFor();
    qemuImg('check', path.join(other, 'delta.qcow2'));
    expect(fs.existsSync(inDisks('delta.qcow2'))).toBe(false);
  });

  it('asks before it opens what an image names: on its page, and for a job', async () => {
    await page.getByRole('link', { name: 'overlay.qcow2', exact: true }).click();
    const box = page.getByRole('region', { name: 'This image names other files' });
    await box.getByText(inDisks('alpha.qcow2')).waitFor();
    expect(await serious()).toEqual([]);
    await page.getByRole('toolbar').getByRole('button', { name: 'Convert' }).click();
    const sheet = page.getByRole('dialog', { name: 'Convert' });
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('raw');
    await sheet.getByLabel('Target', { exact: true }).fill(inDisks('flat.raw'));
    await sheet.getByRole('button', { name: 'Convert' }).click();
    const prompt = page.getByRole('dialog', { name: 'This image names other files' });
    await prompt.getByText(inDisks('alpha.qcow2')).waitFor();
    expect(await serious()).toEqual([]);
    await prompt.getByRole('button', { name: 'Not now' }).click();
    await sheet.getByText('gate/ask').waitFor();
    expect(fs.existsSync(inDisks('flat.raw'))).toBe(false);
    await sheet.getByRole('button', { name: 'Convert' }).click();
    await prompt.getByRole('button', { name: 'Allow once' }).click();
    await page.getByText('Done: Convert').waitFor();
    qemuImg('compare', '-f', 'qcow2', '-F', 'raw', inDisks('overlay.qcow2'), inDisks('flat.raw'));
    // Once is until the window is closed: a new one asks again, and a kept decision stands in the settings.
    await page.reload();
    await box.getByRole('button', { name: 'Allow for this folder' }).click();
    await box.waitFor({ state: 'detached' });
    await page.keyboard.press('4');
    await page.getByText(disks, { exact: true }).waitFor();
    await page.getByRole('button', { name: `Forget the decision about ${disks}` }).click();
    await page.getByText(disks, { exact: true }).waitFor({ state: 'detached' });
    await page.getByLabel('Open layers in the folder of the image').check();
    await page.keyboard.press('1');
    await page.getByRole('link', { name: 'overlay.qcow2', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'overlay.qcow2' }).waitFor();
    await page.waitForTimeout(400);
    expect(await box.count()).toBe(0);
  });
});

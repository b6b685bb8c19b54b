// A server that is started anew while a window is open: the window says what to do, and goes on by itself when it is let in.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow } from './window.ts';

describeWith({ peers: ['chromium'], unless: missingWindow() }, 'a window whose server is started anew', () => {
  it('says so, goes on when the new address was opened, and shows what has changed', async () => {
    const folder = scratchFolder('reconnect');
    const disks = path.join(folder, 'disks');
    fs.mkdirSync(disks);
    fs.writeFileSync(path.join(disks, 'one.raw'), Buffer.alloc(65536, 1));
    const first = await serveWindow(folder);
    const browser = await launchBrowser();
    try {
      const { page } = await openWindow(browser, first.url);
      await page.getByRole('button', { name: 'Add a datastore' }).first().click();
      await page.getByLabel('Folder', { exact: true }).fill(disks);
      await page.getByRole('button', { name: 'Add', exact: true }).click();
      await page.getByTestId('total').getByText('Images: 1').waitFor();
      const { port } = new URL(first.url);
      await first.stop();
      await page.getByText('The connection to Platter is lost').waitFor();
      fs.writeFileSync(path.join(disks, 'two.raw'), Buffer.alloc(65536, 2));
      const second = await serveWindow(folder, ['--port', port]);
      try {
        await page.getByText('Platter was started anew').waitFor();
        const other = await page.context().newPage();
        await other.goto(second.url);
        await other.getByRole('grid').waitFor();
        await page.getByText('Connected to Platter again').waitFor();
        await page.getByTestId('total').getByText('Images: 2').waitFor();
        // Both windows see what one of them does.
        await other.getByRole('row', { name: 'two.raw' }).getByRole('gridcell').nth(2).click();
        await other.keyboard.press('t');
        await other.getByLabel('Tags to add').fill('seen');
        await other.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
        await other.getByRole('link', { name: '#seen' }).waitFor();
        await page.getByRole('link', { name: '#seen' }).waitFor();
        expect(await page.getByText('Platter was started anew').count()).toBe(0);
      } finally {
        await second.stop();
      }
    } finally {
      await browser.close();
    }
  }, 60_000);
});

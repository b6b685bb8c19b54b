// The server is killed while a convert is at work: the job says so, what it left is shown and removed, and it can begin anew.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img'], unless: missingWindow() }, 'a server that was killed', () => {
  const folder = scratchFolder('interrupted');
  const patient = { timeout: 20_000 };

  it('leaves a job that offers to tidy up, or to begin anew', { timeout: 90_000 }, async () => {
    const disks = path.join(folder, 'disks');
    fs.mkdirSync(disks);
    const source = path.join(disks, 'big.raw');
    fs.writeFileSync(source, crypto.randomBytes(256 * 1024 * 1024));
    const first = await serveWindow(folder);
    const browser = await launchBrowser();
    try {
      const { page } = await openWindow(browser, first.url);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.keyboard.press('o');
      await page.getByRole('dialog').getByLabel('Image file').fill(source);
      await page.getByRole('dialog').getByRole('button', { name: 'Open', exact: true }).click();
      await page.getByRole('heading', { level: 1, name: 'big.raw' }).waitFor();
      await page.keyboard.press('c');
      await page.getByRole('checkbox', { name: 'Store compressed' }).check();
      await page.getByRole('dialog').locator('footer button[type=submit]:not(:disabled)').click();
      const partial = (): string[] => fs.readdirSync(disks).filter((name) => name.includes('.partial-'));
      await expect.poll(partial, patient).toHaveLength(1);
      process.kill(first.pid, 'SIGKILL');
      await expect.poll(() => fs.existsSync(path.join(disks, 'big.qcow2'))).toBe(false);

      const second = await serveWindow(folder);
      try {
        const later = await openWindow(browser, second.url);
        await later.page.getByRole('heading', { level: 1 }).waitFor();
        await later.page.evaluate(`location.hash = '#/jobs'`);
        const told = later.page.getByTestId('interrupted');
        await told.getByText(partial()[0] ?? 'none').waitFor();
        await told.getByRole('button', { name: 'Remove what is left' }).click();
        await expect.poll(partial, patient).toEqual([]);
        await told.getByRole('button', { name: 'Begin anew' }).click();
        await expect.poll(() => fs.existsSync(path.join(disks, 'big.qcow2')), { timeout: 50_000 }).toBe(true);
        expect(await told.count()).toBe(0);
        execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', source, path.join(disks, 'big.qcow2')]);
      } finally {
        await second.stop();
      }
    } finally {
      await browser.close();
    }
  });
});

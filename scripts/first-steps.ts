// Makes docs/screenshots/first-steps: the first walk of somebody new through the built window, pictured (needs chromium).
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { walkFirstSteps } from '../test/app/first-steps-walk.ts';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const out = process.argv[2] ?? path.resolve(import.meta.dirname, '../docs/screenshots/first-steps');
const work = path.join(os.tmpdir(), 'platter-first-steps');
fs.rmSync(work, { recursive: true, force: true });
// A person with an empty home: what is proposed there is taken.
const home = path.join(work, 'ada');
fs.mkdirSync(path.join(work, 'kept'), { recursive: true });
fs.mkdirSync(path.join(home, 'Documents'), { recursive: true });
process.env.HOME = home;
fs.mkdirSync(out, { recursive: true });
const served = await serveWindow(path.join(work, 'kept'), [], 'ask');
const browser = await launchBrowser();
try {
  const shown = await openWindow(browser, served.url, { colorScheme: 'light' });
  const { page, faults } = shown;
  await walkFirstSteps(page, path.join(home, 'Documents', 'Platter samples'), async (name) => {
    await page.evaluate(`for (const close of document.querySelectorAll('.toast button')) close.click()`);
    await page.mouse.move(640, 4);
    await page.waitForTimeout(400);
    await page.screenshot({ path: path.join(out, `${name}.png`) });
  });
  if (faults.length > 0) console.log(faults);
  await shown.close();
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(work, { recursive: true, force: true });
}

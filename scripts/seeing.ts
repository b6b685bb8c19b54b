// Makes docs/screenshots/seeing: the walk of docs/seeing.md over images made on the spot (needs chromium, qemu-img and qemu-io).
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeSeenImages, walkChain, walkLeak, walkSnapshots } from '../test/app/seeing-walk.ts';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const project = path.resolve(import.meta.dirname, '..');
const out = path.join(project, 'docs', 'screenshots', 'seeing');
const work = path.join(os.tmpdir(), 'platter-seeing');
const disks = path.join(work, 'disks');

fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(disks, { recursive: true });
fs.mkdirSync(out, { recursive: true });
const images = makeSeenImages(disks);
const env = { ...process.env, PLATTER_CATALOGUE: path.join(work, 'catalogue.db') };
for (const args of [
  ['datastore', 'add', disks],
  ['datastore', 'scan'],
])
  execFileSync(process.execPath, [path.join(project, 'dist', 'cli', 'main.js'), ...args], { env });
const served = await serveWindow(work);
const browser = await launchBrowser();
try {
  const { page } = await openWindow(browser, served.url);
  const shoot = async (name: string): Promise<void> => {
    await page.waitForTimeout(400);
    await page.screenshot({ path: path.join(out, `${name}.png`) });
    console.log(name);
  };
  await walkLeak(page, images, shoot);
  await walkChain(page, shoot);
  await walkSnapshots(page, shoot);
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(work, { recursive: true, force: true });
}

// The graph of 2,000 images in chromium over the real contract: from the click on the tab, from "Open all", and how evenly it moves.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openCatalogue } from '../core/catalogue/catalogue.ts';
import { addDatastore } from '../core/catalogue/datastores.ts';
import { resolveImage } from '../core/catalogue/images.ts';
import { scan } from '../core/catalogue/scan/scan.ts';
import { silentJob } from '../core/job.ts';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const runs = 5;
const middles = 40;
const tops = 49;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-bench-chain-'));
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

/** base ← 40 images ← 49 images each, and 2,001 with the image that was asked for. Names of one length: copies with another name in them. */
function makeImages(): void {
  const disks = path.join(folder, 'disks');
  fs.mkdirSync(disks);
  const create = (name: string, below: readonly string[]): Buffer => {
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...below, name, '1G'], { cwd: disks });
    return fs.readFileSync(path.join(disks, name));
  };
  create('base.qcow2', []);
  const middle = create('mid-00.qcow2', ['-b', 'base.qcow2', '-F', 'qcow2']);
  const top = create('top-00-00.qcow2', ['-b', 'mid-00.qcow2', '-F', 'qcow2']);
  const place = top.indexOf('mid-00.qcow2');
  const two = (n: number): string => String(n).padStart(2, '0');
  for (let i = 0; i < middles; i++) {
    fs.writeFileSync(path.join(disks, `mid-${two(i)}.qcow2`), middle);
    top.write(`mid-${two(i)}`, place, 'latin1');
    for (let k = 0; k < tops; k++) fs.writeFileSync(path.join(disks, `top-${two(i)}-${two(k)}.qcow2`), top);
  }
}

makeImages();
const catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
addDatastore(catalogue, { path: path.join(folder, 'disks'), name: 'disks' });
await scan(catalogue, { datastore: 'disks' }, silentJob);
const id = resolveImage(catalogue, path.join(folder, 'disks', 'top-20-20.qcow2'));
catalogue.close();
const served = await serveWindow(folder);
const browser = await launchBrowser();
const { page, faults } = await openWindow(browser, served.url);
const first: number[] = [];
const all: number[] = [];
const frames: number[] = [];
try {
  for (let run = 0; run < runs; run++) {
    await page.evaluate(`location.hash = '#/library'`);
    await page.evaluate(`location.hash = '#/image/${id}/overview'`);
    const tab = page.locator('a[href$="/chain"]');
    await tab.waitFor();
    // Times are taken in the page: from the click to the second frame after the picture is whole.
    const until = (selector: string, press: string) =>
      page.evaluate<number>(`new Promise((resolve) => {
        const start = performance.now();
        document.querySelector(${JSON.stringify(press)}).click();
        const look = () => document.querySelector(${JSON.stringify(selector)}) === null
          ? requestAnimationFrame(look)
          : requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)));
        look();
      })`);
    first.push(await until(`[data-testid="chain"] [data-node="${id}"]`, 'a[href$="/chain"]'));
    await page.evaluate(
      `[...document.querySelectorAll('[role=toolbar] button')].find((b) => b.textContent === 'Open all').id = 'open-all'`,
    );
    all.push(await until(`[data-testid="chain"][data-count="${1 + middles + middles * tops}"]`, '#open-all'));
    await page.evaluate(
      `(() => { window.times = []; const look = (at) => { window.times.push(at); requestAnimationFrame(look); }; requestAnimationFrame(look); })()`,
    );
    const box = await page.getByTestId('chain').boundingBox();
    if (box === null) throw new Error('there is no picture');
    await page.mouse.move(box.x + 20, box.y + box.height - 20);
    await page.mouse.down();
    for (let step = 0; step < 60; step++)
      await page.mouse.move(box.x + 20 + step * 3, box.y + box.height - 20 - step * 6);
    await page.mouse.up();
    const times = await page.evaluate<number[]>('window.times');
    frames.push(...times.slice(1).map((time, index) => time - (times[index] ?? time)));
  }
  frames.sort((a, b) => a - b);
  const heap = await page.evaluate<number>('performance.memory.usedJSHeapSize');
  console.log(
    `first picture ${median(first).toFixed(0)} ms, all ${1 + middles + middles * tops} laid out ${median(all).toFixed(0)} ms`,
  );
  console.log(
    `p95 frame ${(frames[Math.floor(frames.length * 0.95)] ?? NaN).toFixed(1)} ms, heap ${(heap / 1e6).toFixed(0)} MB`,
  );
  console.log(`load ${os.loadavg()[0]?.toFixed(1)}, faults ${faults.length}`);
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(folder, { recursive: true, force: true });
}

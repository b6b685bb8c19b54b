// How quickly the cluster map comes and moves: chromium over the real contract, very large images made on the spot, medians of five.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const rounds = 5;
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-bench-map-'));
const disks = path.join(work, 'disks');
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const percentile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? Number.NaN;

function makeImages(): void {
  fs.mkdirSync(disks);
  const qemuImg = (...args: string[]): void => void execFileSync('qemu-img', args, { cwd: disks });
  qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', 'full-1T.qcow2', '1T');
  qemuImg('create', '-q', '-f', 'vhdx', 'sparse-64T.vhdx', '64T');
  const env = { ...process.env, PLATTER_CATALOGUE: path.join(work, 'catalogue.db') };
  const cli = path.resolve(import.meta.dirname, '../dist/cli/main.js');
  for (const args of [
    ['datastore', 'add', disks],
    ['datastore', 'scan'],
  ])
    execFileSync(process.execPath, [cli, ...args], { env });
}

/** Milliseconds from the click on the tab to a picture of all cells, and to one that is exact. */
async function timeToMap(page: Page, address: string, view: string): Promise<{ whole: number; exact: number }> {
  await page.evaluate(`location.hash = '#/settings'`);
  await page.waitForTimeout(400);
  return page.evaluate<{ whole: number; exact: number }>(`(async () => {
    const started = performance.now();
    location.hash = ${JSON.stringify(address)};
    let whole = 0;
    for (;;) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const drawn = document.querySelector('[data-testid=map-${view}]')?.dataset.drawn ?? 'nothing';
      if (drawn !== 'nothing' && whole === 0) whole = performance.now() - started;
      if (drawn === 'exact') return { whole, exact: performance.now() - started };
      if (performance.now() - started > 60000) throw new Error('the map is ' + drawn + ' after a minute');
    }
  })()`);
}

/** Intervals between frames while the wheel turns in and out and the map is dragged. */
async function frames(page: Page, view: string): Promise<number[]> {
  const box = await page.getByTestId(`map-${view}`).boundingBox();
  if (box === null) throw new Error('no canvas');
  const recorded = page.evaluate<number[]>(`new Promise((resolve) => {
    const intervals = [];
    let last = performance.now();
    const until = last + 4000;
    const next = (now) => {
      intervals.push(now - last);
      last = now;
      if (now < until) requestAnimationFrame(next);
      else resolve(intervals.slice(1));
    };
    requestAnimationFrame(next);
  })`);
  await page.mouse.move(box.x + box.width / 3, box.y + box.height / 3);
  for (let turn = 0; turn < 24; turn++) {
    await page.mouse.wheel(0, turn < 12 ? -80 : 80);
    await page.waitForTimeout(40);
  }
  await page.mouse.wheel(0, -300);
  await page.mouse.down();
  for (let move = 0; move < 40; move++) {
    await page.mouse.move(box.x + box.width / 3, box.y + box.height / 3 + (move % 20) * 8);
    await page.waitForTimeout(16);
  }
  await page.mouse.up();
  return recorded;
}

makeImages();
const served = await serveWindow(work);
const browser = await launchBrowser();
try {
  const { page } = await openWindow(browser, served.url, { viewport: { width: 1440, height: 900 } });
  const line = (...cells: (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);
  line('map', 'first whole picture', 'exact', 'p95 frame', 'renderer heap');
  line('---', '---', '---', '---', '---');
  for (const [name, view] of [
    ['full-1T.qcow2', 'guest'],
    ['full-1T.qcow2', 'file'],
    ['sparse-64T.vhdx', 'guest'],
  ] as const) {
    await page.evaluate(`location.hash = '#/library'`);
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    const id = /image\/([^/?]+)/.exec(page.url())?.[1] ?? '';
    const address = `#/image/${id}/map?view=${view}`;
    await timeToMap(page, address, view);
    const times: { whole: number; exact: number }[] = [];
    for (let round = 0; round < rounds; round++) times.push(await timeToMap(page, address, view));
    const intervals: number[] = [];
    for (let round = 0; round < 2; round++) intervals.push(...(await frames(page, view)));
    const heap = await page.evaluate<number>('performance.memory.usedJSHeapSize');
    line(
      `${name}, ${view}`,
      `${Math.round(median(times.map(({ whole }) => whole)))} ms`,
      `${Math.round(median(times.map(({ exact }) => exact)))} ms`,
      `${percentile(intervals, 0.95).toFixed(1)} ms`,
      `${Math.round(heap / 1e6)} MB`,
    );
  }
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(work, { recursive: true, force: true });
}

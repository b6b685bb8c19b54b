// How quickly the cluster map and the hex view come and move: chromium over the real contract, very large images made on the spot,
// medians of five; and the memory of the page and of the image's threads.
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

/** Milliseconds between one frame and the next, for so many milliseconds. */
function recordFrames(page: Page, milliseconds: number): Promise<number[]> {
  return page.evaluate<number[]>(`new Promise((resolve) => {
    const intervals = [];
    let last = performance.now();
    const until = last + ${milliseconds};
    const next = (now) => {
      intervals.push(now - last);
      last = now;
      if (now < until) requestAnimationFrame(next);
      else resolve(intervals.slice(1));
    };
    requestAnimationFrame(next);
  })`);
}

/** Intervals between frames while the wheel turns in and out and the map is dragged. */
async function frames(page: Page, view: string): Promise<number[]> {
  const box = await page.getByTestId(`map-${view}`).boundingBox();
  if (box === null) throw new Error('no canvas');
  const recorded = recordFrames(page, 4000);
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

/** Bytes that the server has in memory. */
function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 'NaN';
  return Number(kilobytes) * 1024;
}

/** Intervals between frames while the wheel turns over the bytes from `at` on. */
async function hexFrames(page: Page, id: string, at: number): Promise<number[]> {
  await page.evaluate(`location.hash = '#/image/${id}/hex?view=file&at=0x${at.toString(16)}'`);
  const grid = page.getByRole('grid').first();
  await grid.waitFor();
  await page.waitForTimeout(1500);
  const box = await grid.boundingBox();
  if (box === null) throw new Error('no grid');
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const recorded = recordFrames(page, 3000);
  for (let turn = 0; turn < 60; turn++) {
    await page.mouse.wheel(0, turn % 20 < 15 ? 240 : -240);
    await page.waitForTimeout(40);
  }
  return recorded;
}

/** Offsets in a qcow2: the first L2 table, a table in the middle of the disk, and the end of the file. */
function placesIn(file: string): { readonly name: string; readonly at: number }[] {
  const storage = fs.openSync(file, 'r');
  const word = (at: number): number => {
    const bytes = Buffer.alloc(8);
    fs.readSync(storage, bytes, 0, 8, at);
    return Number(bytes.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
  };
  const l1 = word(40);
  const places = [
    { name: 'first L2 table', at: word(l1) },
    { name: 'L2 table in the middle', at: word(l1 + 1024 * 8) },
    { name: 'end of the file', at: fs.fstatSync(storage).size - 64 * 1024 },
  ];
  fs.closeSync(storage);
  return places;
}

makeImages();
const served = await serveWindow(work);
const browser = await launchBrowser();
try {
  const { page } = await openWindow(browser, served.url, { viewport: { width: 1440, height: 900 } });
  const line = (...cells: (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);
  const idle = residentBytes(served.pid);
  const threads = (): string => `${Math.round((residentBytes(served.pid) - idle) / 1e6)} MB`;
  const open = async (name: string): Promise<string> => {
    await page.evaluate(`location.hash = '#/library'`);
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    return /image\/([^/?]+)/.exec(page.url())?.[1] ?? '';
  };
  line('map', 'first whole picture', 'exact', 'p95 frame', 'renderer heap', 'image threads');
  line('---', '---', '---', '---', '---', '---');
  for (const [name, view] of [
    ['full-1T.qcow2', 'guest'],
    ['full-1T.qcow2', 'file'],
    ['sparse-64T.vhdx', 'guest'],
  ] as const) {
    const id = await open(name);
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
      threads(),
    );
  }
  const full = 'full-1T.qcow2';
  const id = await open(full);
  line('hex, file of the full qcow2', 'p95 frame', 'renderer heap', 'image threads');
  line('---', '---', '---', '---');
  for (const { name, at } of placesIn(path.join(disks, full))) {
    const intervals = await hexFrames(page, id, at);
    const heap = await page.evaluate<number>('performance.memory.usedJSHeapSize');
    line(name, `${percentile(intervals, 0.95).toFixed(1)} ms`, `${Math.round(heap / 1e6)} MB`, threads());
  }
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(work, { recursive: true, force: true });
}

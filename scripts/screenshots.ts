// Makes docs/screenshots: the built window over a collection of images that is made on the spot (needs chromium and qemu-img).
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const project = path.resolve(import.meta.dirname, '..');
const out = path.join(project, 'docs', 'screenshots');
const work = path.join(os.tmpdir(), 'platter-pictures');
const disks = path.join(work, 'disks');
const MiB = 1024 * 1024;

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { cwd: disks, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

/** Raw bytes that compress badly, so that what is stored has a size. */
function fill(name: string, size: number, stretches: readonly (readonly [number, number])[]): void {
  const file = fs.openSync(path.join(disks, name), 'w');
  fs.ftruncateSync(file, size);
  let seed = 7;
  for (const [at, length] of stretches) {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index += 4) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
      bytes.writeInt32LE(seed, index);
    }
    fs.writeSync(file, bytes, 0, length, at);
  }
  fs.closeSync(file);
}

function makeImages(): void {
  fs.mkdirSync(path.join(disks, 'archive'), { recursive: true });
  const image = 'qemu-img';
  fill('scratch.raw', 192 * MiB, [
    [MiB, 24 * MiB],
    [80 * MiB, 12 * MiB],
  ]);
  run(image, 'convert', '-O', 'qcow2', 'scratch.raw', 'debian12-base.qcow2');
  run(image, 'resize', '-q', 'debian12-base.qcow2', '20G');
  run(image, 'snapshot', '-c', 'installed', 'debian12-base.qcow2');
  run(image, 'snapshot', '-c', 'before the upgrade', 'debian12-base.qcow2');
  for (const name of ['web-01', 'web-02', 'db-01']) {
    run(image, 'create', '-q', '-f', 'qcow2', '-b', 'debian12-base.qcow2', '-F', 'qcow2', `${name}.qcow2`);
  }
  run(image, 'convert', '-O', 'vhdx', 'scratch.raw', 'win11-template.vhdx');
  run(image, 'convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'scratch.raw', 'archive/appliance.vmdk');
  run(image, 'convert', '-O', 'vdi', 'scratch.raw', 'archive/lab.vdi');
  run(image, 'convert', '-O', 'vpc', 'scratch.raw', 'archive/old-sap.vhd');
  run(image, 'create', '-q', '-f', 'qcow2', '-b', 'debian12-base.qcow2', '-F', 'qcow2', 'staging.qcow2');
  run(image, 'rebase', '-u', '-f', 'qcow2', '-b', 'debian11-base.qcow2', '-F', 'qcow2', 'staging.qcow2');
  // Two clusters that nothing uses: what a crash leaves behind.
  run('qemu-io', '-c', 'write 0 64k', 'db-01.qcow2');
  fs.copyFileSync(path.join(disks, 'debian12-base.qcow2'), path.join(disks, 'archive', 'crashed.qcow2'));
  const crashed = fs.openSync(path.join(disks, 'archive', 'crashed.qcow2'), 'r+');
  const header = Buffer.alloc(56);
  fs.readSync(crashed, header, 0, 56, 0);
  const table = Buffer.alloc(8);
  fs.readSync(crashed, table, 0, 8, Number(header.readBigUInt64BE(48)));
  const block = Number(table.readBigUInt64BE(0));
  const length = fs.fstatSync(crashed).size;
  for (const cluster of [length / 65536, length / 65536 + 1]) {
    fs.writeSync(crashed, Buffer.from([0, 1]), 0, 2, block + Math.ceil(cluster) * 2);
  }
  fs.ftruncateSync(crashed, length + 4 * 65536);
  fs.closeSync(crashed);
}

type Look = { readonly name: string; readonly scheme: 'light' | 'dark'; readonly locale: string };
const looks: readonly Look[] = [
  { name: 'light', scheme: 'light', locale: 'en-US' },
  { name: 'dark', scheme: 'dark', locale: 'en-US' },
  { name: 'zh-CN', scheme: 'light', locale: 'zh-CN' },
];

async function shoot(page: Page, name: string): Promise<void> {
  await page.mouse.move(640, 4);
  await page.waitForTimeout(300);
  await page.screenshot({ path: path.join(out, `${name}.png`) });
}

fs.mkdirSync(out, { recursive: true });
fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(work);
fs.mkdirSync(disks);
makeImages();
const served = await serveWindow(work);
const browser = await launchBrowser();
try {
  for (const [index, { name, scheme, locale }] of looks.entries()) {
    const shown = await openWindow(browser, served.url, {
      colorScheme: scheme,
      locale,
      viewport: { width: 1280, height: 760 },
    });
    const { page, faults } = shown;
    if (index === 0) {
      await page.getByRole('button', { name: 'Add a datastore' }).first().click();
      await page.getByLabel('Folder', { exact: true }).fill(disks);
      await page.getByRole('button', { name: 'Add', exact: true }).click();
    }
    await page.getByRole('row', { name: 'win11-template.vhdx' }).getByRole('gridcell').nth(2).click();
    await shoot(page, `library-${name}`);
    await page.getByRole('link', { name: 'debian12-base.qcow2', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'debian12-base.qcow2' }).waitFor();
    await shoot(page, `image-${name}`);
    await page.keyboard.press('c');
    await page.locator('dialog').waitFor();
    await page.locator('dialog input.mono').first().fill(path.join(disks, 'debian12-base.qcow2'));
    await page.locator('dialog select').first().selectOption('vhdx');
    await shoot(page, `convert-${name}`);
    if (index === 0) {
      await page.locator('dialog button[type=submit]').click();
      await page.locator('dialog').waitFor({ state: 'detached' });
      await page.keyboard.press('c');
      await page.locator('dialog input.mono').first().fill(path.join(disks, 'nothing-here.qcow2'));
      await page.locator('dialog button[type=submit]').click();
      await page.getByText(/^Failed:/).waitFor();
      await page.locator('.toast.bad button').last().click();
    } else await page.keyboard.press('Escape');
    await page.goto(`${new URL(served.url).origin}/#/library`);
    await page.getByRole('link', { name: 'archive/crashed.qcow2', exact: true }).click();
    await page.locator('nav a').last().click();
    await page.locator('.page button.primary').last().click();
    await page.getByTestId('check-result').waitFor();
    if (index === 0) await shoot(page, `check-${name}`);
    await page.locator('a[href="#/jobs"]').first().click();
    await page.waitForTimeout(6500);
    await shoot(page, `jobs-${name}`);
    await page.locator('a[href="#/problems"]').first().click();
    if (index === 0) await shoot(page, `problems-${name}`);
    if (faults.length > 0) console.log(faults);
    await shown.close();
  }
} finally {
  await browser.close();
  await served.stop();
  fs.rmSync(work, { recursive: true, force: true });
}

// What each platform would say of an image, as the window shows it; the fix in two clicks, its outcome by qemu-img and file facts.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['chromium', 'qemu-img'], unless: missingWindow() }, 'what platforms would say', () => {
  const folder = quickFolder('platforms');
  const disks = path.join(folder, 'disks');
  const inDisks = (name: string): string => path.join(disks, name);
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
  let page: Page;

  const bench = useBench(folder, {
    folders: ['disks'],
    prepare() {
      qemuImg('create', '-q', '-f', 'raw', inDisks('plain.raw'), String(21 * MiB + 512));
      fs.writeSync(fs.openSync(inDisks('plain.raw'), 'r+'), Buffer.alloc(64 * 1024, 'content'), 0, 64 * 1024, 2 * MiB);
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', inDisks('plain.raw'), inDisks('web.qcow2'));
      qemuImg('create', '-q', '-f', 'vpc', '-o', 'subformat=fixed,force_size', inDisks('half.vhd'), String(32.5 * MiB));
    },
  });
  beforeAll(async () => {
    ({ page } = bench());
    await page.getByRole('button', { name: 'Add a datastore' }).first().click();
    await page.getByLabel('Folder', { exact: true }).fill(disks);
    await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByRole('link', { name: 'web.qcow2', exact: true }).waitFor();
  });

  async function openImage(name: string): Promise<Locator> {
    await page.evaluate(`location.hash = '#/library'`);
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    const card = page.getByTestId('platforms');
    await card.locator('tr[data-profile="azure"]').waitFor();
    return card;
  }

  const rowOf = (card: Locator, profile: string): Locator => card.locator(`tr[data-profile="${profile}"]`);

  it('each with its word, why, where that is written down, and nothing to fix where it fits', async () => {
    const card = await openImage('web.qcow2');
    expect(await card.locator('tbody tr').count()).toBe(14);
    expect(await rowOf(card, 'kvm').innerText()).toMatch(/QEMU\/KVM\s+✓ takes it/);
    expect(await rowOf(card, 'kvm').getByRole('button').count()).toBe(0);
    const azure = await rowOf(card, 'azure').innerText();
    expect(azure).toContain('✕ refuses it');
    expect(azure).toContain('It is qcow2. Taken: VHD (fixed).');
    expect(azure).toContain('The disk has 22,020,608 B, not a multiple of 1 MiB.');
    const source = rowOf(card, 'azure').getByRole('link').first();
    expect(await source.getAttribute('href')).toMatch(/^https:\/\/learn\.microsoft\.com\//);
    // No convert makes ext4 of what is no ext4.
    expect(await rowOf(card, 'wsl').getByRole('button').count()).toBe(0);
    expect(await graveFaults(page)).toEqual([]);
    if (process.env.PICTURES !== undefined) await page.screenshot({ path: process.env.PICTURES, fullPage: true });
  });

  it('converts for a platform after it has said what it will make', async () => {
    const card = await openImage('web.qcow2');
    await rowOf(card, 'azure').getByRole('button', { name: 'Microsoft Azure: Convert for it' }).click();
    const dialog = page.getByRole('dialog');
    const text = await dialog.innerText();
    expect(text).toContain(inDisks('web.vhd'));
    expect(text).toContain('22 MiB');
    expect(text).toContain('platter convert -p --verify --profile azure');
    if (process.env.PICTURES !== undefined) {
      await page.screenshot({ path: process.env.PICTURES.replace('.png', '-ask.png') });
    }
    await dialog.getByRole('button', { name: 'Convert', exact: true }).click();
    await expect.poll(() => fs.existsSync(inDisks('web.vhd'))).toBe(true);
    expect(fs.statSync(inDisks('web.vhd')).size).toBe(22 * MiB + 512);
    qemuImg('compare', '-f', 'qcow2', '-F', 'vpc', inDisks('web.qcow2'), inDisks('web.vhd'));
    const made = await openImage('web.vhd');
    expect(await rowOf(made, 'azure').innerText()).toContain('✓ takes it');
  });

  it('resizes where another size is all that is missing', async () => {
    const card = await openImage('half.vhd');
    await rowOf(card, 'azure').getByRole('button', { name: 'Microsoft Azure: Resize' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Resize', exact: true }).click();
    await expect.poll(() => fs.statSync(inDisks('half.vhd')).size).toBe(33 * MiB + 512);
    await rowOf(card, 'azure').getByText('✓ takes it').waitFor();
    expect(qemuImg('info', '-f', 'vpc', inDisks('half.vhd'))).toContain(`(${33 * MiB} bytes)`);
  });

  it('opens the sheet with the platform filled in for those who want to choose more', async () => {
    const card = await openImage('web.qcow2');
    await rowOf(card, 'esxi').getByRole('button').click();
    await page.getByRole('dialog').getByRole('button', { name: 'More options' }).click();
    await page.getByRole('heading', { name: 'Convert an image' }).waitFor();
    expect(await page.getByLabel('Target', { exact: true }).inputValue()).toBe(inDisks('web.vmdk'));
  });
});

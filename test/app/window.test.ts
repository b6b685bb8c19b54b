// The window as a person meets it: each flow in a real browser, and what is on the disk afterwards by qemu-img's verdict.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow, openWindow, serveWindow } from './window.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['chromium', 'qemu-img'], unless: missingWindow() }, 'the window', () => {
  const folder = quickFolder('window');
  const disks = path.join(folder, 'disks');
  const inDisks = (name: string): string => path.join(disks, name);
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
  let page: Page;

  const bench = useBench(folder, {
    folders: ['disks'],
    prepare() {
      const content = Buffer.alloc(3 * MiB, 'the content of a disk ');
      fs.writeFileSync(inDisks('plain.raw'), content);
      fs.truncateSync(inDisks('plain.raw'), 16 * MiB);
      qemuImg('convert', '-O', 'qcow2', inDisks('plain.raw'), inDisks('base.qcow2'));
      qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', inDisks('top.qcow2'));
      qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', inDisks('orphan.qcow2'));
      qemuImg('rebase', '-u', '-f', 'qcow2', '-b', 'lost.qcow2', '-F', 'qcow2', inDisks('orphan.qcow2'));
      // Text, not markup, whatever it looks like.
      fs.copyFileSync(inDisks('base.qcow2'), inDisks('<img src=x onerror=alert(1)> "\'.qcow2'));
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  async function goTo(address: string): Promise<void> {
    await page.evaluate(`location.hash = ${JSON.stringify(address)}`);
  }

  async function openImage(name: string, tab?: string): Promise<void> {
    await goTo('#/library');
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    if (tab !== undefined) await page.getByRole('link', { name: tab, exact: true }).click();
  }

  const seriousFaults = () => graveFaults(page);

  it('says what to do when there is nothing yet', async () => {
    await page.getByRole('heading', { name: 'Where are your disk images?' }).waitFor();
    expect(page.url()).not.toContain('token');
  });

  it('makes a folder a datastore, picked in the list of folders, and lists its images', async () => {
    await page.getByRole('button', { name: 'Add a datastore' }).first().click();
    await page.getByLabel('Folder', { exact: true }).fill(folder);
    await page.getByRole('button', { name: 'Browse' }).click();
    await page.getByRole('button', { name: 'disks' }).click();
    await page.getByTestId('folder').getByText(disks).waitFor();
    await page.getByRole('button', { name: 'Use this folder' }).click();
    await page.getByTestId('command').getByText(`platter datastore add ${disks}`).waitFor();
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByRole('link', { name: 'base.qcow2', exact: true }).waitFor();
    await page.getByTestId('total').getByText('Images: 5').waitFor();
    const orphan = page.getByRole('row', { name: 'orphan.qcow2' });
    expect(await orphan.textContent()).toContain('parent missing');
    expect(await page.getByRole('row', { name: 'onerror' }).textContent()).toContain('<img src=x onerror=alert(1)>');
  });

  it('searches, filters, orders, and goes through the list by the keyboard', async () => {
    await page.keyboard.press('/');
    await page.keyboard.type('qcow2');
    await page.getByTestId('total').getByText('Images: 4').waitFor();
    await page.getByRole('combobox', { name: 'Health' }).selectOption('problem');
    await page.getByTestId('total').getByText('Images: 1').waitFor();
    await page.getByRole('combobox', { name: 'Health' }).selectOption('');
    await page.getByRole('searchbox').fill('');
    await page.getByRole('combobox', { name: 'Format' }).selectOption('raw');
    await page.getByTestId('total').getByText('Images: 1').waitFor();
    await page.getByRole('combobox', { name: 'Format' }).selectOption('');
    await page.getByRole('button', { name: 'On disk' }).click();
    await page
      .getByRole('columnheader', { name: 'On disk', exact: true })
      .and(page.locator('[aria-sort=descending]'))
      .waitFor();
    await page.getByRole('button', { name: 'On disk' }).click();
    await page
      .getByRole('row')
      .nth(1)
      .getByText(/top|orphan/)
      .waitFor();
    await page.getByRole('button', { name: 'Name' }).click();
    await page.getByRole('grid').focus();
    await page.keyboard.press('End');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'top.qcow2' }).waitFor();
    await page.getByRole('link', { name: 'Chain', exact: true }).click();
    const selected = page.getByTestId('chain-selected');
    await selected.getByRole('button', { name: 'base.qcow2', exact: true }).click();
    await selected.getByRole('link', { name: 'Open its page' }).click();
    await page.getByRole('heading', { level: 1, name: 'base.qcow2' }).waitFor();
  });

  it('converts an image, with options and the command that does the same', async () => {
    await openImage('base.qcow2');
    await page.getByRole('toolbar').getByRole('button', { name: 'Convert' }).click();
    const sheet = page.getByRole('dialog');
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('vpc');
    await sheet.getByRole('combobox', { name: 'Kind of file' }).selectOption('fixed');
    await sheet.getByRole('combobox', { name: 'Exact size' }).selectOption('on');
    const command = await sheet.getByTestId('command').textContent();
    expect(command).toBe(
      `platter convert -p --verify -O vpc -o subformat=fixed,force_size=on ${inDisks('base.qcow2')} ${inDisks('base.vhd')}`,
    );
    expect(await seriousFaults()).toEqual([]);
    await sheet.getByRole('button', { name: 'Convert' }).click();
    await page.getByText('Done: Convert').waitFor();
    qemuImg('compare', '-f', 'qcow2', '-F', 'vpc', inDisks('base.qcow2'), inDisks('base.vhd'));
    await goTo('#/library');
    await page.getByRole('link', { name: 'base.vhd', exact: true }).waitFor();
  });

  it('says what is wrong: the sentence, the code, the file', async () => {
    await goTo('#/library');
    await page.keyboard.press('c');
    const sheet = page.getByRole('dialog');
    await sheet.getByLabel('Source', { exact: true }).fill(inDisks('base.qcow2'));
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('raw');
    await sheet.getByLabel('Target', { exact: true }).fill(inDisks('top.qcow2'));
    await sheet.getByRole('button', { name: 'Convert' }).click();
    // What is refused at once is said in the sheet, where everything is still filled in.
    await sheet.getByText('image/target-exists').waitFor();
    expect(await sheet.getByRole('alert').textContent()).toContain(inDisks('top.qcow2'));
    expect(qemuImg('info', inDisks('top.qcow2'))).toContain('backing file: base.qcow2');
    await sheet.getByRole('button', { name: 'Cancel' }).click();
  });

  it('takes a snapshot, goes back to it, deletes it', async () => {
    await openImage('top.qcow2', 'Snapshots');
    await page.getByLabel('Name of the snapshot').fill("today's");
    await page.getByRole('button', { name: 'Take a snapshot' }).click();
    await page.getByTestId('snapshot').getByText("today's").waitFor();
    expect(qemuImg('snapshot', '-l', inDisks('top.qcow2'))).toContain("today's");
    await page.getByRole('button', { name: 'Go back to it' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Go back to it' }).click();
    await page.getByText('Done: Snapshot').nth(1).waitFor();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'No snapshots' }).waitFor();
    expect(qemuImg('snapshot', '-l', inDisks('top.qcow2'))).not.toContain("today's");
    qemuImg('check', inDisks('top.qcow2'));
  });

  it('resizes a disk and takes that back', async () => {
    await openImage('top.qcow2');
    await page.getByRole('toolbar').getByRole('button', { name: 'Resize' }).click();
    await page.getByLabel('New virtual size').fill('64M');
    await page.getByRole('dialog').getByRole('button', { name: 'Resize' }).click();
    await page.getByText('Done: Resize').waitFor();
    expect(qemuImg('info', inDisks('top.qcow2'))).toContain('virtual size: 64 MiB');
    await page.getByRole('button', { name: 'Take back' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click();
    await page.getByText('Done: Take back').waitFor();
    expect(qemuImg('info', inDisks('top.qcow2'))).toContain('virtual size: 16 MiB');
  });

  it('makes an overlay and an empty image', async () => {
    await openImage('base.qcow2');
    await page.getByRole('button', { name: 'New overlay' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Create' }).click();
    await page.getByText('Done: New overlay').waitFor();
    expect(qemuImg('info', inDisks('base-overlay.qcow2'))).toContain('backing file: base.qcow2');
    await page.keyboard.press('n');
    const sheet = page.getByRole('dialog');
    await sheet.getByLabel('Virtual size', { exact: true }).fill('1.5 GiB');
    await sheet.getByLabel('Target', { exact: true }).fill(inDisks('made.qcow2'));
    await sheet.getByLabel('Cluster size').fill('128K');
    await sheet.getByRole('button', { name: 'Create' }).click();
    await page.getByText('Done: Create').waitFor();
    const made = JSON.parse(qemuImg('info', '--output=json', inDisks('made.qcow2'))) as Record<string, unknown>;
    expect([made['virtual-size'], made['cluster-size']]).toEqual([1.5 * 1024 * MiB, 131072]);
  });

  it('estimates what compacting gives before it does it', async () => {
    await openImage('base.vhd');
    await page.getByRole('button', { name: 'Compact' }).click();
    await page.getByRole('button', { name: 'Estimate' }).click();
    await page.getByTestId('estimate').getByText('Stored zeroes').waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  });

  it('checks an image, lists what it found and repairs it', async () => {
    const leaking = inDisks('leaking.qcow2');
    fs.copyFileSync(inDisks('base.qcow2'), leaking);
    const file = fs.openSync(leaking, 'r+');
    const word = Buffer.alloc(8);
    const at = (offset: number): number => {
      fs.readSync(file, word, 0, 8, offset);
      return Number(word.readBigUInt64BE(0));
    };
    const block = at(at(48));
    const cluster = Math.ceil(fs.fstatSync(file).size / 65536);
    fs.writeSync(file, Buffer.from([0, 1]), 0, 2, block + 2 * cluster);
    fs.ftruncateSync(file, (cluster + 1) * 65536);
    fs.closeSync(file);
    await goTo('#/library');
    await page.getByRole('treeitem', { name: 'All images' }).waitFor();
    await page.getByRole('treeitem', { name: /^disks/ }).click();
    await page.getByRole('button', { name: 'Look through now' }).click();
    await openImage('leaking.qcow2', 'Check');
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByTestId('check-result').getByText('Leaked: 1', { exact: false }).waitFor();
    await page.getByRole('button', { name: 'Repair leaks' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Repair' }).click();
    await page.getByText('Nothing is wrong with the structures').waitFor();
    qemuImg('check', leaking);
  });

  it('pauses and cancels a job, which leaves nothing behind', async () => {
    const large = inDisks('large.raw');
    const file = fs.openSync(large, 'w');
    for (let part = 0; part < 96; part += 1) fs.writeSync(file, Buffer.alloc(4 * MiB, `part ${part} `));
    fs.closeSync(file);
    await goTo('#/library');
    await page.keyboard.press('c');
    const sheet = page.getByRole('dialog');
    await sheet.getByLabel('Source', { exact: true }).fill(large);
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('qcow2');
    await sheet.getByLabel('Store compressed').check();
    await sheet.getByRole('button', { name: 'Convert' }).click();
    const job = page.getByTestId('tray-job');
    await job.getByRole('button', { name: 'Pause' }).click();
    await job.getByText('paused').waitFor();
    expect(await seriousFaults()).toEqual([]);
    await job.getByRole('button', { name: 'Resume' }).click();
    await job.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled: Convert').waitFor();
    expect(fs.readdirSync(disks).filter((name) => name.includes('large') && name !== 'large.raw')).toEqual([]);
    await goTo('#/jobs');
    expect(await page.getByTestId('job').first().getAttribute('data-state')).toBe('cancelled');
    fs.rmSync(large);
  });

  it('has no serious fault of accessibility, in light and dark', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      const addresses = colorScheme === 'light' ? ['#/library', '#/jobs', '#/problems', '#/settings'] : ['#/library'];
      for (const address of addresses) {
        await goTo(address);
        await page.waitForTimeout(150);
        expect(await seriousFaults(), `${address} ${colorScheme}`).toEqual([]);
      }
      const tabs = colorScheme === 'light' ? ['Overview', 'Snapshots', 'Chain', 'Check'] : ['Overview'];
      for (const tab of tabs) {
        await openImage('base.qcow2', tab);
        expect(await seriousFaults(), `${tab} ${colorScheme}`).toEqual([]);
      }
    }
    await page.emulateMedia({ colorScheme: null });
  });

  it('speaks Chinese when it is asked to, and remembers that', async () => {
    await goTo('#/settings');
    await page.getByLabel('Language').selectOption('zh-CN');
    await page.getByRole('heading', { level: 1, name: '设置' }).waitFor();
    await page.reload();
    await page.getByRole('heading', { level: 1, name: '设置' }).waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('zh-CN');
    await page.getByRole('treeitem', { name: '所有映像' }).click();
    await page.getByRole('columnheader', { name: '虚拟大小' }).waitFor();
    expect(await seriousFaults()).toEqual([]);
  });

  it('says that the server is gone', async () => {
    const other = await serveWindow(folder);
    const second = await openWindow(bench().browser, other.url);
    await second.page.getByRole('grid').waitFor();
    await other.stop();
    await second.page.getByText('The connection to Platter is lost').waitFor();
    await second.close();
  });
});

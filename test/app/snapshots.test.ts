// Snapshots as a person meets them: taken, looked into, compared, exported, gone back to, deleted; qemu-img says what is in the file.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'snapshots', () => {
  const folder = quickFolder('snapshots-window');
  const disks = path.join(folder, 'disks');
  const disk = path.join(disks, 'disk.qcow2');
  const run = (program: string, ...args: string[]): string =>
    execFileSync(program, args, {
      cwd: disks,
      encoding: 'utf8',
      env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    });
  const names = (): string[] => {
    const told = JSON.parse(run('qemu-img', 'info', '--output=json', disk)) as { snapshots?: { name: string }[] };
    return (told.snapshots ?? []).map(({ name }) => name);
  };
  let page: Page;

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      run('qemu-img', 'create', '-q', '-f', 'qcow2', disk, '16M');
      run('qemu-io', '-c', 'write -P 1 0 1M', disk);
      run('qemu-img', 'snapshot', '-c', 'before', disk);
      run('qemu-io', '-c', 'write -P 2 0 256k', disk);
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  const row = (name: string) => page.getByTestId('snapshot').filter({ hasText: name });
  const toTab = (name: string) => page.getByRole('link', { name, exact: true }).click();
  const expectClean = async (): Promise<void> => {
    expect(await graveFaults(page)).toEqual([]);
  };

  it('are listed with what deleting them gives back, and taken by keys alone', async () => {
    await page.getByRole('link', { name: 'disk.qcow2', exact: true }).click();
    await toTab('Snapshots');
    // The L1 table, its L2 table, and four clusters of 64 KiB that were written anew since.
    await row('before').getByTestId('freed').getByText('384 KiB').waitFor();
    const field = page.getByRole('textbox', { name: 'Name of the snapshot' });
    await field.fill('before');
    await page.getByRole('alert').getByText('There is a snapshot of that name').waitFor();
    expect(await page.getByRole('button', { name: 'Take a snapshot' }).isDisabled()).toBe(true);
    await field.fill('after the update');
    await field.press('Enter');
    await row('after the update').waitFor();
    expect(names()).toEqual(['before', 'after the update']);
    await expectClean();
  });

  it('can be looked into and compared, byte by byte', async () => {
    await page.getByRole('link', { name: 'Show before in Hex' }).click();
    await page.waitForURL((url) => url.hash.includes('view=snapshot%3A1'));
    await page.getByRole('grid').first().getByText('01').first().waitFor();
    await toTab('Snapshots');
    await page.getByRole('checkbox', { name: 'Compare before' }).check();
    await page.getByRole('checkbox', { name: 'Compare The disk as it is now' }).check();
    await page.getByRole('link', { name: 'Compare the two in Hex' }).click();
    await page.getByRole('group', { name: /Compare/ }).waitFor();
    expect(await page.getByRole('combobox', { name: 'Compare with' }).inputValue()).toBe('own:guest');
    await expect.poll(() => page.getByRole('grid').count()).toBe(2);
    await toTab('Snapshots');
  });

  it('can be gone back to after a warning, and deleted', async () => {
    await row('before').getByRole('button', { name: 'Go back to it' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('What was written since is lost').waitFor();
    await dialog.getByText('The change can be taken back').waitFor();
    await expectClean();
    await dialog.getByRole('button', { name: 'Go back to it' }).click();
    // The word of an earlier job may still be on the page: what is on the disk tells that this one is done.
    const asBefore = (): boolean => {
      const args = ['-r', '-c', 'read -P 1 0 1M', disk];
      const { status, stdout } = spawnSync('qemu-io', args, { cwd: disks, encoding: 'utf8' });
      return status === 0 && stdout.includes('read 1048576/1048576') && !stdout.includes('Pattern verification failed');
    };
    await expect.poll(asBefore).toBe(true);
    await row('before').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await expect.poll(() => page.getByTestId('snapshot').count()).toBe(1);
    expect(run('qemu-io', '-r', '-c', 'read -P 1 0 1M', disk)).not.toContain('Pattern verification failed');
    expect(names()).toEqual(['after the update']);
    run('qemu-img', 'check', disk);
  });
});

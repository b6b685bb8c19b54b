// The overview of an image: its sizes against qemu-img's map, who has it open, its header's fields; and a refusal in Chinese.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the overview', () => {
  const folder = quickFolder('overview-window');
  const disks = path.join(folder, 'disks');
  const disk = path.join(disks, 'disk.qcow2');
  const run = (program: string, ...args: string[]): string =>
    execFileSync(program, args, {
      encoding: 'utf8',
      env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    });

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      run('qemu-img', 'create', '-q', '-f', 'qcow2', disk, '1G');
      run('qemu-io', '-c', 'write -P 1 0 3M', '-c', 'write -P 2 512M 1M', '-c', 'write -z 700M 8M', disk);
    },
  });

  it('says how much is referenced, who has the image open, and what stands in its header', async () => {
    const holder = spawn('qemu-io', [disk], { stdio: ['pipe', 'pipe', 'ignore'] });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const shown = await bench().openAnother({ colorScheme: 'dark' });
    const { page } = shown;
    try {
      await page.getByRole('link', { name: 'disk.qcow2', exact: true }).click();
      const mapped = JSON.parse(run('qemu-img', 'map', '-U', '--output=json', disk)) as {
        length: number;
        data: boolean;
      }[];
      const bytes = mapped.reduce((sum, { length, data }) => sum + (data ? length : 0), 0);
      expect(bytes).toBe(4 * 1024 * 1024);
      await page.getByRole('img', { name: /Referenced 4 MiB/ }).waitFor();
      await page.getByTestId('holders').getByText(`qemu-io`).waitFor();
      expect(await page.getByTestId('holders').textContent()).toContain(String(holder.pid));
      await page.getByText('Fields of the header').focus();
      await page.keyboard.press('Enter');
      const fields = page.getByTestId('header-fields');
      await fields.getByRole('row').filter({ hasText: 'cluster_bits' }).getByText('16').waitFor();
      expect(await graveFaults(page)).toEqual([]);
      await fields.getByRole('row').filter({ hasText: 'cluster_bits' }).getByRole('link').click();
      await page.waitForURL((url) => url.hash.includes('hex?view=file&at=0x14'));
      expect(shown.faults).toEqual([]);
    } finally {
      await shown.close();
      holder.kill();
    }
  });

  it('says in Chinese why something was refused', async () => {
    const shown = await bench().openAnother({ locale: 'zh-CN' });
    const { page } = shown;
    try {
      await page.getByRole('link', { name: 'disk.qcow2', exact: true }).click();
      await page.getByRole('link', { name: '检查', exact: true }).click();
      await page.getByRole('button', { name: '立即检查' }).waitFor();
      fs.renameSync(disk, `${disk}.away`);
      await page.getByRole('button', { name: '立即检查' }).click();
      await page.getByRole('alert').getByText('没有那个文件或目录').first().waitFor();
    } finally {
      await shown.close();
    }
  });
});

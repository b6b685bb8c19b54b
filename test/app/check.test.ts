// The check of an image as a person meets it: findings and where they lead, repair on a copy and in place; qemu-img says what is on disk.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the check', () => {
  const folder = quickFolder('check-window');
  const disks = path.join(folder, 'disks');
  const at = (name: string): string => path.join(disks, name);
  const run = (program: string, ...args: string[]): string =>
    execFileSync(program, args, {
      cwd: disks,
      encoding: 'utf8',
      env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    });
  /** 0: nothing is wrong; 2: corrupt; 3: leaks. */
  const verdict = (name: string): number | null => spawnSync('qemu-img', ['check', at(name)]).status;
  let page: Page;
  /** Offset of the first one. */
  let uncounted = 0;

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      run('qemu-img', 'create', '-q', '-f', 'qcow2', 'torn.qcow2', '64M');
      run('qemu-io', '-c', 'write -P 1 0 2M', '-c', 'write -P 2 32M 4M', 'torn.qcow2');
      // Two data clusters are not counted; one cluster more than is used is.
      const torn = fs.openSync(at('torn.qcow2'), 'r+');
      const word = (offset: number): number => {
        const bytes = Buffer.alloc(8);
        fs.readSync(torn, bytes, 0, 8, offset);
        return Number(bytes.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
      };
      const counts = word(word(48));
      uncounted = word(word(word(40)));
      fs.writeSync(torn, Buffer.alloc(4), 0, 4, counts + (uncounted / 65536) * 2);
      const clusters = fs.fstatSync(torn).size / 65536;
      fs.ftruncateSync(torn, (clusters + 1) * 65536);
      fs.writeSync(torn, Buffer.from([0, 1]), 0, 2, counts + clusters * 2);
      fs.closeSync(torn);
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  const findings = () => page.getByTestId('finding');
  const expectClean = async (): Promise<void> => {
    expect(await graveFaults(page)).toEqual([]);
  };

  it('lists what is wrong by severity, with what a repair does, narrowed by words', async () => {
    await page.getByRole('link', { name: 'torn.qcow2', exact: true }).click();
    await page.getByRole('link', { name: 'Check', exact: true }).click();
    await page.getByText('The check reads the tables').waitFor();
    await page.getByRole('button', { name: 'Check now' }).click();
    const result = page.getByTestId('check-result');
    await result.getByText(/^◌ Leaked: \d+/).waitFor();
    const all = await findings().count();
    expect(all).toBe(5);
    const groups = await result.getByRole('rowheader').or(result.locator('tr.group th')).allTextContents();
    expect(groups.map((text) => text.replace(/ ·.*/, ''))).toEqual(['corrupt', 'leaked']);
    await expectClean();
    await page.getByRole('searchbox', { name: 'Filter findings' }).fill(`0x${uncounted.toString(16)}`);
    await result.getByText(/of 5$/).waitFor();
    expect(await findings().count()).toBeLessThan(5);
    await page.getByRole('searchbox').fill('no such words');
    await result.getByText('No finding matches.').waitFor();
    await page.getByRole('searchbox').fill('');
    await page.getByRole('combobox', { name: 'Kind' }).selectOption('leaked');
    expect(await findings().count()).toBeLessThan(all);
    await page.getByRole('combobox', { name: 'Kind' }).selectOption('All kinds');
  });

  it('leads to the bytes of a finding and to its cluster, and knows the findings when it comes back', async () => {
    const offset = `0x${uncounted.toString(16)}`;
    await findings().getByRole('link', { name: offset, exact: true }).click();
    await page.getByRole('grid').first().waitFor();
    await page.waitForURL((url) => url.hash.includes(`hex?view=file&at=${offset}`));
    await page.getByRole('link', { name: 'Check', exact: true }).click();
    await page.getByText(/^Checked on/).waitFor();
    await findings()
      .filter({ hasText: offset })
      .getByRole('link', { name: `Show ${offset} in the map` })
      .click();
    await page.getByRole('table', { name: 'The files' }).or(page.getByTestId('map-file')).first().waitFor();
    await page.getByRole('link', { name: 'Check', exact: true }).click();
  });

  it('repairs a copy, tells what it came to, and opens it; the image is as it was', async () => {
    const bytes = fs.readFileSync(at('torn.qcow2'));
    await page.getByRole('button', { name: 'Repair a copy' }).click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByLabel('Copy', { exact: true }).inputValue()).toBe(at('torn-repaired.qcow2'));
    await dialog.getByText(/will be put right/).waitFor();
    await expectClean();
    await dialog.getByRole('button', { name: 'Repair', exact: true }).click();
    const outcome = page.getByTestId('before-after');
    await outcome.getByText(at('torn-repaired.qcow2')).waitFor();
    expect(verdict('torn-repaired.qcow2')).toBe(0);
    expect(verdict('torn.qcow2')).toBe(2);
    expect(bytes.equals(fs.readFileSync(at('torn.qcow2')))).toBe(true);
    const cells = await outcome.getByRole('row').allInnerTexts();
    expect(cells.slice(1).map((text) => text.split('\t').at(-1))).toEqual(['0', '0', '0']);
    expect(cells[1]?.split('\t')[1]).not.toBe('0');
    await expectClean();
    await outcome.getByRole('button', { name: 'Open the copy' }).click();
    await page.getByRole('heading', { level: 1, name: 'torn-repaired.qcow2' }).waitFor();
    await page.goBack();
    await page.getByRole('heading', { level: 1, name: 'torn.qcow2' }).waitFor();
    // A second copy of the same name is refused and says so.
    await page.getByRole('button', { name: 'Repair a copy' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Repair', exact: true }).click();
    await page.getByText('clone/exists').first().waitFor();
  });

  it('repairs in place by keys alone; the findings are gone, and the repair can be taken back', async () => {
    await page.getByRole('button', { name: 'Repair everything' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').getByText('The change can be taken back').waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Repair', exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.getByText('Nothing is wrong with the structures of this image').waitFor();
    await page.getByTestId('before-after').getByText('The image was repaired').waitFor();
    expect(await findings().count()).toBe(0);
    expect(verdict('torn.qcow2')).toBe(0);
    await expectClean();
    await page.getByTestId('before-after').getByRole('button', { name: 'Take back' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click();
    await page
      .getByText(/^Done: Take back/)
      .first()
      .waitFor();
    expect(verdict('torn.qcow2')).toBe(2);
  });
});

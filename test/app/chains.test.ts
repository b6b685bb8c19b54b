// The page of all chains with 2,000 images: folded, searched, narrowed, walked with the keys; dragging that would make a loop is refused.
import fs from 'node:fs';
import path from 'node:path';
import type { Locator } from 'playwright-core';
import { expect, it } from 'vitest';
import { openCatalogue } from '../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../core/catalogue/datastores.ts';
import { refreshLineage } from '../../core/catalogue/lineage.ts';
import { enterImage } from '../../core/catalogue/scan/rows.ts';
import { statFileNow } from '../../core/catalogue/scan/walk.ts';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

const MiB = 1024 * 1024;
const two = (number: number): string => String(number).padStart(2, '0');
/** Forty bases with seven images each, and six on each of these: 40 × (1 + 7 × 7). Half of the bases lie in each of two datastores. */
const bases = 40;
const middles = 7;
const tops = 6;
const all = bases * (1 + middles * (1 + tops));

describeWith({ peers: ['chromium'], unless: missingWindow() }, 'the page of all chains', () => {
  const folder = quickFolder('chains');
  const patient = { timeout: 20_000 };

  /** Rows as a scan writes them; the folders go afterwards, for what is known of a datastore that cannot be reached stays. */
  function enterImages(): void {
    const catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
    const stores = ['vault', 'bench'].map((name) => {
      const at = path.join(folder, name);
      fs.mkdirSync(at);
      return { at, id: addDatastore(catalogue, { path: at, name }) };
    });
    const enter = (store: { at: string; id: string } | undefined, name: string, parent: string | null): void => {
      if (store === undefined) throw new Error('there is no such datastore');
      const file = path.join(store.at, name);
      fs.writeFileSync(file, '');
      const stat = statFileNow(file);
      if (stat === null) throw new Error(`${file} is not there`);
      const reference = parent === null ? null : { reference: parent, names: [parent], format: 'qcow2', expected: [] };
      enterImage(catalogue.database, store.id, {
        ...{ path: name, stat: { ...stat, length: 65536, allocated: 65536 } },
        described: {
          kind: 'image',
          description: {
            ...{ format: 'qcow2', subformat: null, virtualSize: 1024 * MiB, clusterSize: 65536, encrypted: false },
            ...{ dirty: false, own: null, fingerprint: null, parent: reference, parts: [], snapshots: [] },
            facts: { kind: 'qcow2' },
          },
        },
      });
    };
    catalogue.database.transaction(() => {
      for (let base = 0; base < bases; base += 1) {
        const store = stores[base % 2];
        enter(store, `base-${two(base)}.qcow2`, null);
        for (let middle = 0; middle < middles; middle += 1) {
          const name = `mid-${two(base)}-${middle}.qcow2`;
          enter(store, name, `base-${two(base)}.qcow2`);
          for (let top = 0; top < tops; top += 1) enter(store, `top-${two(base)}-${middle}-${top}.qcow2`, name);
        }
      }
    });
    enter(stores[0], 'alone.qcow2', null);
    enter(stores[0], 'orphan.qcow2', 'lost.qcow2');
    refreshLineage(catalogue);
    catalogue.close();
    for (const { at } of stores) fs.rmSync(at, { recursive: true });
  }

  const bench = useBench(folder, { prepare: enterImages, context: { viewport: { width: 1440, height: 900 } } });
  const nodes = (): Locator => bench().page.getByTestId('chain').locator('button[data-node]');
  const node = (name: string): Locator => nodes().filter({ hasText: name });
  const panel = (): Locator => bench().page.getByTestId('chain-selected');
  const placed = async (): Promise<number> =>
    Number(await bench().page.getByTestId('chain').getAttribute('data-count'));
  const button = (name: string): Locator => bench().page.getByRole('button', { name, exact: true });

  async function openPage(): Promise<void> {
    await bench().goTo('#/library');
    await bench().page.getByRole('link', { name: 'Chains' }).click();
    await nodes().first().waitFor();
  }

  it('shows every image that has a relative, folded, and all of them when asked', async () => {
    const { page } = bench();
    const began = Date.now();
    await openPage();
    const first = Date.now() - began;
    await page.getByTestId('chains-count').getByText('2,002 images in 41 chains').waitFor();
    expect(await placed()).toBe(bases + 1);
    expect(await node('alone.qcow2').count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Chains' }).getAttribute('aria-current')).toBe('page');
    const opened = Date.now();
    await button('Open all').click();
    await expect.poll(placed, patient).toBe(all + 2);
    const laidOut = Date.now() - opened;
    console.log(`chains: first picture ${first} ms, all ${all + 2} images ${laidOut} ms`);
    expect(laidOut).toBeLessThan(6000);
    // Only what is in sight is drawn, whatever there is.
    expect(await nodes().count()).toBeLessThan(200);
    await button('Close all').click();
    await expect.poll(placed, patient).toBe(bases + 1);
  });

  it('finds an image in what is folded, and its address leads back to it', async () => {
    const { page } = bench();
    await openPage();
    await button('Close all').click();
    await page.getByTestId('chain').locator('button[data-node]').first().focus();
    await page.keyboard.press('/');
    await page.keyboard.type('top-31-4-5');
    await page.getByText('1 found').waitFor();
    await page.keyboard.press('Enter');
    await panel().getByRole('heading', { name: 'top-31-4-5.qcow2' }).waitFor();
    await node('top-31-4-5.qcow2').waitFor();
    // What it stands on was opened, and of the others nothing.
    expect(await placed()).toBe(bases + 1 + middles + tops);
    await panel().getByRole('button', { name: 'mid-31-4.qcow2' }).click();
    await panel().getByRole('heading', { name: 'mid-31-4.qcow2' }).waitFor();
    await panel().getByRole('link', { name: 'Open its page' }).click();
    await page.getByRole('heading', { level: 1, name: 'mid-31-4.qcow2' }).waitFor();
    await page.keyboard.press('Alt+ArrowLeft');
    await panel().getByRole('heading', { name: 'mid-31-4.qcow2' }).waitFor();
    await node('mid-31-4.qcow2').waitFor();
    await node('mid-31-4.qcow2').dblclick();
    await page.getByRole('heading', { level: 1, name: 'mid-31-4.qcow2' }).waitFor();
    await page.goto(`${page.url().replace(/#.*/, '')}${await chainsAddress('mid-31-4.qcow2')}`);
    await node('mid-31-4.qcow2').waitFor();
  });

  /** From the tab Chain of the image that is open. */
  async function chainsAddress(name: string): Promise<string> {
    const { page } = bench();
    await page.locator('a[href$="/chain"]').click();
    await node(name).waitFor();
    await button('All chains').click();
    await page.getByTestId('chains-count').waitFor();
    await node(name).waitFor();
    await panel().getByRole('heading', { name }).waitFor();
    return new URL(page.url()).hash;
  }

  it('narrows to a datastore, to what is broken, and to one chain', async () => {
    const { page } = bench();
    await openPage();
    await button('Close all').click();
    const store = page.getByRole('combobox', { name: 'Chains with an image in' });
    await store.selectOption('bench');
    await expect.poll(placed, patient).toBe(bases / 2);
    await page.getByRole('checkbox', { name: 'With something broken' }).check();
    await page.getByText('No such chain').waitFor();
    await store.selectOption({ label: 'All datastores' });
    await node('lost.qcow2').waitFor();
    expect(await placed()).toBe(1);
    await button('Show 1 more').click();
    await node('orphan.qcow2').waitFor();
    await page.getByRole('checkbox', { name: 'With something broken' }).uncheck();
    await expect.poll(placed, patient).toBe(bases + 2);
    await page.getByRole('searchbox').fill('base-07');
    await page.keyboard.press('Enter');
    await panel().getByRole('heading', { name: 'base-07.qcow2' }).waitFor();
    await button('Only this chain').click();
    await expect.poll(placed, patient).toBe(1);
    await button('Open all').click();
    await expect.poll(placed, patient).toBe(1 + middles * (1 + tops));
    // What is not in sight is searched again once everything is shown.
    await page.getByRole('searchbox').fill('base-08');
    await page.getByText('0 found').waitFor();
    await button('Only this chain').click();
    await page.getByText('1 found').waitFor();
  });

  it('is walked with the keys; what is opened stays where it is', async () => {
    const { page } = bench();
    await openPage();
    await button('Close all').click();
    await page.getByRole('searchbox').fill('base-05');
    await page.keyboard.press('Enter');
    await panel().getByRole('heading', { name: 'base-05.qcow2' }).waitFor();
    await node('base-05.qcow2').focus();
    await page.waitForTimeout(400); // the picture has come to rest
    const before = await node('base-05.qcow2').boundingBox();
    await page.keyboard.press('Space');
    await expect.poll(placed, patient).toBe(bases + 1 + middles);
    await page.waitForTimeout(100);
    const after = await node('base-05.qcow2').boundingBox();
    expect(Math.abs((after?.y ?? NaN) - (before?.y ?? NaN))).toBeLessThan(2);
    await page.keyboard.press('ArrowRight');
    await panel().getByRole('heading', { name: 'mid-05-0.qcow2' }).waitFor();
    await page.keyboard.press('ArrowDown');
    await panel().getByRole('heading', { name: 'mid-05-1.qcow2' }).waitFor();
    await page.keyboard.press('ArrowLeft');
    await panel().getByRole('heading', { name: 'base-05.qcow2' }).waitFor();
    await page.keyboard.press('ArrowDown');
    await expect.poll(() => panel().getByRole('heading').first().innerText(), patient).not.toBe('base-05.qcow2');
    await page.keyboard.press('5');
    await page.keyboard.press('Control+k');
    await page.keyboard.type('chains');
    await page.getByRole('option', { name: /Chains/ }).waitFor();
  });

  it('says why an image cannot stand on one that stands on it', async () => {
    const { page } = bench();
    await openPage();
    await button('Close all').click();
    await page.getByRole('searchbox').fill('mid-09-3');
    await page.keyboard.press('Enter');
    await node('mid-09-3.qcow2').waitFor();
    await button('Only this chain').click();
    await page.waitForTimeout(500); // the picture has come to rest
    const drag = async (name: string, onto: string, mark: string): Promise<void> => {
      const [from, to] = [await node(name).boundingBox(), await node(onto).boundingBox()];
      if (from === null || to === null) throw new Error('the nodes are not shown');
      await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
      await page.mouse.down();
      await page.mouse.move(from.x + 10, from.y + 10, { steps: 4 });
      await page.mouse.move(to.x + to.width / 2, to.y + to.height / 2, { steps: 12 });
      await page.locator(mark).waitFor();
      await page.mouse.up();
    };
    await drag('base-09.qcow2', 'mid-09-3.qcow2', '.image.refused');
    await page
      .getByText(
        'base-09.qcow2 cannot stand on mid-09-3.qcow2, which stands on it: the chain would come back to itself.',
      )
      .waitFor();
    await drag('mid-09-3.qcow2', 'base-09.qcow2', '.image.refused');
    await page.getByText('mid-09-3.qcow2 stands on base-09.qcow2 already.').waitFor();
    expect(await page.getByRole('dialog').count()).toBe(0);
    await expect.poll(() => page.locator('.image.refused').count(), patient).toBe(0);
  });

  it('is in Chinese too, and has nothing that axe objects to in both themes', async () => {
    const { page } = bench();
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await openPage();
      await page.waitForTimeout(400); // colours that fade
      expect(await graveFaults(page, { all: true })).toEqual([]);
    }
    const chinese = await bench().openAnother({ locale: 'zh-CN' });
    await chinese.page.getByRole('link', { name: '链', exact: true }).click();
    await chinese.page.getByTestId('chains-count').getByText('41 条链，共 2,002 个映像').waitFor();
    expect(chinese.faults).toEqual([]);
    await chinese.close();
  });
});

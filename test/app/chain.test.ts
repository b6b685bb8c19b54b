// The chain tab: states, ghosts and broken edges as they are on the disk; keys, search, sectors, and re-parenting with qemu-img's verdict.
import fs from 'node:fs';
import path from 'node:path';
import type { Locator } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../core/catalogue/catalogue.ts';
import { resolveImage } from '../../core/catalogue/images.ts';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { graveFaults } from './grave-faults.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the chain of an image', () => {
  const folder = quickFolder('chain');
  const patient = { timeout: 30_000 };
  let bench: SheetBench;
  let images: Images;
  let catalogue: Catalogue;
  const over = (name: string, base: string, format = 'qcow2'): void => {
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', format, name);
  };

  beforeAll(async () => {
    fs.mkdirSync(path.join(folder, 'disks'));
    fs.mkdirSync(path.join(folder, 'nas'));
    bench = await SheetBench.open(folder, ['disks', 'nas']);
    images = new Images(path.join(folder, 'disks'));
    catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
    images.qemuImg('create', '-q', '-f', 'vmdk', 'base.vmdk', '8M');
    over('mid.qcow2', 'base.vmdk', 'vmdk');
    over('other.qcow2', 'base.vmdk', 'vmdk');
    over('top.qcow2', 'mid.qcow2');
    over('../nas/far.qcow2', '../disks/mid.qcow2');
    images.qemuIo('mid.qcow2', 'write -P 2 1M 64k');
    images.qemuImg('snapshot', '-c', 'kept', 'mid.qcow2');
    images.qemuImg('create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', 'stale.vmdk');
    images.qemuIo('base.vmdk', 'write -P 1 0 64k');
    images.make('gone.qcow2', null, '-P 7 0 1M');
    over('orphan.qcow2', 'gone.qcow2');
    await bench.scan();
    fs.renameSync(images.at('gone.qcow2'), path.join(folder, 'nas', 'found.qcow2'));
    await bench.scan();
    await bench.page.setViewportSize({ width: 1440, height: 900 });
  });
  afterAll(async () => {
    catalogue.close();
    await bench.close();
  });
  afterEach(async () => {
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  const idOf = (name: string): string => resolveImage(catalogue, images.at(name));
  const nodes = (): Locator => bench.page.getByTestId('chain').locator('button[data-node]');
  const node = (name: string): Locator => nodes().filter({ hasText: name });
  const panel = (): Locator => bench.page.getByTestId('chain-selected');

  async function openChain(name: string): Promise<void> {
    await bench.goTo('#/library');
    await bench.goTo(`#/image/${idOf(name)}/chain`);
    await node(name).waitFor();
  }

  it('shows every relative, its state, its snapshots, and why a reference is broken', async () => {
    await openChain('top.qcow2');
    await expect.poll(() => nodes().count(), patient).toBe(6);
    const names = (await nodes().allInnerTexts()).map((text) => text.split('\n')[0]).sort();
    expect(names).toEqual(['base.vmdk', 'far.qcow2', 'mid.qcow2', 'other.qcow2', 'stale.vmdk', 'top.qcow2']);
    const edges = bench.page.locator('.svelte-flow__edge');
    expect(await edges.count()).toBe(5);
    expect(await bench.page.locator('.svelte-flow__edge.broken').count()).toBe(1);
    await bench.page.getByText('✕ parent has changed').first().waitFor();
    await bench.page.getByTestId('chain').getByText('◦ kept').waitFor();
    // Bases stand left of what stands on them.
    const [base, mid, top] = await Promise.all(
      ['base.vmdk', 'mid.qcow2', 'top.qcow2'].map(async (name) => (await node(name).boundingBox())?.x ?? NaN),
    );
    expect(base).toBeLessThan(mid ?? 0);
    expect(mid).toBeLessThan(top ?? 0);
    await node('stale.vmdk').click();
    await panel()
      .getByText(/The parent has changed: [0-9a-f]{8} was expected, [0-9a-f]{8} was found/)
      .waitFor();
    await node('mid.qcow2').click();
    await panel().getByRole('button', { name: 'far.qcow2' }).waitFor();
    const held = images.info('mid.qcow2')['actual-size'] as number;
    await panel()
      .getByText(`holds ${held / 1024} KiB`)
      .waitFor();
  });

  it('is walked with the keys, searched, and opens pages', async () => {
    await openChain('top.qcow2');
    await node('top.qcow2').focus();
    await bench.page.keyboard.press('ArrowLeft');
    await expect.poll(() => bench.page.locator(':focus').innerText(), patient).toContain('mid.qcow2');
    await bench.page.keyboard.press('ArrowLeft');
    await expect.poll(() => bench.page.locator(':focus').innerText(), patient).toContain('base.vmdk');
    await bench.page.keyboard.press('Space');
    await expect.poll(() => nodes().count(), patient).toBe(1);
    await bench.page.getByRole('button', { name: 'Show 5 more' }).waitFor();
    await bench.page.keyboard.press('ArrowRight');
    await expect.poll(() => nodes().count(), patient).toBe(6);
    await expect.poll(() => bench.page.locator(':focus').innerText(), patient).not.toContain('base.vmdk');
    await node('base.vmdk').focus();
    await bench.page.keyboard.press('Shift+F10');
    await bench.page.getByRole('menuitem', { name: /^New overlay/ }).waitFor();
    await bench.page.keyboard.press('Escape');
    await node('base.vmdk').focus();
    await bench.page.keyboard.press('/');
    await bench.page.keyboard.type('far');
    await bench.page.getByText('1 found').waitFor();
    await bench.page.keyboard.press('Enter');
    await panel().getByRole('heading', { name: 'far.qcow2' }).waitFor();
    await node('far.qcow2').dblclick();
    await bench.page.getByRole('heading', { level: 1, name: 'far.qcow2' }).waitFor();
  });

  it('says which layer supplies a sector, and leads to it in Hex', async () => {
    await openChain('top.qcow2');
    await bench.page.getByLabel('Sector or place').fill('2048');
    await bench.page.getByRole('button', { name: 'Who supplies it?' }).click();
    await bench.page.getByTestId('supplier').getByText('mid.qcow2 supplies it, 1 below').waitFor();
    expect(await node('mid.qcow2').innerText()).toContain('supplies it');
    const map = JSON.parse(images.qemuImg('map', '--output=json', 'top.qcow2')) as {
      readonly start: number;
      readonly depth: number;
      readonly offset?: number;
    }[];
    const entry = map.find(({ start }) => start === 1024 * 1024);
    expect(entry?.depth).toBe(1);
    const shown = await bench.page.getByTestId('supplier').innerText();
    expect(shown).toContain(`0x${(entry?.offset ?? 0).toString(16)}`);
    const link = bench.page.getByTestId('supplier').getByRole('link');
    expect(await link.getAttribute('href')).toBe(`#/image/${idOf('mid.qcow2')}/hex?view=guest&at=0x100000`);
    await bench.page.getByLabel('Sector or place').fill('4M');
    await bench.page.keyboard.press('Enter');
    await bench.page.getByText('No layer holds it').waitFor();
  });

  it('puts an image on another one by dragging it there', async () => {
    const content = images.keepContent('top.qcow2');
    await openChain('top.qcow2');
    await bench.page.waitForTimeout(400); // the picture has come to rest
    const from = await node('top.qcow2').boundingBox();
    const to = await node('other.qcow2').boundingBox();
    if (from === null || to === null) throw new Error('the nodes are not shown');
    const { mouse } = bench.page;
    await mouse.move(from.x + from.width / 2, from.y + from.height / 2);
    await mouse.down();
    await mouse.move(from.x, from.y, { steps: 4 });
    await mouse.move(to.x + to.width / 2, to.y + to.height / 2, { steps: 12 });
    await bench.page.locator('.image.drop').waitFor();
    await mouse.up();
    await bench.sheet.waitFor();
    expect(await bench.sheet.getByLabel('New image below').inputValue()).toBe(images.at('other.qcow2'));
    await bench.sheet.getByTestId('preview').getByText('stands elsewhere').waitFor();
    await bench.finish('Rebase');
    expect(images.info('top.qcow2')['full-backing-filename']).toBe(images.at('other.qcow2'));
    images.same(content, 'top.qcow2');
    await expect
      .poll(
        () => bench.page.locator('.svelte-flow__edge[aria-label^="top.qcow2 stands on other.qcow2"]').count(),
        patient,
      )
      .toBe(1);
  });

  it('shows a parent that is lost as a ghost, finds it and puts it back', async () => {
    await openChain('orphan.qcow2');
    await node('gone.qcow2').click();
    await bench.page.locator('.image.ghost').waitFor();
    await panel().getByRole('button', { name: 'Look for the parent' }).click();
    await panel()
      .getByText(path.join(folder, 'nas', 'found.qcow2'))
      .waitFor();
    await expect
      .poll(async () => (await panel().getByTestId('preview').innerText()).replaceAll(/\s+/g, ' '), patient)
      .toBe('Now gone.qcow2 └ orphan.qcow2 Afterwards found.qcow2 └ orphan.qcow2 ↪ is told');
    await panel().getByRole('button', { name: 'Use this one' }).click();
    await expect
      .poll(
        // -U: the job may still have it open.
        () =>
          (JSON.parse(images.qemuImg('info', '-U', '--output=json', 'orphan.qcow2')) as Record<string, unknown>)[
            'full-backing-filename'
          ],
        patient,
      )
      .toBe(path.join(folder, 'nas', 'found.qcow2'));
    await node('found.qcow2').waitFor();
    await expect.poll(() => bench.page.locator('.svelte-flow__edge.broken').count(), patient).toBe(0);
  });

  it('has nothing that axe objects to, in both themes', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await bench.page.emulateMedia({ colorScheme });
      await openChain('mid.qcow2');
      await panel().getByRole('button', { name: 'Rebase' }).waitFor();
      await bench.page.waitForTimeout(400); // colours that fade
      expect(await graveFaults(bench.page, { all: true })).toEqual([]);
    }
  });
});

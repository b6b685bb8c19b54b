// Every sheet on real images: what is asked before, and what is on the disk afterwards by qemu-img's verdict.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the sheets', () => {
  const folder = quickFolder('sheets');
  let bench: SheetBench;
  let images: Images;
  let number = 0;
  const patient = { timeout: 30_000 };
  const other = new Images(path.join(folder, 'other'));

  beforeAll(async () => {
    fs.mkdirSync(path.join(folder, 'disks'));
    bench = await SheetBench.open(folder, ['disks', 'other']);
  });
  afterAll(() => bench.close());
  beforeEach(() => {
    // Images of one test do not stand in the way of the next.
    number += 1;
    images = new Images(path.join(folder, 'disks', String(number)));
  });
  afterEach(async () => {
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  /** base ← middle ← top, each with something of its own. */
  async function makeChain(): Promise<{ readonly middle: string; readonly top: string }> {
    images.make('base.qcow2', null, '-P 1 0 4M');
    images.make('middle.qcow2', 'base.qcow2', '-P 2 1M 1M');
    images.make('top.qcow2', 'middle.qcow2', '-P 3 2M 1M');
    await bench.scan();
    return { middle: images.keepContent('middle.qcow2'), top: images.keepContent('top.qcow2') };
  }

  it('commit into the image below, or past it', async () => {
    const { top } = await makeChain();
    let sheet = await bench.openSheet(images.at('top.qcow2'), 'commit');
    await sheet.getByTestId('what').getByText(images.at('middle.qcow2')).waitFor();
    await bench.finish('Commit');
    images.same(top, 'middle.qcow2');
    images.same(top, 'top.qcow2');
    expect(images.info('top.qcow2')['actual-size']).toBeLessThan(500_000);
    images.qemuIo('top.qcow2', 'write -P 4 3M 64k');
    const later = images.keepContent('top.qcow2');
    sheet = await bench.openSheet(images.at('top.qcow2'), 'commit');
    await sheet.getByLabel('Into').selectOption({ label: 'base.qcow2' });
    expect(await bench.command()).toContain(`-b ${images.at('base.qcow2')}`);
    await sheet.getByText('middle.qcow2', { exact: false }).last().waitFor();
    await bench.finish('Commit');
    images.same(later, 'base.qcow2');
    images.qemuImg('check', images.at('base.qcow2'));
  });

  it('merge an image into its parent; what stood on it stands there', async () => {
    const { top } = await makeChain();
    const sheet = await bench.openSheet(images.at('middle.qcow2'), 'merge');
    await expect
      .poll(async () => (await sheet.getByTestId('preview').innerText()).replaceAll(/\s+/g, ' '), patient)
      .toBe(
        'Now base.qcow2 └ middle.qcow2 └ top.qcow2 Afterwards base.qcow2 ▼ takes the content └ top.qcow2 ↪ is told',
      );
    await sheet.getByText('There is no way back').waitFor();
    await bench.finish('Merge');
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(false);
    expect(images.info('top.qcow2')['backing-filename']).toBe('base.qcow2');
    images.same(top, 'top.qcow2');
  });

  it('merge by flattening: the image stands on its own', async () => {
    const { top } = await makeChain();
    const sheet = await bench.openSheet(images.at('top.qcow2'), 'merge');
    await sheet.getByLabel('Flatten').check();
    await bench.finish('Rebase');
    expect(images.info('top.qcow2')['backing-filename']).toBeUndefined();
    images.same(top, 'top.qcow2');
  });

  it('rebase onto another image, with the content kept, and by the link only', async () => {
    const { top } = await makeChain();
    const sheet = await bench.openSheet(images.at('top.qcow2'), 'rebase');
    await sheet.getByText(images.at('middle.qcow2')).waitFor();
    await sheet.getByLabel('New image below').fill(images.at('base.qcow2'));
    const line = `platter rebase -p -b base.qcow2 -F qcow2 ${images.at('top.qcow2')}`;
    await expect.poll(() => bench.command(), patient).toBe(line);
    await bench.finish('Rebase');
    expect(images.info('top.qcow2')['backing-filename']).toBe('base.qcow2');
    images.same(top, 'top.qcow2');
    fs.renameSync(images.at('base.qcow2'), images.at('moved.qcow2'));
    await bench.scan();
    const again = await bench.openSheet(images.at('top.qcow2'), 'rebase');
    await again.getByLabel('New image below').fill(images.at('moved.qcow2'));
    await again.getByLabel('Change the link only').check();
    await again.getByText('moved or renamed').waitFor();
    await expect.poll(() => bench.command(), patient).toContain('-u -b moved.qcow2 -F qcow2');
    await bench.finish('Rebase');
    expect(images.info('top.qcow2')['backing-filename']).toBe('moved.qcow2');
    images.same(top, 'top.qcow2');
  });

  it('migrate a chain to another datastore and format, and tell who stands on it', async () => {
    const { middle, top } = await makeChain();
    const sheet = await bench.openSheet(images.at('middle.qcow2'), 'migrate');
    await sheet.getByLabel('To the datastore').selectOption('other');
    await sheet.getByLabel('What it stands on moves too').check();
    await sheet.getByText('told where it is then: 1').waitFor();
    await sheet.getByText('are free there').waitFor();
    await bench.finish('Migrate');
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(false);
    expect(fs.existsSync(images.at('base.qcow2'))).toBe(false);
    other.same(middle, 'middle.qcow2');
    images.same(top, 'top.qcow2');
    expect(images.info('top.qcow2')['backing-filename']).toBe(other.at('middle.qcow2'));
  });

  it('rename an image; its children are told', async () => {
    const { top } = await makeChain();
    const sheet = await bench.openSheet(images.at('middle.qcow2'), 'move');
    await sheet.getByLabel('Path in the datastore').fill(`${number}/sub/renamed.qcow2`);
    await bench.finish('Move');
    expect(images.info('top.qcow2')['full-backing-filename']).toBe(images.at('sub/renamed.qcow2'));
    images.same(top, 'top.qcow2');
  });

  it('delete only with a consent while others stand on the image', async () => {
    await makeChain();
    const sheet = await bench.openSheet(images.at('middle.qcow2'), 'delete');
    await sheet.getByTestId('dependents').getByText(images.at('top.qcow2')).waitFor();
    expect(await sheet.getByRole('button', { name: 'Delete', exact: true }).isDisabled()).toBe(true);
    await sheet.getByLabel('Delete it although').check();
    expect(await bench.command()).toBe(`platter image delete --force ${images.at('middle.qcow2')}`);
    await bench.finish('Delete');
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(false);
    await expect.poll(() => bench.page.url(), patient).toContain('#/library');
  });

  it('name who depends on an image that is to be changed, and go on only when told to', async () => {
    await makeChain();
    const sheet = await bench.openSheet(images.at('base.qcow2'), 'resize');
    await sheet.getByTestId('dependents').getByText(images.at('top.qcow2')).waitFor();
    await sheet.getByLabel('New virtual size').fill('16M');
    await sheet.getByRole('button', { name: 'Resize' }).click();
    await sheet.getByText('in-place/dependents').waitFor();
    expect(images.info('base.qcow2')['virtual-size']).toBe(8 * 1024 * 1024);
    await sheet.getByLabel('Do it although').check();
    await bench.finish('Resize');
    expect(images.info('base.qcow2')['virtual-size']).toBe(16 * 1024 * 1024);
  });

  it('compare two images and list where they differ', async () => {
    images.make('one.qcow2', null, '-P 1 0 1M');
    fs.copyFileSync(images.at('one.qcow2'), images.at('two.qcow2'));
    await bench.scan();
    const sheet = await bench.openSheet(images.at('one.qcow2'), 'compare');
    await sheet.getByLabel('Second image').fill(images.at('two.qcow2'));
    await sheet.getByRole('button', { name: 'Compare' }).click();
    await sheet.getByText('Both hold the same disk').waitFor();
    images.qemuIo('two.qcow2', 'write -P 9 0x5000 512', 'write -P 9 0x200000 512');
    await sheet.getByRole('button', { name: 'Compare' }).click();
    await sheet.getByText('The disks hold different content').waitFor();
    await sheet.getByRole('cell', { name: '0x5000', exact: true }).waitFor();
    await sheet.getByRole('cell', { name: '0x200000', exact: true }).waitFor();
  });

  it('digest what the guest sees, and say whether it is the expected value', async () => {
    const { top } = await makeChain();
    const value = crypto.createHash('sha512').update(fs.readFileSync(top)).digest('hex');
    const sheet = await bench.openSheet(images.at('top.qcow2'), 'digest');
    await sheet.getByLabel('Algorithm').selectOption('sha512');
    await sheet.getByLabel('Expected value').fill(value.toUpperCase());
    await sheet.getByRole('button', { name: 'Digest' }).click();
    await sheet.getByTestId('digest').getByText(value).waitFor();
    await sheet.getByText('It is the one that was expected').waitFor();
  });

  it('convert one snapshot, picked from those that the image has', async () => {
    images.make('disk.qcow2', null, '-P 1 0 1M');
    const kept = images.keepContent('disk.qcow2');
    for (const name of ['first', 'second', 'second']) images.qemuImg('snapshot', '-c', name, images.at('disk.qcow2'));
    images.qemuIo('disk.qcow2', 'write -P 2 0 1M');
    images.make('plain.qcow2', null, '-P 1 0 1M');
    await bench.scan();
    const sheet = await bench.openSheet(images.at('disk.qcow2'), 'convert');
    const field = sheet.getByLabel('Snapshot to read');
    await expect.poll(() => field.locator('option').count(), patient).toBe(4);
    const offered = await field.locator('option').allTextContents();
    expect(offered[0]).toBe('the disk as it is now');
    expect(offered[1]).toMatch(/^first · .*20\d\d.* · 8(.00)? MiB$/);
    await field.selectOption({ index: 3 });
    expect(await bench.command()).toContain('-l 3 ');
    await field.selectOption('first');
    expect(await bench.command()).toContain('-l first ');
    await bench.finish('Convert');
    images.same(kept, 'disk-first.vhdx', 'vhdx');
    const other = await bench.openSheet(images.at('plain.qcow2'), 'convert');
    await other.getByTestId('space').waitFor();
    await expect.poll(() => other.getByLabel('Snapshot to read').count(), patient).toBe(0);
  });

  it('new files begin in the folder that was set for them; many become packages at once', async () => {
    const out = path.join(folder, 'out');
    fs.mkdirSync(out);
    images.make('one.qcow2', null, '-P 1 0 1M');
    images.make('two.qcow2', null, '-P 2 0 1M');
    await bench.scan();
    await bench.goTo('#/settings');
    await bench.page.getByLabel('New files are proposed in').fill(out);
    const command = async (verb: string): Promise<string> => {
      await bench.openSheet(images.at('one.qcow2'), verb);
      await expect.poll(() => bench.command(), patient).toContain(out);
      const told = await bench.command();
      await bench.dismiss();
      return told;
    };
    expect(await command('overlay')).toContain(path.join(out, 'one-overlay.qcow2'));
    expect(await command('export-ova')).toContain(path.join(out, 'one.ova'));
    expect(await command('convert')).toContain(path.join(out, 'one.vhdx'));
    await bench.goTo('#/library');
    await bench.page.keyboard.press('n');
    await expect.poll(() => bench.command(), patient).toContain(path.join(out, 'new.qcow2'));
    await bench.dismiss();
    await bench.page.getByRole('searchbox').fill(`${number}/`);
    const row = (name: string) => bench.page.locator('[role=row]', { hasText: name }).locator('[role=gridcell]').nth(1);
    await row(`${number}/one.qcow2`).click();
    await row(`${number}/two.qcow2`).click({ modifiers: ['Control'] });
    await bench.page.keyboard.press('c');
    const sheet = bench.sheet;
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('ova');
    await sheet.locator('footer button[type=submit]:not(:disabled)').click();
    for (const name of ['one', 'two']) {
      const file = path.join(out, `${name}.ova`);
      await expect.poll(() => fs.existsSync(file), patient).toBe(true);
      const inside = execFileSync('tar', ['-tf', file], { encoding: 'utf8' });
      expect(inside).toMatch(/\.ovf[^]*\.vmdk/);
    }
    await bench.goTo('#/settings');
    await bench.page.getByLabel('New files are proposed in').fill('');
  });

  it('export as OVA with a name and a controller', async () => {
    await makeChain();
    const sheet = await bench.openSheet(images.at('top.qcow2'), 'export-ova');
    await sheet.getByLabel('Name of the machine').fill('Small & <odd>');
    await bench.finish('Convert');
    const names = execFileSync('tar', ['-tf', images.at('top.ova')], { encoding: 'utf8' })
      .trim()
      .split('\n');
    expect(names[0]).toMatch(/\.ovf$/);
    const ovf = execFileSync('tar', ['-xOf', images.at('top.ova'), names[0] ?? ''], { encoding: 'utf8' });
    expect(ovf).toContain('Small &amp; &lt;odd&gt;');
  });

  it('amend, and take that back', async () => {
    images.make('disk.qcow2', null, '-P 1 0 1M');
    await bench.scan();
    const data = (): unknown => (images.info('disk.qcow2')['format-specific'] as { data: unknown }).data;
    let sheet = await bench.openSheet(images.at('disk.qcow2'), 'amend');
    await sheet.getByLabel('Lazy reference counts').selectOption('on');
    expect(await bench.command()).toBe(`platter amend -p -o lazy_refcounts=on ${images.at('disk.qcow2')}`);
    await bench.finish('Amend');
    expect(data()).toMatchObject({ 'lazy-refcounts': true });
    sheet = await bench.openSheet(images.at('disk.qcow2'), 'undo');
    await sheet.getByTestId('would').getByText('Amend').waitFor();
    await sheet.getByTestId('what').getByText(images.at('disk.qcow2')).waitFor();
    await bench.finish('Take back');
    expect(data()).toMatchObject({ 'lazy-refcounts': false });
    // There is nothing more: it is not offered, and asking first has left no failed job behind.
    await bench.page.locator('.verb-menu-trigger').click();
    await bench.page.getByRole('menuitem', { name: /^Delete/ }).waitFor();
    await expect.poll(() => bench.page.getByRole('menuitem', { name: /^Take back/ }).count(), patient).toBe(0);
    await bench.page.keyboard.press('Escape');
    await bench.goTo('#/jobs');
    const told = bench.page.getByRole('main').getByText('Take back · disk.qcow2');
    await told.first().waitFor();
    expect(await told.count()).toBe(1);
  });

  it('keep dirty bitmaps: add, switch off, merge, remove', async () => {
    images.make('disk.qcow2', null, null);
    await bench.scan();
    const bitmaps = (): unknown =>
      (images.info('disk.qcow2')['format-specific'] as { data: { bitmaps?: unknown } }).data.bitmaps;
    const sheet = await bench.openSheet(images.at('disk.qcow2'), 'bitmaps');
    await sheet.getByText('This image keeps no bitmap').waitFor();
    for (const name of ['monday', 'tuesday']) {
      await sheet.getByLabel('Name of a new bitmap').fill(name);
      await sheet.getByRole('textbox', { name: 'Granularity' }).fill('128K');
      await sheet.getByRole('button', { name: 'Add bitmap' }).click();
      await sheet.getByTestId('bitmap').getByText(name, { exact: true }).waitFor();
    }
    await sheet.getByRole('button', { name: 'Switch off' }).first().click();
    await sheet.getByText('stays as it is').waitFor();
    await sheet.getByRole('button', { name: 'Remove the bitmap tuesday' }).click();
    await sheet.getByRole('button', { name: 'Remove', exact: true }).click();
    await expect.poll(() => sheet.getByTestId('bitmap').count(), patient).toBe(1);
    expect(bitmaps()).toEqual([{ flags: [], name: 'monday', granularity: 131072 }]);
  });

  it('convert many at once; what is in the way is shown before', async () => {
    for (const name of ['a.qcow2', 'b.qcow2']) images.make(name, null, '-P 5 0 1M');
    fs.writeFileSync(images.at('b.vdi'), 'somebody else’s');
    await bench.scan();
    await bench.goTo('#/library');
    await bench.page.keyboard.press('c');
    await bench.sheet.getByRole('button', { name: 'Several at once' }).click();
    const { sheet } = bench;
    await sheet.getByRole('searchbox').fill(`${number}/`);
    await sheet.getByRole('checkbox', { name: 'a.qcow2' }).check();
    await sheet.getByRole('checkbox', { name: 'b.qcow2' }).check();
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('vdi');
    await sheet.getByLabel('Into this folder').fill(images.folder);
    await sheet.getByText('is there already').waitFor();
    expect(await sheet.locator('footer button[type=submit]').isDisabled()).toBe(true);
    await sheet.getByLabel('Names:').fill('{name}-new');
    await expect.poll(() => sheet.getByText('is there already').count(), patient).toBe(0);
    await sheet.locator('footer button[type=submit]').click();
    for (const name of ['a-new.vdi', 'b-new.vdi']) {
      await expect.poll(() => fs.existsSync(images.at(name)), patient).toBe(true);
    }
    await bench.page.getByText('Done: Convert').nth(1).waitFor();
    for (const name of ['a', 'b']) {
      images.qemuImg('compare', '-F', 'vdi', images.at(`${name}.qcow2`), images.at(`${name}-new.vdi`));
    }
    expect(fs.readFileSync(images.at('b.vdi'), 'utf8')).toBe('somebody else’s');
  });

  it('create over another image, and convert over one', async () => {
    await makeChain();
    await bench.goTo('#/library');
    await bench.page.keyboard.press('n');
    let { sheet } = bench;
    await sheet.getByLabel('Target', { exact: true }).fill(images.at('new.qcow2'));
    await sheet.getByLabel('Stands on').fill(images.at('base.qcow2'));
    await sheet.getByLabel('Virtual size', { exact: true }).fill('');
    await expect.poll(() => bench.command(), patient).toContain('-b base.qcow2 -F qcow2');
    await bench.finish('Create');
    expect(images.info('new.qcow2')).toMatchObject({
      'backing-filename': 'base.qcow2',
      'virtual-size': 8 * 1024 * 1024,
    });
    sheet = await bench.openSheet(images.at('top.qcow2'), 'convert');
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('qcow2');
    await sheet.getByLabel('The result stands on').fill(images.at('middle.qcow2'));
    await expect.poll(() => bench.command(), patient).toContain('--verify -O qcow2 -B middle.qcow2 -F qcow2');
    await bench.finish('Convert');
    expect(images.info('top-copy.qcow2')['backing-filename']).toBe('middle.qcow2');
    images.same(images.at('top.qcow2.kept'), 'top-copy.qcow2');
  });

  it('convert for a platform: format, options, and a size that it takes', async () => {
    images.qemuImg('create', '-q', '-f', 'qcow2', images.at('odd.qcow2'), String(22 * 1024 * 1024 + 512));
    images.qemuIo('odd.qcow2', 'write -P 7 0 1M');
    await bench.scan();
    const sheet = await bench.openSheet(images.at('odd.qcow2'), 'convert');
    await sheet.getByLabel('Made for').selectOption('azure');
    await sheet.getByTestId('profile-notes').getByText('The disk grows').waitFor();
    await sheet.getByTestId('space').getByText('are free there').waitFor();
    await bench.finish('Convert');
    expect(fs.statSync(images.at('odd.vhd')).size).toBe(23 * 1024 * 1024 + 512);
    images.qemuImg('compare', '-F', 'vpc', images.at('odd.qcow2'), images.at('odd.vhd'));
  });

  it('export one snapshot as an image', async () => {
    images.make('disk.qcow2', null, '-P 1 0 1M');
    const before = images.keepContent('disk.qcow2');
    images.qemuImg('snapshot', '-c', 'first state', images.at('disk.qcow2'));
    images.qemuIo('disk.qcow2', 'write -P 2 0 1M');
    await bench.scan();
    await bench.openSheet(images.at('disk.qcow2'), 'digest');
    await bench.dismiss();
    await bench.page.getByRole('link', { name: 'Snapshots', exact: true }).click();
    await bench.page.getByRole('button', { name: 'Export as image' }).click();
    await bench.finish('Convert');
    images.same(before, 'disk-first-state.vhdx', 'vhdx');
  });

  it('say at once what refuses: a target that is there, a source that went away, the same file', async () => {
    images.make('disk.qcow2', null, '-P 1 0 1M');
    await bench.scan();
    const sheet = await bench.openSheet(images.at('disk.qcow2'), 'convert');
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('raw');
    await sheet.getByLabel('Target', { exact: true }).fill(images.at('disk.qcow2'));
    await sheet.getByText('Source and target are the same file').waitFor();
    expect(await sheet.getByRole('button', { name: 'Convert', exact: true }).isDisabled()).toBe(true);
    fs.writeFileSync(images.at('taken.raw'), 'taken');
    await sheet.getByLabel('Target', { exact: true }).fill(images.at('taken.raw'));
    await sheet.getByRole('button', { name: 'Convert', exact: true }).click();
    await sheet.getByText('image/target-exists').waitFor();
    expect(fs.readFileSync(images.at('taken.raw'), 'utf8')).toBe('taken');
    await sheet.getByLabel('Replace a file that is there').check();
    await bench.finish('Convert');
    images.qemuImg('compare', '-F', 'raw', images.at('disk.qcow2'), images.at('taken.raw'));
    const gone = await bench.openSheet(images.at('disk.qcow2'), 'resize');
    fs.renameSync(images.at('disk.qcow2'), images.at('away'));
    await gone.getByLabel('New virtual size').fill('16M');
    await gone.getByRole('button', { name: 'Resize' }).click();
    await gone.getByRole('alert').getByText(images.at('disk.qcow2')).first().waitFor();
  });
});

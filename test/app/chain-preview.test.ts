// What every sheet that changes a chain shows of it before it does so, in the window; and that what was foretold is what comes.
import fs from 'node:fs';
import path from 'node:path';
import type { Locator } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the preview of a chain', () => {
  const folder = quickFolder('chain-preview');
  const patient = { timeout: 20_000 };
  let bench: SheetBench;
  let images: Images;

  /** base ← middle ← top, base ← side. */
  beforeAll(async () => {
    fs.mkdirSync(path.join(folder, 'disks'));
    bench = await SheetBench.open(folder, ['disks', 'other']);
    images = new Images(path.join(folder, 'disks'));
    images.make('base.qcow2', null, '-P 1 0 4M');
    images.make('middle.qcow2', 'base.qcow2', '-P 2 1M 1M');
    images.make('top.qcow2', 'middle.qcow2', '-P 3 2M 1M');
    images.make('side.qcow2', 'base.qcow2', null);
    await bench.scan();
  });
  afterAll(() => bench.close());
  afterEach(async () => {
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  const now = 'Now base.qcow2 └ middle.qcow2 └ top.qcow2';
  const previewOf = (sheet: Locator): ReturnType<typeof expect.poll> =>
    expect.poll(async () => (await sheet.getByTestId('preview').innerText()).replaceAll(/\s+/g, ' '), patient);
  const open = (name: string, verb: string): Promise<Locator> => bench.openSheet(images.at(name), verb);

  it('of an image that is made over another', async () => {
    const sheet = await open('middle.qcow2', 'overlay');
    await previewOf(sheet).toMatch(
      new RegExp(`^${now} Afterwards base.qcow2 └ middle.qcow2 └ top.qcow2 └ \\S+\\.qcow2 \\+ is made$`),
    );
  });

  it('of a commit, into the image below and past it', async () => {
    let sheet = await open('middle.qcow2', 'commit');
    await previewOf(sheet).toBe(
      `${now} Afterwards base.qcow2 ▼ takes the content └ middle.qcow2 ○ is emptied └ top.qcow2 └ side.qcow2 ▲ reads something else`,
    );
    await sheet.getByLabel('Leave this image as it is: it will be deleted').check();
    await previewOf(sheet).not.toContain('is emptied');
    await bench.dismiss();
    sheet = await open('top.qcow2', 'commit');
    await sheet.getByLabel('Into').selectOption({ label: 'base.qcow2' });
    await previewOf(sheet).toContain('Afterwards base.qcow2 ▼ takes the content');
    await previewOf(sheet).toContain('side.qcow2 ▲ reads something else');
  });

  it('of a merge into the parent, and of flattening', async () => {
    const sheet = await open('middle.qcow2', 'merge');
    await previewOf(sheet).toBe(
      `${now} Afterwards base.qcow2 ▼ takes the content └ top.qcow2 ↪ is told └ side.qcow2 ▲ reads something else`,
    );
    await sheet.getByLabel('Flatten').check();
    await previewOf(sheet).toBe(`${now} Afterwards middle.qcow2 ◇ stands on its own └ top.qcow2`);
  });

  it('of a rebase, with the content kept, by the link only, and onto nothing', async () => {
    const sheet = await open('top.qcow2', 'rebase');
    await sheet.getByLabel('New image below').fill(images.at('side.qcow2'));
    await previewOf(sheet).toBe(`${now} Afterwards base.qcow2 └ side.qcow2 └ top.qcow2 ↪ stands elsewhere`);
    await sheet.getByLabel('Change the link only').check();
    await previewOf(sheet).toContain('top.qcow2 ▲ reads something else');
    await sheet.getByLabel('On no image: it takes over everything from below (flatten)').check();
    await previewOf(sheet).toBe(`${now} Afterwards top.qcow2 ◇ stands on its own`);
  });

  it('of a migration, of the image alone and of all below it', async () => {
    const sheet = await open('middle.qcow2', 'migrate');
    const chain = sheet.getByRole('checkbox', { name: /base\.qcow2/ });
    await chain.uncheck();
    await previewOf(sheet).toBe(`${now} Afterwards base.qcow2 └ middle.qcow2 → moves └ top.qcow2 ↪ is told`);
    await chain.check();
    await previewOf(sheet).toBe(
      `${now} Afterwards base.qcow2 → moves └ middle.qcow2 → moves └ top.qcow2 ↪ is told └ side.qcow2 ↪ is told`,
    );
  });

  it('of a delete, which then is what was foretold', async () => {
    const sheet = await open('middle.qcow2', 'delete');
    await previewOf(sheet).toBe(`${now} Afterwards base.qcow2 └ middle.qcow2 ✕ goes └ top.qcow2 ✕ loses its base`);
    await sheet.getByRole('checkbox').last().check();
    await bench.finish('Delete');
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(false);
    expect(() => images.qemuImg('map', 'top.qcow2')).toThrow(/middle\.qcow2/);
    images.qemuImg('map', 'side.qcow2');
  });
});

// The walk of docs/seeing.md with the mouse: a leaked cluster and its refcount, a chain of five and its sector 2048, two snapshots.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';

/** Called at each place that is worth a picture. */
export type Shoot = (name: string) => Promise<void>;

/** What the images hold, for whoever looks at what the window says of them. */
export interface SeenImages {
  /** Offset of the cluster in `crashed.qcow2` that nothing refers to, and of its refcount. */
  readonly lost: number;
  readonly refcount: number;
}

const cluster = 65536;

/** Makes the images of the walk in `folder` with qemu-img and qemu-io. */
export function makeSeenImages(folder: string): SeenImages {
  const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { cwd: folder });
  const write = (name: string, ...commands: string[]): void =>
    run('qemu-io', ...commands.flatMap((command) => ['-c', `write ${command}`]), name);
  run('qemu-img', 'create', '-q', '-f', 'qcow2', 'crashed.qcow2', '64M');
  write('crashed.qcow2', '-P 1 0 2M', '-P 2 32M 4M', '-P 3 48M 640k');
  // The crash: a cluster was counted, and nothing was made to refer to it any more.
  const file = fs.openSync(path.join(folder, 'crashed.qcow2'), 'r+');
  const word = (at: number): number => {
    const bytes = Buffer.alloc(8);
    fs.readSync(file, bytes, 0, 8, at);
    return Number(bytes.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
  };
  const entry = word(word(40)) + ((48 * 1024 * 1024) / cluster + 4) * 8;
  const lost = word(entry);
  fs.writeSync(file, Buffer.alloc(8), 0, 8, entry);
  const refcount = word(word(48)) + (lost / cluster) * 2;
  fs.closeSync(file);

  const chain = ['1-installed', '2-updated', '3-configured', '4-tested', '5-running'];
  for (const [index, name] of chain.entries()) {
    const below = chain[index - 1];
    const onTop = below === undefined ? [] : ['-b', `${below}.qcow2`, '-F', 'qcow2'];
    run('qemu-img', 'create', '-q', '-f', 'qcow2', ...onTop, `${name}.qcow2`, ...(below === undefined ? ['32M'] : []));
  }
  write('1-installed.qcow2', '-P 17 0 6M', '-P 17 16M 4M');
  write('2-updated.qcow2', '-P 34 512k 1M', '-P 34 17M 2M');
  write('3-configured.qcow2', '-P 51 1M 256k', '-P 51 4M 128k');
  write('4-tested.qcow2', '-P 68 8M 512k');
  write('5-running.qcow2', '-P 85 0 64k', '-P 85 18M 192k');

  run('qemu-img', 'create', '-q', '-f', 'qcow2', 'history.qcow2', '16M');
  write('history.qcow2', '-P 65 0 4M');
  run('qemu-img', 'snapshot', '-c', 'monday', 'history.qcow2');
  write('history.qcow2', '-P 66 1M 64k', '-P 67 2621440 512');
  run('qemu-img', 'snapshot', '-c', 'tuesday', 'history.qcow2');
  write('history.qcow2', '-P 68 3M 64k');
  return { lost, refcount };
}

/** Opens the page of an image of the library. */
export async function openImagePage(page: Page, name: string, tab: string): Promise<void> {
  await page.evaluate(`location.hash = '#/library'`);
  await page.getByRole('link', { name, exact: true }).first().click();
  await page.getByRole('heading', { level: 1, name }).waitFor();
  await page.getByRole('link', { name: tab, exact: true }).click();
}

const hex = (offset: number): string => `0x${offset.toString(16)}`;

/** A leaked cluster: from the finding to the cluster on the map, to its refcount in hex; then it is repaired on a copy, and gone. */
export async function walkLeak(page: Page, { lost, refcount }: SeenImages, shoot: Shoot): Promise<void> {
  await openImagePage(page, 'crashed.qcow2', 'Check');
  await page.getByRole('button', { name: 'Check now' }).click();
  const finding = page.getByTestId('finding').filter({ hasText: hex(lost) });
  await finding.waitFor();
  await shoot('01-finding');
  await finding.getByRole('link', { name: `Show ${hex(lost)} in the map` }).click();
  const place = page.getByTestId('place');
  await place.getByText('lost clusters, referenced by nothing').waitFor();
  await page.getByRole('table', { name: 'File' }).getByText('Lost: nothing refers to it').waitFor();
  await shoot('02-lost-cluster');
  await place.getByRole('link', { name: `refcount of cluster ${lost / cluster}` }).click();
  await page.waitForURL((url) => url.hash.includes(`at=${hex(refcount)}`));
  await page.locator('[data-field="path"]').waitFor();
  await shoot('03-refcount-entry');
  for (const heading of ['map', 'check']) {
    await page.keyboard.press('Alt+ArrowLeft');
    await page.waitForURL((url) => url.hash.includes(`/${heading}`));
  }
  await page
    .getByTestId('finding')
    .filter({ hasText: hex(lost) })
    .waitFor();
  await page.getByRole('button', { name: 'Repair a copy' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Repair', exact: true }).click();
  const outcome = page.getByTestId('before-after');
  await outcome.getByRole('button', { name: 'Open the copy' }).waitFor();
  await shoot('04-repaired-copy');
  await outcome.getByRole('button', { name: 'Open the copy' }).click();
  await page.getByRole('heading', { level: 1, name: 'crashed-repaired.qcow2' }).waitFor();
  const address = page.url().replace(/(image\/[^/?]+).*$/, `$1/map?view=file&at=${hex(lost)}`);
  await page.evaluate(`location.href = ${JSON.stringify(address)}`);
  await place.getByText('free clusters').waitFor();
  await shoot('05-gone');
}

/** What a job said lies over the buttons of a place until it goes away by itself. */
async function closeToasts(page: Page): Promise<void> {
  const close = page.getByRole('status').getByRole('button', { name: 'Close' });
  while ((await close.count()) > 0)
    await close
      .first()
      .click({ timeout: 2000 })
      .catch(() => {}); // it went away by itself
}

/** Which image of a chain of five supplies sector 2048: on the map of the topmost one, and then in the image itself. */
export async function walkChain(page: Page, shoot: Shoot): Promise<void> {
  await closeToasts(page);
  await openImagePage(page, '5-running.qcow2', 'Map');
  await page.getByRole('table', { name: 'Guest disk' }).waitFor();
  const address = page.url().replace(/\/map.*$/, `/map?view=guest&at=${hex(2048 * 512)}`);
  await page.getByRole('combobox', { name: 'Layer' }).selectOption({ label: 'Which image supplies it' });
  await page.evaluate(`location.href = ${JSON.stringify(address)}`);
  const place = page.getByTestId('place');
  const supplier = place.getByRole('button', { name: '2 below: 3-configured.qcow2' });
  await supplier.waitFor();
  await shoot('06-sector-2048');
  await supplier.click();
  await page.getByRole('heading', { level: 1, name: '3-configured.qcow2' }).waitFor();
  await place.getByText('L2[16]').waitFor();
  await place.getByRole('button', { name: 'Show in the file' }).click();
  await place.getByText('data clusters').waitFor();
  await place.getByRole('link', { name: hex(2048 * 512), exact: true }).waitFor();
  await shoot('07-supplier');
}

/** What differs between the snapshots of two days, one difference after the other. */
export async function walkSnapshots(page: Page, shoot: Shoot): Promise<void> {
  await openImagePage(page, 'history.qcow2', 'Hex');
  await page.getByRole('combobox', { name: 'View', exact: true }).selectOption({ label: 'Snapshot monday' });
  await page.waitForURL((url) => url.hash.includes('view=snapshot'));
  await page.getByRole('toolbar', { name: 'Hex view' }).getByRole('button', { name: 'Compare' }).click();
  await page.getByRole('combobox', { name: 'Compare with …' }).selectOption({ label: 'Snapshot tuesday' });
  const next = page.getByRole('button', { name: 'Next difference' });
  await next.click();
  await page.waitForURL((url) => url.hash.includes('at=0x100000'));
  await page.getByRole('row').filter({ hasText: '00100000' }).nth(1).waitFor();
  await shoot('08-first-difference');
  await next.click();
  await page.waitForURL((url) => url.hash.includes('at=0x280000'));
  await shoot('09-second-difference');
  await next.click();
  await page.getByText('No difference after this').waitFor();
}

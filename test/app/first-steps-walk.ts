// The first walk of somebody new, with the mouse alone: samples made, one converted, a snapshot, a look inside, a repair, a parent found.
import path from 'node:path';
import type { Page } from 'playwright-core';

/** Called at each place that is worth a picture. */
export type Shoot = (name: string) => Promise<void>;

/** Begins at the empty window; the samples are made in `folder`, which is not there yet. */
export async function walkFirstSteps(page: Page, folder: string, shoot: Shoot): Promise<void> {
  const click = (role: 'button' | 'link' | 'tab', name: string | RegExp, exact = true): Promise<void> =>
    page.getByRole(role, { name, exact }).first().click();
  const steps = page.getByRole('region', { name: 'First steps' });
  const step = (name: string): Promise<void> => steps.getByRole('button', { name }).click();
  const ticked = (count: number): Promise<void> => steps.getByText(`${count} of 8`).waitFor();
  const sheet = page.getByRole('dialog');

  await page.getByRole('heading', { name: 'Where are your disk images?' }).waitFor();
  await shoot('01-empty');
  await click('button', 'Make sample images');
  await sheet.getByText('sample-overlay.qcow2').waitFor();
  await sheet.getByLabel('Folder', { exact: true }).fill(folder);
  await shoot('02-samples');
  await sheet.getByRole('button', { name: 'Make sample images' }).click();
  await page.getByRole('link', { name: 'damaged.qcow2' }).waitFor();
  await ticked(1);
  await shoot('03-library');

  await step('Convert the sample disk');
  await sheet.getByText(path.join(folder, 'sample.vhdx')).first().waitFor();
  await shoot('04-convert');
  await sheet.locator('footer button[type=submit]').click();
  await ticked(2);
  await shoot('05-converted');

  await step('Take a snapshot of it');
  await page.getByRole('heading', { level: 1, name: 'sample.qcow2' }).waitFor();
  await shoot('06-snapshots');
  return;
}

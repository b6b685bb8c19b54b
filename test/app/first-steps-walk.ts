// The first walk of somebody new, with the mouse alone: samples made, one converted, a snapshot, a look inside, a repair, a parent found.
import path from 'node:path';
import type { Locator, Page } from 'playwright-core';

/** Called at each place that is worth a picture. */
export type Shoot = (name: string) => Promise<void>;

/** Begins at the empty window; `folder` is where the samples are proposed to be made. */
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
  await expectValue(sheet.getByLabel('Folder', { exact: true }), folder);
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
  await page.getByRole('link', { name: 'sample.vhdx', exact: true }).waitFor();
  await shoot('05-converted');

  await step('Take a snapshot of it');
  await page.getByRole('heading', { level: 1, name: 'sample.qcow2' }).waitFor();
  await expectValue(page.getByLabel('Name of the snapshot'), 'Snapshot 1');
  await click('button', 'Take a snapshot');
  await page.getByTestId('snapshot').getByText('Snapshot 1').waitFor();
  await ticked(3);
  await shoot('06-snapshot');

  await step('Look at its map');
  await page.locator('canvas').first().waitFor();
  await ticked(4);
  await page.waitForTimeout(1500);
  await shoot('07-map');

  await step('Read its bytes');
  await page.getByRole('grid').first().waitFor();
  await ticked(5);
  await page.waitForTimeout(1500);
  await shoot('08-hex');

  await step('See what stands on what');
  await page.getByRole('heading', { level: 1, name: 'sample-overlay.qcow2' }).waitFor();
  await ticked(6);
  await page.getByRole('heading', { name: 'This image names other files' }).waitFor();
  await shoot('09-question');
  await click('button', 'Allow for this folder');
  await page.getByTestId('chain').waitFor();
  await page.waitForTimeout(1000);
  await shoot('10-chain');

  await step('Repair a damaged image');
  await page.getByRole('heading', { level: 1, name: 'damaged.qcow2' }).waitFor();
  await click('button', 'Check now');
  await page.getByTestId('check-result').waitFor();
  await shoot('11-damaged');
  await click('button', 'Repair a copy…');
  await sheet.getByTestId('plan').waitFor();
  await shoot('12-repair');
  await sheet.getByRole('button', { name: 'Repair', exact: true }).click();
  await page.getByText('The copy was repaired').waitFor();
  await ticked(7);
  await shoot('13-repaired');

  await step('Find a moved parent');
  await page.getByRole('heading', { level: 1, name: 'web-server.vmdk' }).waitFor();
  await click('button', 'Look for the parent');
  await page.getByText('moved/template.vmdk').first().waitFor();
  await page.getByRole('button', { name: 'Use this one' }).scrollIntoViewIfNeeded();
  await shoot('14-moved-parent');
  await click('button', 'Use this one');
  await ticked(8);
  await shoot('15-found');
}

async function expectValue(field: Locator, value: string): Promise<void> {
  for (let tries = 0; (await field.inputValue()) !== value; tries++) {
    if (tries === 100) throw new Error(`'${value}' is expected, there stands '${await field.inputValue()}'`);
    await field.page().waitForTimeout(100);
  }
}

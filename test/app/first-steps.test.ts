// The first walk of somebody new over an empty catalogue, with the mouse alone; qemu-img says what is on the disk afterwards.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { walkFirstSteps } from './first-steps-walk.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow } from './window.ts';

describeWith({ peers: ['qemu-img', 'chromium'], unless: missingWindow() }, 'the first steps', () => {
  it('lead from an empty window through samples, convert, snapshot, map, hex, chain, repair and relink', async () => {
    const root = scratchFolder('first-steps');
    const samples = path.join(root, 'Platter samples');
    const kept = scratchFolder('first-steps-kept');
    const served = await serveWindow(kept, ['--root', root], 'ask');
    const browser = await launchBrowser();
    try {
      const shown = await openWindow(browser, served.url);
      const { page, faults } = shown;
      await walkFirstSteps(page, samples, () => Promise.resolve());
      expect(faults).toEqual([]);
      // What was done is remembered, and the list can be hidden and shown again.
      await page.reload();
      const steps = page.getByRole('region', { name: 'First steps' });
      await steps.getByText('8 of 8').waitFor();
      await steps.getByRole('button', { name: 'Hide the first steps' }).click();
      await steps.waitFor({ state: 'detached' });
      await page.reload();
      await page.getByRole('button', { name: 'Search images' }).first().click();
      await page.getByRole('option', { name: 'First steps' }).click();
      await steps.getByText('8 of 8').waitFor();
      await shown.close();
    } finally {
      await browser.close();
      await served.stop();
    }
    const at = { cwd: samples };
    const info = (name: string): unknown => JSON.parse(mustRun('qemu-img', ['info', '--output=json', name], at));
    expect(info('sample.vhdx')).toMatchObject({ format: 'vhdx' });
    mustRun('qemu-img', ['compare', 'sample.qcow2', 'sample.vhdx'], at);
    expect(info('sample.qcow2')).toMatchObject({ snapshots: [{ name: 'Snapshot 1' }] });
    mustRun('qemu-img', ['check', 'sample.qcow2'], at);
    expect(spawnSync('qemu-img', ['check', 'damaged.qcow2'], at).status).toBe(2);
    mustRun('qemu-img', ['check', 'damaged-repaired.qcow2'], at);
    mustRun('qemu-img', ['compare', 'damaged-repaired.qcow2', 'sample.qcow2'], at);
    expect(info('web-server.vmdk')).toMatchObject({ 'backing-filename': 'moved/template.vmdk' });
    mustRun('qemu-img', ['compare', 'web-server.vmdk', 'sample-overlay.qcow2'], at);
    expect(fs.readdirSync(samples).filter((name) => name.includes('.partial'))).toEqual([]);
  }, 120_000);
});

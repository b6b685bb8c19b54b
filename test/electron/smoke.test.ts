// The shell in the real Electron, where its binary is; the other tests of this folder do without.
import fs from 'node:fs';
import path from 'node:path';
import { _electron, type ElectronApplication } from 'playwright-core';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { findElectron } from '../../scripts/electron-binary.ts';
import { describeWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { missingShell } from './stand-in/program.ts';

const project = path.resolve(import.meta.dirname, '../..');
const binary = findElectron(project);
const reason = binary === null ? 'the Electron binary is missing (ELECTRON_OVERRIDE_DIST_PATH)' : missingShell();
const folder = scratchFolder('electron-smoke');
const store = path.join(folder, 'store');
let running: ElectronApplication | null = null;

async function start(args: readonly string[] = []): Promise<ElectronApplication> {
  const asRoot = process.getuid?.() === 0;
  running = await _electron.launch({
    executablePath: binary ?? '',
    args: [...(asRoot ? ['--no-sandbox'] : []), `--user-data-dir=${path.join(folder, 'profile')}`, project, ...args],
    env: { ...(process.env as Record<string, string>), PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
  });
  return running;
}

afterEach(async () => {
  await running?.close();
  running = null;
});

describeWith({ unless: reason, peers: ['qemu-img'] }, 'Electron', () => {
  beforeAll(() => {
    fs.mkdirSync(store);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(store, 'disk.qcow2'), '8M']);
  });

  it('shows the library over its own scheme, without Node in the page', async () => {
    const page = await (await start()).firstWindow();
    await page.getByText('Platter').first().waitFor();
    expect(page.url()).toMatch(/^platter:\/\/window\//);
    const seen = await page.evaluate(() => {
      const global = globalThis as unknown as Record<string, unknown>;
      return [typeof global.require, typeof global.process, typeof global.platterShell];
    });
    expect(seen).toEqual(['undefined', 'undefined', 'object']);
  });

  it('refuses to leave, and to reach the network', async () => {
    const page = await (await start()).firstWindow();
    await page.getByText('Platter').first().waitFor();
    const outcome = await page.evaluate(async () => {
      const global = globalThis as unknown as {
        open(address: string): unknown;
        fetch(address: string): Promise<unknown>;
      };
      const opened = global.open('https://example.com/');
      const fetched = await global.fetch('https://example.com/').then(
        () => 'reached',
        () => 'refused',
      );
      return [opened === null, fetched];
    });
    expect(outcome).toEqual([true, 'refused']);
    expect(running?.windows()).toHaveLength(1);
  });

  it('opens a file that it is started with, and works on it', async () => {
    const shell = await start();
    const page = await shell.firstWindow();
    await shell.evaluate(({ dialog }) => {
      dialog.showMessageBox = () => Promise.resolve({ response: 0, checkboxChecked: false });
    });
    await shell.evaluate(
      ({ app }, file) => void app.emit('open-file', { preventDefault() {} }, file),
      path.join(store, 'disk.qcow2'),
    );
    await page.getByRole('heading', { name: 'disk.qcow2' }).waitFor();
  });
});

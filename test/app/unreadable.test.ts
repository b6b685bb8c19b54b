// Images that cannot be read as a whole, as a person meets them: the notice, the map's colours, the hex view's cells, searching, the contents.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { missingWindow } from './window.ts';

describeWith(
  { peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() },
  'images that cannot be read as a whole',
  () => {
    const folder = quickFolder('unreadable-window');
    const disks = path.join(folder, 'disks');
    const run = (program: string, ...args: string[]): string =>
      execFileSync(program, args, { cwd: disks, encoding: 'utf8' });
    let page: Page;

    const bench = useBench(folder, {
      stores: ['disks'],
      prepare() {
        run('qemu-img', 'create', '-q', '-f', 'qcow2', 'gone.qcow2', '64M');
        run('qemu-io', '-c', 'write -P 1 0 2M', 'gone.qcow2');
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', 'orphan.qcow2');
        run('qemu-io', '-c', 'write -P 0x5a 16M 1M', 'orphan.qcow2');
        fs.rmSync(path.join(disks, 'gone.qcow2'));
        // The second of four L2 tables (512 MiB each) is beyond the end of the file.
        run('qemu-img', 'create', '-q', '-f', 'qcow2', 'cut.qcow2', '2G');
        run('qemu-io', '-c', 'write -P 0x5a 0 1M', '-c', 'write -P 0x5a 600M 1M', 'cut.qcow2');
        const file = path.join(disks, 'cut.qcow2');
        const bytes = fs.readFileSync(file);
        bytes.writeBigUInt64BE((1n << 63n) | (1n << 30n), Number(bytes.readBigUInt64BE(40)) + 8);
        fs.writeFileSync(file, bytes);
      },
    });

    beforeAll(() => {
      ({ page } = bench());
    });

    async function openTab(name: string, tab: string, query = ''): Promise<void> {
      await page.evaluate(`location.hash = '#/library'`);
      await page.getByRole('link', { name, exact: true }).click();
      await page.getByRole('heading', { level: 1, name }).waitFor();
      const address = (await page.getByRole('link', { name: tab, exact: true }).getAttribute('href')) ?? '';
      await page.evaluate(`location.hash = ${JSON.stringify(address + query)}`);
    }

    const legend = async (name: string): Promise<string> => {
      const row = page.getByRole('table', { name: 'Guest disk' }).getByRole('row', { name });
      await row.waitFor();
      return (await row.textContent()) ?? '';
    };

    it('says what is missing, and where to look for it', async () => {
      await openTab('orphan.qcow2', 'Map');
      const notice = page.getByTestId('reduced');
      await notice.waitFor();
      const text = (await notice.textContent()) ?? '';
      expect(text).toContain('The layers below orphan.qcow2 are missing here.');
      expect(text).toContain('gone.qcow2');
      expect(text).toContain('storage/open');
      expect(await notice.getByRole('link', { name: 'Find the parent' }).getAttribute('href')).toMatch(/\/chain$/);
    });

    it('maps what the image has, and the rest as not readable, in every layer and both themes', async () => {
      expect(await legend('Not readable')).toContain('63 MiB');
      expect(await legend('Data')).toContain('1 MiB');
      for (const theme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: theme });
        await page.waitForTimeout(300);
        expect(await coloursOf([0, 255, 256, 271, 272, 1023])).toEqual(
          ['bad', 'bad', 'data', 'data', 'bad', 'bad'].map((name) => tokens[name]),
        );
        expect(await graveFaults(page)).toEqual([]);
        const pictures = process.env.UNREADABLE_PICTURES;
        if (pictures !== undefined) await page.screenshot({ path: path.join(pictures, `map-${theme}.png`) });
      }
      await page.getByLabel('Layer').selectOption('depth');
      expect(await legend('Not readable')).toContain('63 MiB');
      await page.getByLabel('Layer').selectOption('state');
    });

    const tokens: Record<string, string> = {};
    async function coloursOf(cells: readonly number[]): Promise<string[]> {
      for (const name of ['bad', 'data']) {
        tokens[name] = await page.evaluate<string>(`((name) => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = 'var(' + name + ')';
        const numbers = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3);
        probe.remove();
        return numbers.map((value) => Number(value).toString(16).padStart(2, '0')).join('');
      })('--map-${name}')`);
      }
      // What a cell has most of: the pattern over the colour covers less of it than the colour does.
      return page.evaluate<string[]>(`((cells) => {
      const element = document.querySelector('[data-testid=map-guest]');
      const context = element.getContext('2d');
      const { cell, first, columns } = element.dataset;
      const size = Number(cell) * devicePixelRatio;
      return cells.map((one) => {
        const index = one - Number(first);
        const x = (index % Number(columns)) * size;
        const y = Math.floor(index / Number(columns)) * size;
        const { data } = context.getImageData(x + 1, y + 1, size - 2, size - 2);
        const counts = new Map();
        for (let at = 0; at < data.length; at += 4) {
          const colour = [...data.slice(at, at + 3)].map((value) => value.toString(16).padStart(2, '0')).join('');
          counts.set(colour, (counts.get(colour) ?? 0) + 1);
        }
        return [...counts].sort((a, b) => b[1] - a[1])[0][0];
      });
    })(${JSON.stringify(cells)})`);
    }

    it('shows no zeroes in hex for what is not known, and says why', async () => {
      await openTab('orphan.qcow2', 'Hex', '?view=guest&at=0xffffe0');
      const body = page.getByRole('grid').first();
      await body.getByText('5a 5a', { exact: false }).first().waitFor();
      const cellOf = (address: string) =>
        body
          .locator('[data-line]')
          .filter({ has: page.getByText(address, { exact: false }) })
          .locator('[data-part="hex"]');
      expect(await cellOf('fffff0').textContent()).toMatch(/^[?\s]+$/);
      expect(await cellOf('1000000').textContent()).toMatch(/^[5a\s]+$/);
      const inspector = page.getByRole('region', { name: 'Data inspector' });
      await inspector.getByText('This byte cannot be read.').waitFor();
      expect(await inspector.textContent()).toContain('gate/backing');
      expect(await graveFaults(page)).toEqual([]);
      const pictures = process.env.UNREADABLE_PICTURES;
      if (pictures !== undefined) await page.screenshot({ path: path.join(pictures, 'hex-dark.png') });
    });

    it('searches what can be read, and says how much it passed over', async () => {
      await page.getByRole('button', { name: 'Find', exact: true }).click();
      const bar = page.getByRole('search', { name: 'Find' });
      await bar.getByRole('combobox').selectOption('bytes');
      await bar.getByRole('textbox').fill('010101');
      await bar.getByRole('button', { name: /Next/i }).click();
      await bar.getByText(/not searched: not readable/).waitFor();
    });

    it('says of the contents that they cannot be read', async () => {
      await openTab('orphan.qcow2', 'Contents');
      await page
        .getByRole('alert')
        .getByText(/gone\.qcow2|No such file/)
        .first()
        .waitFor();
    });

    it('opens an image one of whose tables is not in the file: only what it maps is lost', async () => {
      await openTab('cut.qcow2', 'Map');
      expect(await legend('Not readable')).toContain('512 MiB');
      expect(await legend('Data')).toContain('1 MiB');
      await openTab('cut.qcow2', 'Hex', '?view=guest&at=0x20000000');
      await page.getByText('This byte cannot be read.').waitFor();
      expect(await page.getByRole('region', { name: 'Data inspector' }).textContent()).toContain(
        'qcow2/table-beyond-file',
      );
    });
  },
);

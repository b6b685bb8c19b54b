// Makes docs/screenshots: every page and sheet of the built window over a collection of images that is made on the spot (needs chromium and
// qemu-img). With names (`node scripts/screenshots.ts library map`) only those; `--all`: every sheet in every theme and language.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { makeCollection } from '../test/app/collection.ts';
import { pages, panels, sheets, Tour, type Language, type Place } from '../test/app/tour.ts';
import { launchBrowser, openWindow, serveWindow } from '../test/app/window.ts';

const out = process.env.PLATTER_PICTURES ?? path.resolve(import.meta.dirname, '..', 'docs', 'screenshots');
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'vm-'));
const all = process.argv.includes('--all');
const named = process.argv.slice(2).filter((argument) => argument !== '--all');

type Look = { readonly name: string; readonly scheme: 'light' | 'dark'; readonly language: Language };
const looks: readonly Look[] = [
  { name: 'light', scheme: 'light', language: 'en' },
  { name: 'dark', scheme: 'dark', language: 'en' },
  { name: 'zh-CN', scheme: 'light', language: 'zh-CN' },
];
/** Sheets that are shown in every look, and in light only; the others with `--all`. */
const everyLook = ['sheet-convert', 'sheet-create'];
const inLight = ['compare', 'overlay', 'compact', 'merge', 'migrate', 'delete'].map((name) => `sheet-${name}`);

const wanted = ({ name }: Place): boolean => named.length === 0 || named.includes(name);

async function shoot(page: Page, name: string): Promise<void> {
  await page.mouse.move(640, 4);
  await page.screenshot({ path: path.join(out, `${name}.png`), animations: 'disabled', caret: 'hide' });
}

/** A page of the look, its faults told when it is closed. */
async function withWindow(url: string, look: Look, use: (page: Page) => Promise<void>): Promise<void> {
  const shown = await openWindow(browser, url, {
    colorScheme: look.scheme,
    locale: look.language === 'en' ? 'en-US' : 'zh-CN',
    viewport: { width: 1440, height: 900 },
    reducedMotion: 'reduce',
  });
  await use(shown.page);
  if (shown.faults.length > 0) console.log(look.name, shown.faults);
  await shown.close();
}

fs.mkdirSync(out, { recursive: true });
fs.mkdirSync(path.join(work, 'nothing'), { recursive: true });
const browser = await launchBrowser();
try {
  if (wanted({ name: 'welcome' })) {
    const empty = await serveWindow(path.join(work, 'nothing'));
    for (const look of looks) {
      await withWindow(empty.url, look, async (page) => {
        await page.getByRole('heading', { level: 2 }).first().waitFor();
        await shoot(page, `welcome-${look.name}`);
      });
    }
    await empty.stop();
  }
  const collection = await makeCollection(work);
  const served = await serveWindow(work);
  for (const [index, look] of looks.entries()) {
    await withWindow(served.url, look, async (page) => {
      const tour = new Tour(page, collection, look.language);
      await page.getByRole('gridcell').first().waitFor();
      if (index === 0) await fillJobs(page, tour);
      const light = look.name === 'light';
      const shownSheets = [...everyLook, ...(light ? inLight : [])];
      const places = [
        ...pages,
        ...panels.filter(({ name }) => all || named.length > 0 || name !== 'keys'),
        ...sheets.filter(({ name }) => all || named.length > 0 || shownSheets.includes(name)),
      ];
      for (const place of places.filter(wanted)) {
        try {
          await tour.go(place);
          if (place.name === 'library')
            await page.getByRole('row', { name: 'win11' }).getByRole('gridcell').nth(2).click();
          await tour.rest(400);
          await shoot(page, `${place.name}-${look.name}`);
        } catch (error) {
          console.log(`${place.name} ${look.name}: ${String(error).split('\n')[0]}`);
          process.exitCode = 1;
          await shoot(page, `failed-${place.name}-${look.name}`);
        }
      }
    });
  }
  await served.stop();
} finally {
  await browser.close();
  fs.rmSync(work, { recursive: true, force: true });
}

/** Two jobs that went well, for the page of jobs. */
async function fillJobs(page: Page, tour: Tour): Promise<void> {
  const sheet = page.getByRole('dialog');
  for (const [source, format] of [
    ['debian12-base.qcow2', 'vhdx'],
    ['archive/lab.vdi', 'qcow2'],
  ] as const) {
    await tour.go({ name: 'convert', address: '#/library', sheet: 'convert', ready: 'dialog' });
    await sheet.getByLabel('Source', { exact: true }).fill(path.join(work, 'disks', source));
    await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption(format);
    await tour.rest();
    await sheet.locator('footer button[type=submit]').click();
    await sheet.waitFor({ state: 'detached' });
    await page.getByText('Done: Convert').last().waitFor({ timeout: 60_000 });
    const messages = page.getByRole('button', { name: 'Close' });
    for (let left = await messages.count(); left > 0; left -= 1) await messages.first().click();
  }
}

// Every page, tab and panel, in both themes and both languages, by axe: one page load for each language.
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { makeCollection, type Collection } from './collection.ts';
import { pages, panels, Tour } from './tour.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow, type Served } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'every page and panel', () => {
  const folder = scratchFolder('accessible');
  let collection: Collection;
  let served: Served;
  let browser: Browser;

  beforeAll(async () => {
    collection = await makeCollection(folder);
    served = await serveWindow(folder);
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser.close();
    await served.stop();
  });

  it.each(['en', 'zh-CN'] as const)(
    'has no serious fault of accessibility, light or dark, in %s',
    { timeout: 180_000 },
    async (language) => {
      const shown = await openWindow(browser, served.url, { locale: language, reducedMotion: 'reduce' });
      const tour = new Tour(shown.page, collection, language);
      await shown.page.getByRole('gridcell').first().waitFor();
      const found: string[] = [];
      for (const place of [...pages, ...panels]) {
        await tour.go(place);
        for (const colorScheme of ['light', 'dark'] as const) {
          await shown.page.emulateMedia({ colorScheme });
          const axe = new AxeBuilder({ page: shown.page });
          // What depends on the theme is its colours alone.
          const { violations } = await (colorScheme === 'light' ? axe : axe.withRules(['color-contrast'])).analyze();
          for (const { id, impact, nodes } of violations) {
            if (impact !== 'serious' && impact !== 'critical') continue;
            found.push(`${place.name} ${colorScheme} ${id}: ${nodes.map(({ html }) => html).join(' ')}`);
          }
        }
      }
      expect(found).toEqual([]);
      expect(shown.faults).toEqual([]);
      await shown.close();
    },
  );
});

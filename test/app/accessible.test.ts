// Every page, tab and panel, in both themes and both languages, by axe: one page load for each language.
import { expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { makeCollection, type Collection } from './collection.ts';
import { pages, panels, Tour } from './tour.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'every page and panel', () => {
  const folder = quickFolder('accessible');
  let collection: Collection;

  const bench = useBench(folder, {
    async prepare() {
      collection = await makeCollection(folder);
    },
  });

  it.each(['en', 'zh-CN'] as const)(
    'has no serious fault of accessibility, light or dark, in %s',
    { timeout: 180_000 },
    async (language) => {
      const shown = await bench().openAnother({ locale: language, reducedMotion: 'reduce' });
      const tour = new Tour(shown.page, collection, language);
      await shown.page.getByRole('gridcell').first().waitFor();
      const found: string[] = [];
      for (const place of [...pages, ...panels]) {
        await tour.go(place);
        for (const colorScheme of ['light', 'dark'] as const) {
          await shown.page.emulateMedia({ colorScheme });
          // What depends on the theme is its colours alone.
          const rules = colorScheme === 'light' ? [] : ['color-contrast'];
          const grave = await graveFaults(shown.page, { rules });
          found.push(...grave.map((fault) => `${place.name} ${colorScheme} ${fault}`));
        }
      }
      expect(found).toEqual([]);
      expect(shown.faults).toEqual([]);
      await shown.close();
    },
  );
});

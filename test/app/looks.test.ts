// What stable pages and sheets look like, in both themes, against pictures in test/app/baseline: a panel that moved is seen, a shade that
// another version of the browser draws differently is not. PLATTER_BASELINE=write takes the pictures anew; look at them before they are kept.
import fs from 'node:fs';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { makeCollection, type Collection } from './collection.ts';
import { pages, panels, sheets, Tour, type Place } from './tour.ts';
import { launchBrowser, missingWindow, openWindow, serveWindow, type Served } from './window.ts';

const baseline = path.resolve(import.meta.dirname, 'baseline');
const write = process.env.PLATTER_BASELINE === 'write';
const names = ['library', 'keys', 'settings', 'jobs', 'palette', 'sheet-create', 'sheet-add-datastore'];
const places = names.map((name): Place => {
  const place = [...pages, ...panels, ...sheets].find((one) => one.name === name);
  if (place === undefined) throw new Error(`there is no place ${name}`);
  return place;
});
/** Squares of this many pixels a side are compared as one: letters are drawn a little differently by each version of a browser. */
const side = 8;
/** Of 255: how far the mean of a square may lie from that in the picture. */
const shade = 24;
/** Squares that may differ. */
const part = 0.004;

/** Without what is another in each run: times, paths and sizes on the disk of this machine. */
const masks = `
  [data-testid=when], [data-testid=selected], main .mono, dialog .mono, .mono input {
    visibility: hidden !important;
  }
  aside [role=tree] { visibility: hidden !important; height: 200px !important; overflow: hidden !important; }
  * { caret-color: transparent !important; scroll-behavior: auto !important; }
`;

/** The part of all squares that differ between two pictures, compared in the browser; 1: they have not the same size. */
function difference(page: Page, one: Buffer, other: Buffer): Promise<number> {
  const [left, right] = [one, other].map((bytes) => bytes.toString('base64'));
  return page.evaluate<number>(`(async () => {
    const decode = async (text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const picture = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
      const context = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
      context.drawImage(picture, 0, 0);
      return context.getImageData(0, 0, picture.width, picture.height);
    };
    const [a, b] = [await decode('${left}'), await decode('${right}')];
    if (a.width !== b.width || a.height !== b.height) return 1;
    const mean = (image, x, y) => {
      const sum = [0, 0, 0];
      for (let row = y; row < y + ${side}; row += 1) {
        for (let column = x; column < x + ${side}; column += 1) {
          for (let colour = 0; colour < 3; colour += 1) sum[colour] += image.data[(row * image.width + column) * 4 + colour];
        }
      }
      return sum.map((all) => all / ${side * side});
    };
    let squares = 0;
    let different = 0;
    for (let y = 0; y + ${side} <= a.height; y += ${side}) {
      for (let x = 0; x + ${side} <= a.width; x += ${side}) {
        const [left, right] = [mean(a, x, y), mean(b, x, y)];
        squares += 1;
        if (left.some((value, colour) => Math.abs(value - right[colour]) > ${shade})) different += 1;
      }
    }
    return different / squares;
  })()`);
}

describeWith(
  { peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() },
  'what the window looks like',
  () => {
    const folder = scratchFolder('looks');
    let collection: Collection;
    let served: Served;
    let browser: Browser;
    let shown: Awaited<ReturnType<typeof openWindow>>;
    let tour: Tour;

    beforeAll(async () => {
      collection = await makeCollection(folder);
      served = await serveWindow(folder);
      browser = await launchBrowser();
      shown = await openWindow(browser, served.url, {
        reducedMotion: 'reduce',
        viewport: { width: 1280, height: 800 },
      });
      await shown.page.getByRole('gridcell').first().waitFor();
      tour = new Tour(shown.page, collection, 'en');
      fs.mkdirSync(baseline, { recursive: true });
    });
    afterAll(async () => {
      await browser.close();
      await served.stop();
    });

    /** The page as it is now; `style`: beside the masks. */
    async function picture(style = ''): Promise<Buffer> {
      await shown.page.mouse.move(640, 2);
      return shown.page.screenshot({ animations: 'disabled', caret: 'hide', style: masks + style });
    }

    it.each(places)('$name is as it was', async (place) => {
      await tour.go(place);
      for (const colorScheme of ['light', 'dark'] as const) {
        await shown.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await tour.rest(100);
        const now = await picture();
        const file = path.join(baseline, `${place.name}-${colorScheme}.png`);
        if (write) fs.writeFileSync(file, now);
        const apart = await difference(shown.page, fs.readFileSync(file), now);
        if (apart > part) fs.writeFileSync(path.join(folder, path.basename(file)), now);
        expect(
          apart,
          `the part of ${path.basename(file)} that is another (KEEP_SCRATCH=1 keeps the picture)`,
        ).toBeLessThan(part);
      }
    });

    it('sees a panel that moved by a few pixels, another colour, and a line that is missing', async () => {
      const [library] = places;
      if (library === undefined) throw new Error('there is no place');
      await tour.go(library);
      await shown.page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
      const before = await picture();
      for (const change of [
        'aside { transform: translateX(0); } .shell { grid-template-columns: 256px 1fr !important; }',
        'header { background: #c8d8f8 !important; }',
        '.bar.actions { display: none !important; }',
      ]) {
        expect(await difference(shown.page, before, await picture(change)), change).toBeGreaterThan(part);
      }
      expect(await difference(shown.page, before, await picture())).toBe(0);
      expect(shown.faults).toEqual([]);
    });
  },
);

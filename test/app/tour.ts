// Every page, tab, sheet and panel of the window by name, and the way there: for pictures and for what must hold everywhere.
import type { Page } from 'playwright-core';
import { freeSheets, imageSheets, type SheetKind } from '../../renderer/state/sheet-kinds.ts';
import { en } from '../../renderer/text/messages/en.ts';
import { zhCN } from '../../renderer/text/messages/zh-cn.ts';
import type { Collection, ShownImage } from './collection.ts';

export type Language = 'en' | 'zh-CN';

/** `image` and `tab`: a tab of its page; `sheet`: over the page that is open or, with `image`, over the page of that one. */
export interface Place {
  readonly name: string;
  readonly address?: string;
  readonly image?: ShownImage;
  readonly tab?: string;
  readonly sheet?: SheetKind;
  /** The key that opens a panel. */
  readonly press?: string;
  /** What is clicked when it is there, and what appears then. */
  readonly click?: { readonly text: keyof typeof en; readonly then: string };
  /** What is there when it is drawn. */
  readonly ready?: string;
}

const about: Partial<Record<SheetKind, ShownImage>> = { merge: 'top', commit: 'top', rebase: 'top' };

export const pages: readonly Place[] = [
  { name: 'library', address: '#/library', ready: '[role=gridcell]' },
  { name: 'image', image: 'base', tab: 'overview', ready: '[data-testid=platforms][aria-busy=false]' },
  { name: 'map', image: 'top', tab: 'map', ready: 'table[aria-label]' },
  { name: 'snapshots', image: 'base', tab: 'snapshots', ready: '[data-testid=snapshot]' },
  { name: 'contents', image: 'base', tab: 'contents', ready: '[data-testid=part]' },
  { name: 'chain', image: 'top', tab: 'chain', ready: '[data-testid=chain] button' },
  {
    name: 'check',
    image: 'crashed',
    tab: 'check',
    click: { text: 'check.run', then: '[data-testid=check-result]' },
  },
  { name: 'hex', image: 'base', tab: 'hex', ready: '[data-part=hex]' },
  { name: 'chains', address: '#/chains', ready: '[data-testid=chain] button' },
  { name: 'problems', address: '#/problems', ready: 'h1' },
  { name: 'jobs', address: '#/jobs', ready: 'h1' },
  { name: 'settings', address: '#/settings', ready: 'h1' },
];

export const panels: readonly Place[] = [
  { name: 'palette', address: '#/library', press: 'Control+k', ready: 'dialog' },
  { name: 'keys', address: '#/library', press: '?', ready: 'dialog' },
];

export const sheets: readonly Place[] = [
  ...freeSheets.map((sheet): Place => ({ name: `sheet-${sheet}`, address: '#/library', sheet, ready: 'dialog' })),
  // Taking back is offered where something can be taken back: none of the images here has been changed.
  ...imageSheets
    .filter((sheet) => sheet !== 'undo')
    .map((sheet): Place => ({
      name: `sheet-${sheet}`,
      image: about[sheet] ?? 'base',
      sheet,
      ready: 'dialog',
    })),
];

/** The window that one walks through; what is open already is not opened again. */
export class Tour {
  readonly page: Page;
  readonly #collection: Collection;
  readonly #language: Language;

  constructor(page: Page, collection: Collection, language: Language) {
    this.page = page;
    this.#collection = collection;
    this.#language = language;
  }

  #text(key: keyof typeof en): string {
    return this.#language === 'en' ? en[key] : zhCN[key];
  }

  async go(place: Place): Promise<void> {
    const { page } = this;
    await this.dismiss();
    const address =
      place.image === undefined
        ? place.address
        : `#/image/${encodeURIComponent(this.#collection.ids[place.image])}/${place.tab ?? 'overview'}`;
    if (address !== undefined && !page.url().endsWith(address)) {
      await page.evaluate(`location.hash = ${JSON.stringify(address)}`);
    }
    await page.getByRole('heading', { level: 1 }).first().waitFor();
    if (place.sheet !== undefined) await this.#openSheet(place.sheet, place.image !== undefined);
    if (place.press !== undefined) {
      await page.evaluate('document.activeElement?.blur()');
      await page.keyboard.press(place.press);
    }
    if (place.click !== undefined) {
      await page.getByRole('button', { name: this.#text(place.click.text), exact: true }).click();
      await page.locator(place.click.then).waitFor();
    }
    if (place.ready !== undefined) await page.locator(place.ready).first().waitFor();
    await this.rest();
  }

  async dismiss(): Promise<void> {
    const open = this.page.locator('dialog[open]');
    for (let left = await open.count(); left > 0; left -= 1) await this.page.keyboard.press('Escape');
    await open.waitFor({ state: 'detached' });
  }

  /** Until nothing has changed on the page for a while. */
  async rest(quiet = 250): Promise<void> {
    await this.page.evaluate<unknown>(`document.fonts.ready.then(() => new Promise((resolve) => {
      let timer = setTimeout(done, ${quiet});
      const limit = setTimeout(done, 5000);
      const watch = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, ${quiet}); });
      watch.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
      function done() { watch.disconnect(); clearTimeout(timer); clearTimeout(limit); resolve(null); }
    }))`);
  }

  async #openSheet(kind: SheetKind, ofImage: boolean): Promise<void> {
    const { page } = this;
    const free: Partial<Record<SheetKind, string>> = { convert: 'c', create: 'n', compare: 'Shift+C' };
    const key = ofImage ? undefined : free[kind];
    if (key !== undefined) {
      await page.evaluate('document.activeElement?.blur()');
      await page.keyboard.press(key);
      return;
    }
    const label = this.#text(verbLabels[kind] ?? (`verb.${kind}` as keyof typeof en));
    if (ofImage) {
      await page.locator('.verb-menu-trigger').click();
      // A key that does the same may stand behind the label.
      await page.getByRole('menuitem', { name: new RegExp(`^${label}( |$)`) }).click();
    } else {
      await page.keyboard.press('Control+k');
      await page.getByRole('combobox').last().fill(label);
      await page.keyboard.press('Enter');
    }
  }
}

const verbLabels: Partial<Record<SheetKind, keyof typeof en>> = {
  'add-datastore': 'datastores.add',
  overlay: 'action.overlay',
  resize: 'action.resize',
  compact: 'action.compact',
  delete: 'action.delete',
};

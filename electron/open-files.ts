// Opening what the system or the user points at: a file leads to the page of its image, a link too, a folder to becoming a datastore.
import { createRouterClient, type RouterClient } from '@orpc/server';
import { app, dialog, type BrowserWindow, type MessageBoxOptions } from 'electron';
import fs from 'node:fs';
import type { ShellRequest } from '../core/workbench/shell.ts';
import type { Workbench } from '../core/workbench/workbench.ts';
import { imageAddress, parseImageLink } from './addresses.ts';
import type { Wish } from './arguments.ts';
import type { Preferences } from './preferences.ts';
import type { Texts } from './texts.ts';

export interface Opening {
  readonly workbench: Workbench;
  readonly preferences: Preferences;
  readonly texts: () => Texts;
  /** Shows the window, a new one if need be. */
  readonly window: () => BrowserWindow;
  readonly ask: (request: ShellRequest) => void;
  /** The list of recent files is another one. */
  readonly recentChanged: () => void;
}

/** Files in the list of recent ones. */
const mostRecent = 10;

export class OpenFiles {
  readonly #client: RouterClient<Workbench['router']>;
  readonly #opening: Opening;

  constructor(opening: Opening) {
    this.#opening = opening;
    this.#client = createRouterClient(opening.workbench.router);
  }

  async fulfil(wishes: readonly Wish[]): Promise<void> {
    for (const wish of wishes) {
      if (wish.kind === 'link') await this.#told(() => this.openLink(wish.text));
      else if (wish.kind === 'convert') this.#sheet('convert', wish.path);
      else await this.#told(() => this.openPath(wish.path));
    }
  }

  /** Links come from anywhere: they only ever lead to what the library shows already. */
  async openLink(text: string): Promise<void> {
    const { texts } = this.#opening;
    const link = parseImageLink(text);
    if (link === null) return this.#warn(texts()('link-bad'));
    const id = await this.#find(link.image);
    if (id === null) return this.#warn(texts()('link-unknown', { image: link.image }));
    this.#page(imageAddress(id, link));
  }

  /** The page of the image in that file; one in no datastore becomes known by itself. A file that is none is said to be so. */
  async openPath(file: string): Promise<void> {
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) return this.#warn(this.#opening.texts()('no-file', { path: file }));
    if (stat.isDirectory()) return this.#sheet('add-datastore', file);
    this.#remember(file);
    const { id } = await this.#client.images.open({ path: file });
    this.#page(imageAddress(id));
  }

  /** The user asked for the dialog. */
  async pick(): Promise<void> {
    const { texts, window } = this.#opening;
    const { canceled, filePaths } = await dialog.showOpenDialog(window(), {
      title: texts()('open-image'),
      properties: ['openFile', 'multiSelections', 'showHiddenFiles'],
    });
    if (!canceled) await this.fulfil(filePaths.map((file) => ({ kind: 'open', path: file })));
  }

  clearRecent(): void {
    app.clearRecentDocuments();
    this.#opening.preferences.write({ recent: [] });
    this.#opening.recentChanged();
  }

  /** An image of the library; null: it knows none. */
  async #find(text: string): Promise<string | null> {
    try {
      return (await this.#client.images.find({ text })).id;
    } catch (error) {
      if (!isUnknown(error)) throw error;
      return null;
    }
  }

  /** A fault is said and nothing more: the window is as it was. */
  async #told(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.#warn(error instanceof Error ? error.message : String(error));
    }
  }

  #remember(file: string): void {
    const { preferences, recentChanged } = this.#opening;
    app.addRecentDocument(file);
    preferences.write({
      recent: [file, ...preferences.now.recent.filter((other) => other !== file)].slice(0, mostRecent),
    });
    recentChanged();
  }

  #page(address: string): void {
    this.#opening.window();
    this.#opening.ask({ kind: 'page', address });
  }

  #sheet(sheet: 'convert' | 'add-datastore', file: string): void {
    this.#opening.window();
    this.#opening.ask({ kind: 'sheet', sheet, path: file });
  }

  async #warn(message: string): Promise<void> {
    await this.#choose({ type: 'warning', message, buttons: ['OK'] });
  }

  async #choose(options: MessageBoxOptions): Promise<number> {
    return (await dialog.showMessageBox(this.#opening.window(), options)).response;
  }
}

function isUnknown(error: unknown): boolean {
  if (typeof error !== 'object' || error === null || !('data' in error)) return false;
  const { data } = error;
  return typeof data === 'object' && data !== null && 'code' in data && data.code === 'image/unknown';
}

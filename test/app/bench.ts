// A window over folders of real images for all tests of a file: images made, folders looked through, server and browser started and ended.
import fs from 'node:fs';
import path from 'node:path';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { openCatalogue } from '../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../core/catalogue/datastores.ts';
import { scan } from '../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../core/job.ts';
import type { GateRule } from '../../core/workbench/kept-gate.ts';
import { launchBrowser, openWindow, serveWindow, type Served } from './window.ts';

/** Browsers and servers are started on machines that are busy with other tests. */
const startWithin = 120_000;

export interface BenchOptions {
  /** Names of folders within that of the bench: made first; datastores, and looked through, before the window opens. */
  readonly stores?: readonly string[];
  /** Names of folders that are made, and of which the window is told nothing. */
  readonly folders?: readonly string[];
  /** Makes the images. */
  readonly prepare?: () => void | Promise<void>;
  /** About layers below, as for `serveWindow`. */
  readonly rule?: GateRule;
  /** Of the page. */
  readonly context?: BrowserContextOptions;
  /** What is done in the window before the first test. */
  readonly begin?: (page: Page) => Promise<void>;
}

export type Shown = Awaited<ReturnType<typeof openWindow>>;

export class Bench {
  readonly folder: string;
  readonly served: Served;
  readonly browser: Browser;
  readonly shown: Shown;

  private constructor(folder: string, served: Served, browser: Browser, shown: Shown) {
    this.folder = folder;
    this.served = served;
    this.browser = browser;
    this.shown = shown;
  }

  static async open(folder: string, options: BenchOptions = {}): Promise<Bench> {
    const { stores = [], folders = [], prepare, rule, context, begin } = options;
    for (const name of [...stores, ...folders]) fs.mkdirSync(path.join(folder, name), { recursive: true });
    await prepare?.();
    if (stores.length > 0) await lookThrough(folder, stores);
    const served = await serveWindow(folder, [], rule);
    const browser = await launchBrowser();
    const shown = await openWindow(browser, served.url, context);
    await begin?.(shown.page);
    return new Bench(folder, served, browser, shown);
  }

  async close(): Promise<void> {
    await this.browser.close();
    await this.served.stop();
  }

  get page(): Page {
    return this.shown.page;
  }

  /** What went wrong in the page. */
  get faults(): string[] {
    return this.shown.faults;
  }

  /** Another window, with a context of its own. */
  openAnother(context: BrowserContextOptions = {}): Promise<Shown> {
    return openWindow(this.browser, this.served.url, context);
  }

  async goTo(address: string): Promise<void> {
    await this.page.evaluate(`location.hash = ${JSON.stringify(address)}`);
  }

  /** Closes every sheet, for a test that failed leaves none open for the next one. */
  async dismiss(): Promise<void> {
    const open = this.page.locator('dialog');
    for (let left = await open.count(); left > 0; left -= 1) await this.page.keyboard.press('Escape');
  }
}

/**
 * The bench of a file, to be called where tests are collected: opened before the first one, closed after the last; what goes wrong in the
 * page fails the test in which it does. What it gives is there from the first test on.
 */
export function useBench(folder: string, options: BenchOptions = {}): () => Bench {
  let bench: Bench | null = null;
  const opened = (): Bench => {
    if (bench === null) throw new Error('the bench is not open yet');
    return bench;
  };
  beforeAll(async () => {
    bench = await Bench.open(folder, options);
  }, startWithin);
  afterEach(async () => {
    await opened().dismiss();
    expect(opened().faults.splice(0)).toEqual([]);
  });
  afterAll(() => bench?.close());
  return opened;
}

async function lookThrough(folder: string, stores: readonly string[]): Promise<void> {
  const catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
  try {
    for (const name of stores) {
      addDatastore(catalogue, { path: path.join(folder, name), name });
      await scan(catalogue, { datastore: name, everything: false }, silentJob);
    }
  } finally {
    catalogue.close();
  }
}

// A window over folders with real images, and the way to any sheet of any of them.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { openCatalogue, type Catalogue } from '../../core/catalogue/catalogue.ts';
import { resolveImage } from '../../core/catalogue/images.ts';
import { scan } from '../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../core/job.ts';
import type { Locator, Page } from 'playwright-core';
import { en } from '../../renderer/text/messages/en.ts';
import { zhCN } from '../../renderer/text/messages/zh-cn.ts';
import { Bench } from './bench.ts';

const program = path.resolve(import.meta.dirname, '../../dist/cli/main.js');

export class SheetBench {
  readonly folder: string;
  readonly #bench: Bench;
  language: 'en' | 'zh-CN' = 'en';
  readonly #stores: readonly string[];
  readonly #catalogue: Catalogue;

  private constructor(bench: Bench, stores: readonly string[], catalogue: Catalogue) {
    this.folder = bench.folder;
    this.#bench = bench;
    this.#stores = stores;
    this.#catalogue = catalogue;
  }

  /** `stores`: folders in `folder` that are datastores. */
  static async open(folder: string, stores: readonly string[]): Promise<SheetBench> {
    const bench = await Bench.open(folder, {
      stores,
      begin: (page) => page.getByRole('heading', { level: 1 }).waitFor(),
    });
    return new SheetBench(bench, stores, openCatalogue(path.join(folder, 'catalogue.db')));
  }

  async close(): Promise<void> {
    await this.#bench.close();
    this.#catalogue.close();
  }

  get page(): Page {
    return this.#bench.page;
  }

  /** What went wrong in the page. */
  get faults(): string[] {
    return this.#bench.faults;
  }

  get sheet(): Locator {
    return this.page.getByRole('dialog');
  }

  /** Looks through the folders now, so that the images made meanwhile are known. */
  async scan(): Promise<void> {
    for (const datastore of this.#stores) {
      await scan(this.#catalogue, { datastore, everything: false }, silentJob);
    }
  }

  goTo(address: string): Promise<void> {
    return this.#bench.goTo(address);
  }

  /** Opens the sheet of a verb for the image at `file`. */
  async openSheet(file: string, verb: string): Promise<Locator> {
    await this.goTo('#/library');
    await this.goTo(`#/image/${encodeURIComponent(resolveImage(this.#catalogue, file))}/overview`);
    await this.page.locator('header p.mono').getByText(file, { exact: true }).waitFor();
    await this.page.locator('.verb-menu-trigger').click();
    const key = Object.hasOwn(en, `verb.${verb}`) ? `verb.${verb}` : `action.${verb}`;
    const { [key as keyof typeof en]: label } = this.language === 'en' ? en : zhCN;
    // A key that does the same may stand behind the label.
    await this.page.getByRole('menuitem', { name: new RegExp(`^${label}( |$)`) }).click();
    await this.sheet.waitFor();
    return this.sheet;
  }

  /** Presses the button that does it and waits until the program says that it is done. */
  async finish(title: string): Promise<void> {
    await this.sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await this.sheet.waitFor({ state: 'hidden' });
    await this.page.getByText(`Done: ${title}`).last().waitFor();
    for (const close of await this.page.getByRole('status').getByRole('button', { name: 'Close' }).all()) {
      await close.click({ timeout: 1000 }).catch(() => {}); // it went away by itself
    }
  }

  /** The command line that the open sheet shows. */
  async command(): Promise<string> {
    return (await this.sheet.getByTestId('command').textContent()) ?? '';
  }

  dismiss(): Promise<void> {
    return this.#bench.dismiss();
  }
}

/** `platter`, as it is built, with the catalogue of the bench in `folder`. */
export function runCommand(folder: string, args: readonly string[]): string {
  return execFileSync(process.execPath, [program, ...args], { encoding: 'utf8', env: environmentOf(folder) });
}

/** A line for a shell in which `platter` is the built program. */
export function runLine(folder: string, line: string): string {
  const script = `platter() { '${process.execPath}' '${program}' "$@"; }\n${line}`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8', env: environmentOf(folder) });
}

function environmentOf(folder: string): NodeJS.ProcessEnv {
  return { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') };
}

/** Images as qemu-img and qemu-io make and judge them, in one folder. */
export class Images {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    fs.mkdirSync(folder, { recursive: true });
  }

  at(name: string): string {
    return path.join(this.folder, name);
  }

  qemuImg(...args: string[]): string {
    for (let attempt = 1; ; attempt++) {
      const { status, stdout, stderr, error } = spawnSync('qemu-img', args, { encoding: 'utf8', cwd: this.folder });
      if (status === 0) return stdout;
      // It times the derivation of a LUKS key, which fails now and then on a busy machine.
      if (attempt === 30 || !stderr.includes('accurate CPU usage')) throw error ?? new Error(stderr);
    }
  }

  qemuIo(name: string, ...commands: string[]): void {
    execFileSync('qemu-io', [...commands.flatMap((command) => ['-c', command]), this.at(name)]);
  }

  /** An image over `below`, or an own disk of 8 MiB, with one byte written all over `range`. */
  make(name: string, below: string | null, range: string | null): void {
    const under = below === null ? [] : ['-b', below, '-F', 'qcow2'];
    this.qemuImg('create', '-q', '-f', 'qcow2', ...under, this.at(name), ...(below === null ? ['8M'] : []));
    if (range !== null) this.qemuIo(name, `write ${range}`);
  }

  keepContent(name: string): string {
    const kept = this.at(`${name}.kept`);
    this.qemuImg('convert', '-O', 'raw', this.at(name), kept);
    return kept;
  }

  same(kept: string, name: string, format = 'qcow2'): void {
    this.qemuImg('compare', '-f', 'raw', '-F', format, kept, this.at(name));
  }

  info(name: string): Record<string, unknown> {
    return JSON.parse(this.qemuImg('info', '--output=json', this.at(name))) as Record<string, unknown>;
  }
}

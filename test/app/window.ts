// The built window in a real browser over the real `platter serve`: started, opened, closed.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { openCatalogue } from '../../core/catalogue/catalogue.ts';
import { readGate, writeGate, type GateRule } from '../../core/workbench/kept-gate.ts';
import { findProgram } from '../peer-packages.ts';

const project = path.resolve(import.meta.dirname, '../..');

/** Milliseconds that the server has to end; ten seconds of them it may wait for a job. */
const endsWithin = 30_000;

export interface Served {
  /** With the token. */
  readonly url: string;
  /** Of the server. */
  readonly pid: number;
  stop(): Promise<void>;
}

/** Why the window cannot be tried here; null: it can. */
export function missingWindow(): string | null {
  const built = fs.existsSync(path.join(project, 'dist', 'renderer', 'index.html'));
  return built ? null : 'the window is not built (npm run build)';
}

/**
 * Starts the built server with a catalogue of its own in `folder`. `rule`: about layers below; a window that is about something else than
 * that question is spared it.
 */
export async function serveWindow(
  folder: string,
  args: readonly string[] = [],
  rule: GateRule = 'allow',
): Promise<Served> {
  const catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
  writeGate(catalogue, { ...readGate(catalogue), rule });
  catalogue.close();
  const child = spawn(process.execPath, [path.join(project, 'dist', 'cli', 'main.js'), 'serve', ...args], {
    env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
  const url = await new Promise<string>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part: Buffer) => {
      text += part.toString();
      if (text.includes('\n')) resolve(text.split('\n')[0] ?? '');
    });
    child.on('exit', (code) => reject(new Error(`serve ended with ${code}: ${stderr}`)));
  });
  return {
    url,
    pid: child.pid ?? 0,
    async stop() {
      // One that a signal ended has no exit code.
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise<true>((resolve) => child.once('exit', () => resolve(true)));
      child.kill('SIGTERM');
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), endsWithin)));
      const inTime = await Promise.race([ended, late]);
      clearTimeout(timer);
      if (inTime) return;
      child.kill('SIGKILL');
      await ended;
      throw new Error(`serve did not end within ${endsWithin} ms of SIGTERM: ${stderr}`);
    },
  };
}

export function launchBrowser(): Promise<Browser> {
  const executablePath = findProgram('chromium');
  if (executablePath === null) throw new Error('there is no chromium');
  const asRoot = process.getuid?.() === 0;
  return chromium.launch({ executablePath, args: asRoot ? ['--no-sandbox'] : [] });
}

/** Messages at the edge of the window stand for six seconds, which is too short for who looks with half a processor: here it is a minute. */
const keepMessages = `{
  const { setTimeout: set } = window;
  window.setTimeout = (work, time, ...rest) => set(work, time === 6000 ? 60000 : time, ...rest);
}`;

/** A page of its own; what goes wrong in it (a script's error, a refusal of the policy) is kept in `faults`. */
export async function openWindow(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; faults: string[]; close(): Promise<void> }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-US', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(Number(process.env.WINDOW_TIMEOUT ?? 45_000));
  await page.addInitScript(keepMessages);
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(message.text());
  });
  await page.goto(url);
  return { page, faults, close: () => context.close() };
}

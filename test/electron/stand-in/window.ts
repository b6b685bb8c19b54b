// The window that the program wants, in the real Chromium: the real preload script, the files of the real protocol handler, the real port.
import fs from 'node:fs';
import type { Browser, Page } from 'playwright-core';
import { builtPreload, type Program, type ToWindow } from './program.ts';

/** Chromium knows no scheme of ours: its pages come from here, filled by the program's handler of `platter://window/`. */
const inBrowser = 'https://window.platter.test';
const inElectron = 'platter://window';

export interface BridgedWindow {
  readonly page: Page;
  /** Errors of scripts, refusals of the policy. */
  readonly faults: string[];
  /** Which origin the script asked the browser to hand the port to. */
  handedTo(): Promise<string[]>;
  close(): Promise<void>;
}

interface FromPage {
  readonly kind: 'say' | 'invoke' | 'port';
  readonly channel: string;
  readonly args: readonly unknown[];
  readonly id: number;
  readonly data: unknown;
}

/** Bytes cross to and from the page as base64. */
const pack = (data: unknown): unknown =>
  data instanceof Uint8Array ? { bytes: Buffer.from(data).toString('base64') } : data;
const unpack = (data: unknown): unknown =>
  typeof data === 'object' && data !== null && 'bytes' in data
    ? new Uint8Array(Buffer.from(String(data.bytes), 'base64'))
    : data;

export async function bridgeWindow(browser: Browser, program: Program): Promise<BridgedWindow> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-US' });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(message.text());
  });
  await page.route('**/*', async (route) => {
    const address = route.request().url();
    if (!address.startsWith(`${inBrowser}/`)) return route.abort();
    const answer = await program.within(
      async (stand, [url, method]) => {
        const handler = stand.protocol.handlers.get('platter');
        if (handler === undefined) throw new Error('no handler');
        const response = await handler({ url, method } as Request);
        return {
          status: response.status,
          headers: [...response.headers] as [string, string][],
          body: new Uint8Array(await response.arrayBuffer()),
        };
      },
      [inElectron + address.slice(inBrowser.length), route.request().method()] as const,
    );
    await route.fulfill({ ...answer, headers: Object.fromEntries(answer.headers), body: Buffer.from(answer.body) });
  });
  await page.exposeBinding('__toProgram', async (_source, message: FromPage) => {
    const { kind, channel, args, id } = message;
    if (kind === 'port') program.fromPage(id, unpack(message.data));
    else if (kind === 'say')
      await program.within((stand, [name, given]) => stand.ipcMain.say(name, given), [channel, args] as const);
    else {
      try {
        return {
          result: await program.within((stand, [name, given]) => stand.ipcMain.invoke(name, given), [
            channel,
            args,
          ] as const),
        };
      } catch (error) {
        return { error: error instanceof Error ? error.message : String(error) };
      }
    }
    return null;
  });

  const options = await new Promise<Record<string, unknown>>((resolve) => {
    program.onWindow((message: ToWindow) => {
      if (message.kind === 'load') resolve(message.options);
      else {
        const packed = message.kind === 'to-page' ? { ...message, data: pack(message.data) } : message;
        void page
          .evaluate((given) => (globalThis as never as { __hear(m: unknown): void }).__hear(given), packed)
          .catch(() => {});
      }
    });
  });
  const { additionalArguments } = options.webPreferences as { additionalArguments: string[] };
  const given = JSON.stringify({ argv: additionalArguments, origin: inElectron });
  const script = `function (require, module, exports, process, window, location) {${fs.readFileSync(builtPreload, 'utf8')}}`;
  await page.addInitScript(`${runPreload.toString()}; runPreload(${given}, ${script})`);
  await page.goto(`${inBrowser}/`);
  return {
    page,
    faults,
    handedTo: () => page.evaluate(() => (globalThis as never as { __handedTo: string[] }).__handedTo),
    close: () => context.close(),
  };
}

/** In the page: what a sandboxed preload script has of Electron, made of what a browser has. */
function runPreload(given: { argv: string[]; origin: string }, script: (...globals: unknown[]) => void): void {
  interface Global {
    __toProgram(message: unknown): Promise<{ result?: unknown; error?: string } | null>;
    __hear(message: { kind: string; channel: string; args: unknown[]; id: number; data: unknown }): void;
    __handedTo: string[];
    postMessage(message: unknown, origin: string, ports: unknown[]): void;
    location: { origin: string };
    atob(text: string): string;
    btoa(text: string): string;
    MessageChannel: new () => { port1: Port; port2: Port };
    [name: string]: unknown;
  }
  interface Port {
    postMessage(data: unknown): void;
    close(): void;
    onmessage: ((event: { data: unknown }) => void) | null;
  }
  const global = globalThis as never as Global;
  const ports = new Map<number, Port>();
  const listeners = new Map<string, ((event: unknown, ...args: unknown[]) => void)[]>();
  const bytesOf = (text: string): Uint8Array => Uint8Array.from(global.atob(text), (letter) => letter.charCodeAt(0));
  const textOf = (bytes: Uint8Array): string =>
    global.btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  global.__handedTo = [];
  global.__hear = ({ kind, channel, args, id, data }) => {
    if (kind === 'send') for (const listener of listeners.get(channel) ?? []) listener({}, ...args);
    else if (kind === 'port') {
      const { port1, port2 } = new global.MessageChannel();
      ports.set(id, port1);
      port1.onmessage = (event) => {
        const packed = event.data instanceof Uint8Array ? { bytes: textOf(event.data) } : event.data;
        void global.__toProgram({ kind: 'port', id, data: packed });
      };
      for (const listener of listeners.get(channel) ?? []) listener({ ports: [port2] });
    } else if (kind === 'port-closed') ports.get(id)?.close();
    else {
      const bytes = typeof data === 'object' && data !== null && 'bytes' in data ? bytesOf(String(data.bytes)) : data;
      ports.get(id)?.postMessage(bytes);
    }
  };
  const electron = {
    contextBridge: {
      exposeInMainWorld: (name: string, value: unknown) => {
        global[name] = value;
      },
    },
    ipcRenderer: {
      send: (channel: string, ...args: unknown[]) => void global.__toProgram({ kind: 'say', channel, args }),
      invoke: async (channel: string, ...args: unknown[]) => {
        const answer = await global.__toProgram({ kind: 'invoke', channel, args });
        if (answer?.error !== undefined) throw new Error(answer.error);
        return answer?.result;
      },
      on: (channel: string, listener: (event: unknown, ...args: unknown[]) => void) => {
        listeners.set(channel, [...(listeners.get(channel) ?? []), listener]);
      },
    },
    webUtils: { getPathForFile: (file: { name: string }) => `/dropped/${file.name}` },
  };
  const require = (name: string): unknown => {
    if (name !== 'electron') throw new Error(`a sandboxed script has no module '${name}'`);
    return electron;
  };
  const window = {
    postMessage: (message: unknown, origin: string, handed: unknown[]) => {
      global.__handedTo.push(origin);
      global.postMessage(message, global.location.origin, handed);
    },
  };
  script(require, { exports: {} }, {}, { argv: given.argv }, window, { origin: given.origin });
}

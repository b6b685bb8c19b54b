// Stand-in tests of the window: how it is made, that its page runs over the port in a real browser, what it may not do, where it comes back.
import fs from 'node:fs';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { launchBrowser } from '../app/window.ts';
import { describeWith, itWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { missingShell, Program } from './stand-in/program.ts';
import type { Scene } from './stand-in/electron.ts';
import { bridgeWindow } from './stand-in/window.ts';

const folder = scratchFolder('electron-window');
const project = path.resolve(import.meta.dirname, '../..');

/** The addresses of other sites in the sources below `place`. */
function sourcesOf(place: string): string[] {
  return fs
    .readdirSync(place, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => fs.readFileSync(path.join(place, name), 'utf8').match(/https:\/\/[^\s'"`)]+/g) ?? []);
}

let program: Program;
let runs = 0;

/** Waits for what is read to be as it should, also on a machine that has other things to do. */
const eventually = <Value>(read: () => Value) => expect.poll(read);

async function start(scene: Partial<Scene> = {}, argv: string[] = []): Promise<Program> {
  runs += 1;
  program = new Program({ folder: path.join(folder, `run-${runs}`), ...scene }, argv);
  await program.askedFor('loadURL');
  return program;
}

afterEach(async () => {
  await program.stop();
});

describeWith({ unless: missingShell() }, 'the window (stand-in)', () => {
  it('is sandboxed, isolated and without Node, and its script is the only one', async () => {
    await start();
    const [[options]] = (await program.asked('BrowserWindow')) as [[{ webPreferences: Record<string, unknown> }]];
    const { preload, ...rest } = options.webPreferences;
    expect(path.basename(String(preload))).toBe('preload.cjs');
    expect(rest).toEqual({
      additionalArguments: ['--platter-origin=platter://window'],
      sandbox: true,
      contextIsolation: true,
      nodeIntegration: false,
      nodeIntegrationInWorker: false,
      nodeIntegrationInSubFrames: false,
      webSecurity: true,
      allowRunningInsecureContent: false,
      webviewTag: false,
      navigateOnDragDrop: false,
      spellcheck: false,
      devTools: true,
    });
    expect(await program.asked('enableSandbox')).toHaveLength(1);
    expect(await program.asked('loadURL')).toEqual([['platter://window/']]);
    expect(await program.asked('registerSchemesAsPrivileged')).toEqual([
      [[{ scheme: 'platter', privileges: { standard: true, secure: true, supportFetchAPI: true, codeCache: true } }]],
    ]);
  });

  it('has no developer tools in a packaged program, and claims links only there', async () => {
    await start({ packaged: true });
    const [[options]] = (await program.asked('BrowserWindow')) as [[{ webPreferences: Record<string, unknown> }]];
    expect(options.webPreferences.devTools).toBe(false);
    expect(await program.asked('setAsDefaultProtocolClient')).toEqual([['platter']]);
    await program.stop();
    await start();
    expect(await program.asked('setAsDefaultProtocolClient')).toEqual([]);
  });

  it('goes nowhere else, opens no windows, and hands only addresses of the list to the browser', async () => {
    await start();
    const seen = await program.within((stand) => {
      const contents = stand.BrowserWindow.all[0]!.webContents;
      const tried = (name: string, facts: object): boolean => {
        const event = stand.preventable({ isMainFrame: true, url: '', ...facts });
        contents.emit(name, event);
        return event.prevented;
      };
      return {
        away: tried('will-navigate', { url: 'https://example.com/' }),
        file: tried('will-navigate', { url: 'file:///etc/passwd' }),
        other: tried('will-navigate', { url: 'platter://image/x' }),
        lookalike: tried('will-navigate', { url: 'platter://window.example/' }),
        itself: tried('will-navigate', { url: 'platter://window/#/jobs' }),
        redirect: tried('will-redirect', { url: 'https://example.com/' }),
        frame: tried('will-frame-navigate', { isMainFrame: false, url: 'platter://window/' }),
        webview: tried('will-attach-webview', {}),
        opened: [
          'https://example.com/',
          'http://learn.microsoft.com/',
          'https://learn.microsoft.com@example.com/',
          'https://learn.microsoft.com:8443/',
          'javascript:alert(1)',
          'smb://learn.microsoft.com/',
          'https://learn.microsoft.com/azure/',
        ].map((url) => contents.openHandler!({ url }).action),
      };
    });
    expect(seen).toEqual({
      away: true,
      file: true,
      other: true,
      lookalike: true,
      itself: false,
      redirect: true,
      frame: true,
      webview: true,
      opened: ['deny', 'deny', 'deny', 'deny', 'deny', 'deny', 'deny'],
    });
    expect(await program.asked('openExternal')).toEqual([['https://learn.microsoft.com/azure/']]);
  });

  it('opens every source that the program cites, outside', async () => {
    await start();
    const cited = [...new Set(sourcesOf(path.join(project, 'core', 'profiles')))];
    expect(cited.length).toBeGreaterThan(0);
    await program.within((stand, urls) => {
      for (const url of urls) stand.BrowserWindow.all[0]!.webContents.openHandler!({ url });
    }, cited);
    expect((await program.asked('openExternal')).map(([url]) => url)).toEqual(cited);
  });

  it('is given no permission but that to write text into the clipboard, and no network', async () => {
    await start();
    const seen = await program.within((stand) => {
      const session = stand.session.defaultSession;
      const contents = stand.BrowserWindow.all[0]!.webContents;
      const request = (permission: string): boolean => {
        let given = true;
        session.permissionRequest!(contents, permission, (answer: boolean) => (given = answer), {});
        return given;
      };
      const check = (permission: string, origin: string): boolean =>
        session.permissionCheck!(contents, permission, origin, {});
      const load = (url: string): boolean => {
        let cancelled = true;
        session.beforeRequest!({ url }, (reply) => (cancelled = reply.cancel));
        return !cancelled;
      };
      const saved = (url: string): boolean => {
        const event = stand.preventable({});
        session.emit('will-download', event, { getURL: () => url });
        return !event.prevented;
      };
      const names = [
        'media',
        'geolocation',
        'notifications',
        'usb',
        'hid',
        'serial',
        'fileSystem',
        'clipboard-read',
        'openExternal',
        'pointerLock',
        'unknown',
      ];
      return {
        requests: names.filter(request),
        checks: names.filter((name) => check(name, 'platter://window')),
        clipboard: [request('clipboard-sanitized-write'), check('clipboard-sanitized-write', 'platter://window')],
        elsewhere: check('clipboard-sanitized-write', 'https://example.com'),
        device: session.device!(),
        loads: [
          'platter://window/index.html',
          'blob:platter://window/1',
          'https://example.com/',
          'file:///etc/passwd',
          'ws://127.0.0.1:1/',
          'platter://windowx/',
        ].map(load),
        saves: ['blob:platter://window/1', 'https://example.com/x', 'blob:https://example.com/1'].map(saved),
      };
    });
    expect(seen).toEqual({
      requests: [],
      checks: [],
      clipboard: [true, true],
      elsewhere: false,
      device: false,
      loads: [true, true, false, false, false, false],
      saves: [true, false, false],
    });
    expect(await program.asked('setSpellCheckerEnabled')).toEqual([[false]]);
  });

  it('is served its own files and nothing beside them, under a policy', async () => {
    await start();
    const get = (url: string, method = 'GET') =>
      program.within(
        async (stand, [address, verb]) => {
          const answer = await stand.protocol.handlers.get('platter')!({ url: address, method: verb } as Request);
          return { status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() };
        },
        [url, method] as const,
      );
    const page = await get('platter://window/');
    expect(page.status).toBe(200);
    expect(page.text).toContain('<div id="app">');
    for (const answer of [page, await get('platter://window/none')]) {
      const policy = answer.headers['content-security-policy'] ?? '';
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("script-src 'self';");
      expect(policy).toContain("connect-src 'self';");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(answer.headers['x-content-type-options']).toBe('nosniff');
    }
    const refused = [
      'platter://window/../package.json',
      'platter://window/%2e%2e/package.json',
      'platter://window/..%2fpackage.json',
      'platter://window/assets/..%5c..%5cpackage.json',
      'platter://window/%252e%252e/package.json',
      'platter://window//etc/passwd',
      'platter://window/index.html%00.js',
      'platter://window/%ff',
      'platter://window/assets/',
      'platter://image/',
      'platter://other/index.html',
      'platter://window.example/index.html',
    ];
    for (const address of refused) expect((await get(address)).status, address).toBe(404);
    expect((await get('platter://window/', 'POST')).status).toBe(405);
    expect((await get('platter://window/index.html?x=1#y')).status).toBe(200);
  });

  it('alone is answered: other frames, pages and windows, unknown names and wrong shapes are not', async () => {
    await start();
    const file = path.join(folder, 'shown.raw');
    fs.writeFileSync(file, '');
    const outcomes = await program.within(async (stand, name) => {
      const input = { path: name };
      const tried = async (args: unknown[], from: object = {}): Promise<string> => {
        try {
          await stand.ipcMain.invoke('platter:call', args, from);
          return 'done';
        } catch (error) {
          return error instanceof Error ? error.message : String(error);
        }
      };
      stand.ipcMain.say('platter:connect', [], { url: 'https://example.com/' });
      return [
        await tried(['showInFolder', input], { url: 'https://example.com/' }),
        await tried(['showInFolder', input], { url: 'platter://window.example/' }),
        await tried(['showInFolder', input], { parent: {} }),
        await tried(['showInFolder', input], { sender: {} }),
        await tried(['toString', input]),
        await tried(['exec', input]),
        await tried(['showInFolder', { path: 1 }]),
        await tried(['showInFolder', { ...input, more: 1 }]),
        await tried(['startDrag', { paths: [] }]),
        await tried(['showInFolder', input]),
      ];
    }, file);
    expect(outcomes.slice(0, 4)).toEqual(Array(4).fill('not from the window'));
    expect(outcomes.slice(4, 6)).toEqual(Array(2).fill('there is no such call'));
    for (const text of outcomes.slice(6, 9)) expect(text).toMatch(/^(showInFolder|startDrag): /);
    expect(outcomes[9]).toBe('done');
    expect(await program.asked('showItemInFolder')).toEqual([[file]]);
    expect(await program.asked('postMessage')).toEqual([]); // no port for the stranger
  });

  it('comes back where it was, unless nobody could see it there', async () => {
    const place = path.join(folder, 'bounds');
    await start({ folder: place });
    await program.within((stand) => {
      const window = stand.BrowserWindow.all[0]!;
      window.bounds = { x: 300, y: 200, width: 1000, height: 700 };
      window.maximized = true;
      window.emit('move');
    });
    const kept = path.join(place, 'userData', 'shell.json');
    await eventually(() => fs.existsSync(kept) && fs.readFileSync(kept, 'utf8').includes('1000')).toBe(true);
    await program.stop();
    await start({ folder: place });
    expect((await program.asked('BrowserWindow'))[0]?.[0]).toMatchObject({ x: 300, y: 200, width: 1000, height: 700 });
    await program.askedFor('maximize');
    await program.stop();
    // The display that it stood on is gone.
    await start({ folder: place, displays: [{ x: 0, y: 0, width: 350, height: 900 }] });
    const [moved] = (await program.asked('BrowserWindow'))[0] as [Record<string, unknown>];
    expect(moved).toMatchObject({ width: 350, height: 700 });
    expect(moved).not.toHaveProperty('x');
    await program.stop();
    fs.writeFileSync(kept, '{"bounds":{"x":"<img>"},"theme":"dark"');
    await start({ folder: place });
    expect((await program.asked('BrowserWindow'))[0]?.[0]).toMatchObject({ width: 1280, height: 820 });
  });

  it('whose process died is loaded again, and says so; a row of crashes is asked about', async () => {
    await start();
    const crash = () =>
      program.within((stand) => {
        stand.BrowserWindow.all[0]!.webContents.emit('render-process-gone', {}, { reason: 'crashed', exitCode: 5 });
      });
    const ready = () => program.within((stand) => stand.ipcMain.invoke('platter:call', ['ready', {}]));
    await ready();
    await crash();
    expect(await program.asked('reload')).toHaveLength(1);
    expect(await program.asked('send')).toEqual([]); // there is nobody to hear it yet
    await ready();
    expect(await program.asked('send')).toEqual([['platter:request', { kind: 'restarted', reason: 'crashed' }]]);
    for (let i = 0; i < 3; i++) await crash();
    await program.askedFor('showMessageBox', ([options]) => JSON.stringify(options).includes('several times'));
  });

  itWith({ peers: ['chromium', 'qemu-img'] }, 'works in a real browser, over the port alone', async () => {
    const store = path.join(folder, 'store');
    fs.mkdirSync(store);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(store, 'disk.qcow2'), '8M']);
    await start({}, [path.join(store, 'disk.qcow2')]);
    const bridged = await bridgeWindow(browser, program);
    await bridged.page.getByText('Platter').first().waitFor();
    await program.within(
      (stand, file) => stand.app.emit('open-file', stand.preventable({}), file),
      path.join(store, 'disk.qcow2'),
    );
    await bridged.page.getByRole('heading', { name: 'disk.qcow2' }).waitFor();
    expect(new URL(bridged.page.url()).hash).toMatch(/^#\/image\/[0-9a-f-]{36}\/overview$/);
    expect(await bridged.handedTo()).toEqual(['platter://window']);
    // Native dialogs stand in for the list of folders, and the file can be shown where it lies.
    await bridged.page.getByRole('button', { name: 'Show in its folder' }).click();
    expect(await program.askedFor('showItemInFolder')).toEqual([path.join(store, 'disk.qcow2')]);
    await program.within((stand) => stand.answers.push({ canceled: false, filePaths: ['/picked/by/the/system.raw'] }));
    await program.click('convert');
    const sheet = bridged.page.getByRole('dialog');
    await sheet
      .getByRole('button', { name: /browse|choose/i })
      .first()
      .click();
    await eventually(() => sheet.locator('input').first().inputValue()).toBe('/picked/by/the/system.raw');
    // A page that is loaded again gets a port of its own; the old one is closed.
    await bridged.page.reload();
    await bridged.page.getByRole('heading', { name: 'disk.qcow2' }).waitFor();
    expect(
      await program.within((stand) => [...stand.MessagePortMain.inPage.values()].map(({ closed }) => closed)),
    ).toEqual([true, false]);
    expect(bridged.faults).toEqual([]);
    await bridged.close();
  });
});

let browser: Browser;
beforeAll(async () => {
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
});

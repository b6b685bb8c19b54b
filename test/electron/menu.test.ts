// Stand-in tests of the menus: what each system is given, in both languages, and what their items do.
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import type { MenuItem } from './stand-in/electron.ts';
import { missingShell, Program } from './stand-in/program.ts';

const folder = scratchFolder('electron-menu');
let program: Program | null = null;
let runs = 0;

async function start(
  scene: { platform?: NodeJS.Platform; language?: string },
  env: NodeJS.ProcessEnv = {},
): Promise<Program> {
  runs += 1;
  program = new Program({ folder: path.join(folder, `run-${runs}`), ...scene }, [], env);
  await program.askedFor('loadURL');
  return program;
}

afterEach(async () => {
  await program?.stop();
});

const labels = (items: readonly MenuItem[] | undefined): string[] => (items ?? []).flatMap(({ label }) => label ?? []);
const roles = (items: readonly MenuItem[] | undefined): string[] => (items ?? []).flatMap(({ role }) => role ?? []);
const under = (items: readonly MenuItem[], label: string): readonly MenuItem[] =>
  items.find((item) => item.label === label)?.submenu ?? [];

describeWith({ unless: missingShell() }, 'the menus (stand-in)', () => {
  it('on a Mac begin with the program itself, which holds settings and quitting', async () => {
    const menu = await (await start({ platform: 'darwin' })).menu();
    expect(labels(menu)).toEqual(['Platter', 'File', 'Edit', 'View', 'Window', 'Help']);
    expect(roles(under(menu, 'Platter'))).toEqual(['about', 'services', 'hide', 'hideOthers', 'unhide', 'quit']);
    expect(labels(under(menu, 'Platter'))).toContain('Settings…');
    expect(labels(under(menu, 'File'))).not.toContain('Settings…');
    expect(roles(under(menu, 'File'))).toEqual(['close']);
  });

  for (const platform of ['linux', 'win32'] as const) {
    it(`on ${platform} have settings and quitting under File, and no menu of the program`, async () => {
      const menu = await (await start({ platform })).menu();
      expect(labels(menu)).toEqual(['File', 'Edit', 'View', 'Help']);
      expect(labels(under(menu, 'File'))).toEqual([
        'New Image…',
        'Open…',
        'Open Recent',
        'Convert…',
        'Compare…',
        'Add Datastore…',
        'Settings…',
        'Quit Platter',
      ]);
      expect(roles(under(menu, 'Edit'))).toEqual(['undo', 'redo', 'cut', 'copy', 'paste', 'delete', 'selectAll']);
    });
  }

  it("speak the system's language, and the window's once it has said it", async () => {
    const running = await start({ language: 'zh-Hans-CN' });
    expect(labels(await running.menu())).toEqual(['文件', '编辑', '视图', '帮助']);
    await running.within((stand) =>
      stand.ipcMain.invoke('platter:call', ['setAppearance', { language: 'en', theme: 'dark' }]),
    );
    expect(labels(await running.menu())).toEqual(['File', 'Edit', 'View', 'Help']);
    expect(await running.within((stand) => stand.nativeTheme.themeSource)).toBe('dark');
  });

  it('ask the window for pages and sheets, once it listens', async () => {
    const running = await start({});
    await running.click('new');
    expect(await running.asked('send')).toEqual([]);
    await running.within((stand) => stand.ipcMain.invoke('platter:call', ['ready', {}]));
    for (const id of ['convert', 'compare', 'add-datastore', 'settings', 'jobs']) await running.click(id);
    expect((await running.asked('send')).map(([, request]) => request)).toEqual([
      { kind: 'sheet', sheet: 'create', path: null },
      { kind: 'sheet', sheet: 'convert', path: null },
      { kind: 'sheet', sheet: 'compare', path: null },
      { kind: 'sheet', sheet: 'add-datastore', path: null },
      { kind: 'page', address: '#/settings' },
      { kind: 'page', address: '#/jobs' },
    ]);
  });

  it('say nothing of updates unless a feed is configured, and look for none until that is turned on', async () => {
    const without = await start({});
    expect(labels(under(await without.menu(), 'Help'))).toEqual(['About Platter']);
    await without.stop();
    const plain = await start({}, { PLATTER_UPDATE_FEED: 'http://releases.example/feed.json' });
    expect(labels(under(await plain.menu(), 'Help'))).toEqual(['About Platter']);
    await plain.stop();

    const feed = 'https://releases.example/feed.json';
    const running = await start({}, { PLATTER_UPDATE_FEED: feed });
    const help = under(await running.menu(), 'Help');
    expect(labels(help)).toEqual(['Check for Updates…', 'Look for Updates Once a Day', 'About Platter']);
    expect(help.find(({ id }) => id === 'check-updates')).toMatchObject({ type: 'checkbox', checked: false });
    expect(await running.asked('net.fetch')).toEqual([]);
    await running.within((stand) => {
      stand.net.reply = () => Response.json({ version: '99.0.0', page: 'https://elsewhere.example/' });
    });
    await running.click('check-now');
    const [box] = await running.askedFor('showMessageBox');
    expect(box).toMatchObject({ buttons: ['OK'] }); // a page on another host is not offered
    expect(JSON.stringify(box)).toContain('99.0.0');
    expect((await running.asked('net.fetch')).map(([address]) => address)).toEqual([feed]);
  });
});

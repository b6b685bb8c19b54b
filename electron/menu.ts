// The menus, as each system has them.
import { app, Menu, type MenuItemConstructorOptions } from 'electron';
import path from 'node:path';
import type { ShellRequest } from '../core/workbench/shell.ts';
import type { Texts } from './texts.ts';

export interface MenuFacts {
  readonly platform: NodeJS.Platform;
  readonly texts: Texts;
  readonly recent: readonly string[];
  readonly devTools: boolean;
  /** Null: no feed of releases is configured, and nothing is said of updates. */
  readonly checkUpdates: boolean | null;
}

export interface MenuActions {
  /** Shows the window and has it do something. */
  readonly ask: (request: ShellRequest) => void;
  readonly open: () => void;
  readonly openRecent: (path: string) => void;
  readonly clearRecent: () => void;
  readonly setCheckUpdates: (on: boolean) => void;
  readonly checkNow: () => void;
}

type Items = MenuItemConstructorOptions[];

export function showMenu(facts: MenuFacts, actions: MenuActions): void {
  Menu.setApplicationMenu(Menu.buildFromTemplate(template(facts, actions)));
}

const line: MenuItemConstructorOptions = { type: 'separator' };

function template(facts: MenuFacts, actions: MenuActions): Items {
  const { texts: t } = facts;
  const mac = facts.platform === 'darwin';
  const edit: Items = [
    { role: 'undo', label: t('undo') },
    { role: 'redo', label: t('redo') },
    line,
    { role: 'cut', label: t('cut') },
    { role: 'copy', label: t('copy') },
    { role: 'paste', label: t('paste') },
    { role: 'delete', label: t('delete') },
    { role: 'selectAll', label: t('select-all') },
  ];
  return [
    ...(mac ? [{ label: 'Platter', submenu: macProgram(facts, actions) }] : []),
    { label: t('file'), submenu: file(facts, actions) },
    { label: t('edit'), submenu: edit },
    { label: t('view'), submenu: view(facts, actions) },
    ...(mac ? [{ role: 'window' as const, label: t('window'), submenu: macWindow(t) }] : []),
    { role: 'help', label: t('help'), submenu: help(facts, actions) },
  ];
}

function macProgram({ texts: t }: MenuFacts, actions: MenuActions): Items {
  return [
    { role: 'about', label: t('about') },
    line,
    settings(t, actions),
    line,
    { role: 'services', label: t('services') },
    line,
    { role: 'hide', label: t('hide') },
    { role: 'hideOthers', label: t('hide-others') },
    { role: 'unhide', label: t('show-all') },
    line,
    { role: 'quit', label: t('quit') },
  ];
}

function macWindow(t: Texts): Items {
  return [
    { role: 'minimize', label: t('minimize') },
    { role: 'zoom', label: t('zoom') },
    line,
    { role: 'front', label: t('bring-to-front') },
  ];
}

function settings(t: Texts, { ask }: MenuActions): MenuItemConstructorOptions {
  return {
    id: 'settings',
    label: t('settings'),
    accelerator: 'CmdOrCtrl+,',
    click: () => ask({ kind: 'page', address: '#/settings' }),
  };
}

function file(facts: MenuFacts, actions: MenuActions): Items {
  const { texts: t, platform } = facts;
  const sheet = (name: 'create' | 'convert' | 'compare' | 'add-datastore') => (): void =>
    actions.ask({ kind: 'sheet', sheet: name, path: null });
  const items: Items = [
    { id: 'new', label: t('new-image'), accelerator: 'CmdOrCtrl+N', click: sheet('create') },
    { id: 'open', label: t('open'), accelerator: 'CmdOrCtrl+O', click: () => actions.open() },
    { id: 'recent', label: t('open-recent'), submenu: recent(facts, actions), enabled: facts.recent.length > 0 },
    line,
    { id: 'convert', label: t('convert'), accelerator: 'CmdOrCtrl+Shift+C', click: sheet('convert') },
    { id: 'compare', label: t('compare'), click: sheet('compare') },
    line,
    { id: 'add-datastore', label: t('add-datastore'), click: sheet('add-datastore') },
    line,
  ];
  if (platform === 'darwin') return [...items, { role: 'close', label: t('close-window') }];
  return [...items, settings(t, actions), line, { role: 'quit', label: t('quit') }];
}

function recent({ recent: files, texts: t }: MenuFacts, { openRecent, clearRecent }: MenuActions): Items {
  const items = files.map((name) => ({
    // An ampersand in a menu marks a key.
    label: path.basename(name).replaceAll('&', '&&'),
    toolTip: name,
    click: () => openRecent(name),
  }));
  return files.length === 0 ? [] : [...items, line, { label: t('clear-recent'), click: () => clearRecent() }];
}

function view({ texts: t, devTools }: MenuFacts, { ask }: MenuActions): Items {
  const page = (id: string, label: string, key: string): MenuItemConstructorOptions => ({
    id,
    label,
    accelerator: `CmdOrCtrl+${key}`,
    click: () => ask({ kind: 'page', address: `#/${id}` }),
  });
  return [
    page('library', t('library'), '1'),
    page('problems', t('problems'), '2'),
    page('jobs', t('jobs'), '3'),
    line,
    { role: 'resetZoom', label: t('zoom-reset') },
    { role: 'zoomIn', label: t('zoom-in') },
    { role: 'zoomOut', label: t('zoom-out') },
    line,
    { role: 'togglefullscreen', label: t('fullscreen') },
    ...(devTools ? [line, { role: 'toggleDevTools' as const, label: t('devtools') }] : []),
  ];
}

function help({ texts: t, platform, checkUpdates }: MenuFacts, actions: MenuActions): Items {
  const updates: Items =
    checkUpdates === null
      ? []
      : [
          { id: 'check-now', label: t('check-now'), click: () => actions.checkNow() },
          {
            id: 'check-updates',
            label: t('check-updates'),
            type: 'checkbox',
            checked: checkUpdates,
            click: ({ checked }) => actions.setCheckUpdates(checked),
          },
        ];
  const about: Items =
    platform === 'darwin' ? [] : [{ id: 'about', label: t('about'), click: () => app.showAboutPanel() }];
  return [...updates, ...(updates.length > 0 && about.length > 0 ? [line] : []), ...about];
}

// A stand-in for the module `electron`: it does nothing on a screen, keeps what it is asked for, and lets a test play the system.
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import vm from 'node:vm';

/** What the shell asked Electron for, in order. */
export interface Asked {
  readonly what: string;
  readonly args: readonly unknown[];
}

/** How a test sets the scene; handed over in the environment. */
export interface Scene {
  readonly folder: string;
  readonly platform?: NodeJS.Platform;
  readonly language?: string;
  readonly packaged?: boolean;
  /** Another instance runs already. */
  readonly second?: boolean;
  readonly displays?: readonly Rectangle[];
}

interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export const scene = JSON.parse(process.env.STAND_IN_SCENE ?? '{}') as Scene;
export const asked: Asked[] = [];

// A packaged program is started as itself; otherwise the runtime is started with the folder of the program.
if (scene.packaged === true) process.argv.splice(1, 1);
else Object.assign(process, { defaultApp: true });

function note(what: string, ...args: unknown[]): void {
  // Pictures and windows are named, not copied.
  const plain = args.map((value) => JSON.parse(JSON.stringify(value ?? null)) as unknown);
  asked.push({ what, args: plain });
}

/** To the test: it bridges to a real browser. */
function tell(message: unknown): void {
  process.send?.(message);
}

/** An event whose default can be prevented. */
export function preventable<Facts extends object>(
  facts: Facts,
): Facts & { preventDefault(): void; prevented: boolean } {
  const event = {
    ...facts,
    prevented: false,
    preventDefault() {
      event.prevented = true;
    },
  };
  return event;
}

class App extends EventEmitter {
  readonly isPackaged = scene.packaged === true;
  readonly name = 'platter';
  quitting = false;

  getPath(name: string): string {
    const folder = path.join(scene.folder, name);
    fs.mkdirSync(folder, { recursive: true });
    return folder;
  }
  getVersion(): string {
    const file = path.join(import.meta.dirname, '../../../package.json');
    return (JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string }).version;
  }
  requestSingleInstanceLock(data: unknown): boolean {
    note('requestSingleInstanceLock', data);
    return scene.second !== true;
  }
  async whenReady(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }
  getPreferredSystemLanguages(): string[] {
    return [scene.language ?? 'en-GB'];
  }
  getFileIcon(file: string): Promise<{ isEmpty(): boolean; of: string }> {
    return Promise.resolve({ isEmpty: () => false, of: file });
  }
  quit(): void {
    note('quit');
    const before = preventable({});
    this.emit('before-quit', before);
    if (before.prevented) return;
    for (const window of [...BrowserWindow.all]) window.close();
    if (BrowserWindow.all.length > 0) return;
    const will = preventable({});
    this.emit('will-quit', will);
    if (!will.prevented) this.exit(0);
  }
  exit(code: number): void {
    note('exit', code);
    tell({ kind: 'asked', asked });
    setTimeout(() => process.exit(code), 20);
  }
  enableSandbox = (): void => note('enableSandbox');
  setBadgeCount = (count: number): void => note('setBadgeCount', count);
  addRecentDocument = (file: string): void => note('addRecentDocument', file);
  clearRecentDocuments = (): void => note('clearRecentDocuments');
  setAboutPanelOptions = (options: unknown): void => note('setAboutPanelOptions', options);
  showAboutPanel = (): void => note('showAboutPanel');
  setAppUserModelId = (id: string): void => note('setAppUserModelId', id);
  setAsDefaultProtocolClient = (scheme: string): void => note('setAsDefaultProtocolClient', scheme);
}

export const app = new App();

class Session extends EventEmitter {
  permissionRequest: ((...args: unknown[]) => void) | null = null;
  permissionCheck: ((...args: unknown[]) => boolean) | null = null;
  device: (() => boolean) | null = null;
  beforeRequest: ((details: { url: string }, answer: (reply: { cancel: boolean }) => void) => void) | null = null;
  readonly webRequest = {
    onBeforeRequest: (listener: typeof this.beforeRequest) => {
      this.beforeRequest = listener;
    },
  };
  setPermissionRequestHandler(handler: typeof this.permissionRequest): void {
    this.permissionRequest = handler;
  }
  setPermissionCheckHandler(handler: typeof this.permissionCheck): void {
    this.permissionCheck = handler;
  }
  setDevicePermissionHandler(handler: typeof this.device): void {
    this.device = handler;
  }
  setSpellCheckerEnabled = (on: boolean): void => note('setSpellCheckerEnabled', on);
}

export const session = { defaultSession: new Session() };

export class MessagePortMain extends EventEmitter {
  static readonly inPage = new Map<number, MessagePortMain>();
  static next = 1;
  other: MessagePortMain | null = null;
  /** Of one that was handed to the page. */
  id: number | null = null;
  started = false;
  closed = false;
  #early: unknown[] = [];

  postMessage(data: unknown): void {
    const { other } = this;
    if (other === null || this.closed) return;
    if (other.id === null) other.receive(data);
    else tell({ kind: 'to-page', id: other.id, data });
  }
  receive(data: unknown): void {
    if (this.closed) return;
    if (this.started) this.emit('message', { data });
    else this.#early.push(data);
  }
  start(): void {
    this.started = true;
    for (const data of this.#early.splice(0)) this.emit('message', { data });
  }
  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.other !== null) this.other.closed = true;
    this.emit('close');
    const id = this.other?.id ?? null;
    if (id !== null) tell({ kind: 'port-closed', id });
  }
}

export class MessageChannelMain {
  readonly port1 = new MessagePortMain();
  readonly port2 = new MessagePortMain();
  constructor() {
    this.port1.other = this.port2;
    this.port2.other = this.port1;
  }
}

type OpenHandler = (details: { url: string }) => { action: string };

export class WebContents extends EventEmitter {
  url = '';
  openHandler: OpenHandler | null = null;
  readonly session = session.defaultSession;
  readonly mainFrame: { url: string; parent: null };
  readonly window: BrowserWindow;
  constructor(window: BrowserWindow) {
    super();
    this.window = window;
    const url = (): string => this.url;
    this.mainFrame = {
      get url() {
        return url();
      },
      parent: null,
    };
  }
  getURL(): string {
    return this.url;
  }
  setWindowOpenHandler(handler: OpenHandler): void {
    this.openHandler = handler;
  }
  send(channel: string, ...args: unknown[]): void {
    note('send', channel, ...args);
    tell({ kind: 'send', channel, args });
  }
  postMessage(channel: string, message: unknown, ports: readonly MessagePortMain[]): void {
    note('postMessage', channel, message);
    for (const port of ports) {
      port.id = MessagePortMain.next++;
      MessagePortMain.inPage.set(port.id, port);
      tell({ kind: 'port', channel, id: port.id });
    }
  }
  reload = (): void => note('reload');
  forcefullyCrashRenderer = (): void => note('forcefullyCrashRenderer');
  startDrag = (item: unknown): void => note('startDrag', item);
}

export class BrowserWindow extends EventEmitter {
  static readonly all: BrowserWindow[] = [];
  readonly options: Record<string, unknown>;
  readonly webContents: WebContents;
  bounds: Rectangle;
  focused = false;
  minimized = false;
  maximized = false;
  destroyed = false;

  constructor(options: Record<string, unknown> & Partial<Rectangle>) {
    super();
    this.options = options;
    note('BrowserWindow', options);
    const { x = 10, y = 10, width = 800, height = 600 } = options;
    this.bounds = { x, y, width, height };
    this.webContents = new WebContents(this);
    BrowserWindow.all.push(this);
    app.emit('web-contents-created', {}, this.webContents);
    app.emit('browser-window-created', {}, this);
  }
  loadURL(address: string): Promise<void> {
    note('loadURL', address);
    this.webContents.url = address;
    setImmediate(() => this.emit('ready-to-show'));
    tell({ kind: 'load', address, options: JSON.parse(JSON.stringify(this.options)) as unknown });
    return Promise.resolve();
  }
  close(): void {
    const event = preventable({});
    this.emit('close', event);
    if (event.prevented) return;
    this.destroyed = true;
    BrowserWindow.all.splice(BrowserWindow.all.indexOf(this), 1);
    this.emit('closed');
    if (BrowserWindow.all.length === 0 && !app.quitting) {
      app.quitting = true;
      app.emit('window-all-closed');
      app.quitting = false;
    }
  }
  show(): void {
    note('show');
  }
  focus(): void {
    note('focus');
    this.focused = true;
  }
  restore(): void {
    this.minimized = false;
  }
  maximize(): void {
    note('maximize');
    this.maximized = true;
  }
  isFocused = (): boolean => this.focused;
  isMinimized = (): boolean => this.minimized;
  isMaximized = (): boolean => this.maximized;
  isDestroyed = (): boolean => this.destroyed;
  getNormalBounds = (): Rectangle => this.bounds;
  setProgressBar = (...args: unknown[]): void => note('setProgressBar', ...args);
  setOverlayIcon = (...args: unknown[]): void => note('setOverlayIcon', ...args);
}

type Handler = (event: unknown, ...args: unknown[]) => unknown;

class IpcMain extends EventEmitter {
  readonly handlers = new Map<string, Handler>();
  handle(channel: string, handler: Handler): void {
    this.handlers.set(channel, handler);
  }
  /** A message from a frame; of the window's own page unless said otherwise. */
  async invoke(
    channel: string,
    args: readonly unknown[],
    from: { url?: string; parent?: unknown; sender?: unknown } = {},
  ): Promise<unknown> {
    return await this.handlers.get(channel)?.(this.#event(from), ...args);
  }
  say(
    channel: string,
    args: readonly unknown[],
    from: { url?: string; parent?: unknown; sender?: unknown } = {},
  ): void {
    this.emit(channel, this.#event(from), ...args);
  }
  #event(from: { url?: string; parent?: unknown; sender?: unknown }): object {
    const contents = BrowserWindow.all[0]?.webContents;
    const sender = from.sender ?? contents;
    return { sender, senderFrame: { url: from.url ?? contents?.url ?? '', parent: from.parent ?? null } };
  }
}

export const ipcMain = new IpcMain();

export interface MenuItem {
  readonly id?: string;
  readonly role?: string;
  readonly label?: string;
  readonly type?: string;
  readonly accelerator?: string;
  readonly checked?: boolean;
  readonly enabled?: boolean;
  readonly submenu?: readonly MenuItem[];
  readonly click?: (item: { checked: boolean }) => void;
}

export const Menu = {
  shown: [] as readonly MenuItem[],
  buildFromTemplate: (items: readonly MenuItem[]) => ({ items }),
  setApplicationMenu(menu: { items: readonly MenuItem[] }): void {
    Menu.shown = menu.items;
    note('setApplicationMenu');
  },
};

export const protocol = {
  handlers: new Map<string, (request: Request) => Promise<Response>>(),
  registerSchemesAsPrivileged: (schemes: unknown): void => note('registerSchemesAsPrivileged', schemes),
  handle(scheme: string, handler: (request: Request) => Promise<Response>): void {
    protocol.handlers.set(scheme, handler);
  },
};

/** Answers of the user, in order; what is asked when none is left is dismissed. */
export const answers: unknown[] = [];

export const dialog = {
  async showMessageBox(...args: unknown[]): Promise<unknown> {
    const options = args.at(-1);
    note('showMessageBox', options);
    const answer = answers.shift() ?? { response: (options as { cancelId?: number }).cancelId ?? 0 };
    return Promise.resolve(answer);
  },
  showMessageBoxSync(...args: unknown[]): unknown {
    const options = args.at(-1);
    note('showMessageBoxSync', options);
    return answers.shift() ?? (options as { cancelId?: number }).cancelId ?? 0;
  },
  async showOpenDialog(_window: unknown, options: unknown): Promise<unknown> {
    note('showOpenDialog', options);
    return Promise.resolve(answers.shift() ?? { canceled: true, filePaths: [] });
  },
  async showSaveDialog(_window: unknown, options: unknown): Promise<unknown> {
    note('showSaveDialog', options);
    return Promise.resolve(answers.shift() ?? { canceled: true, filePath: '' });
  },
  showErrorBox: (title: string, text: string): void => note('showErrorBox', title, text),
};

export const shell = {
  openExternal(address: string): Promise<void> {
    note('openExternal', address);
    return Promise.resolve();
  },
  showItemInFolder: (file: string): void => note('showItemInFolder', file),
};

export class Notification extends EventEmitter {
  static readonly all: Notification[] = [];
  static isSupported = (): boolean => true;
  readonly options: unknown;
  constructor(options: unknown) {
    super();
    this.options = options;
    Notification.all.push(this);
  }
  show(): void {
    note('Notification', this.options);
  }
}

export const screen = {
  getAllDisplays: () =>
    (scene.displays ?? [{ x: 0, y: 0, width: 1920, height: 1080 }]).map((workArea) => ({ workArea })),
  getPrimaryDisplay: () => ({ workArea: scene.displays?.[0] ?? { x: 0, y: 0, width: 1920, height: 1080 } }),
};

export const nativeTheme = { themeSource: 'system', shouldUseDarkColors: false };

export const nativeImage = {
  createFromBitmap: (_pixels: unknown, size: unknown) => ({ isEmpty: () => false, size }),
};

/** What the network would answer. */
export const net = {
  reply: null as (() => Response) | null,
  fetch(address: string, options: unknown): Promise<Response> {
    note('net.fetch', address, options);
    return net.reply === null ? Promise.reject(new Error('there is no network')) : Promise.resolve(net.reply());
  },
};

/** What a test reaches within the program. */
export const standIn = {
  app,
  asked,
  answers,
  BrowserWindow,
  dialog,
  ipcMain,
  Menu,
  MessagePortMain,
  nativeTheme,
  net,
  Notification,
  preventable,
  protocol,
  session,
};
export type StandIn = typeof standIn;

process.on('message', (message: { kind: string; id: number; source?: string; arg?: unknown; data?: unknown }) => {
  if (message.kind === 'from-page') {
    MessagePortMain.inPage.get(message.id)?.other?.receive(message.data);
    return;
  }
  if (message.kind !== 'within') return;
  // The test's own function, run where the program is.
  const work = vm.runInThisContext(`(${message.source})`) as (stand: StandIn, arg: unknown) => unknown;
  void (async () => {
    try {
      tell({ kind: 'answer', id: message.id, result: await work(standIn, message.arg) });
    } catch (error) {
      tell({ kind: 'answer', id: message.id, error: error instanceof Error ? error.message : String(error) });
    }
  })();
});

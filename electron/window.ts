// The one window: made without Node in it, guarded, put back where it was, and told what to show once it listens.
import { BrowserWindow, nativeTheme, session } from 'electron';
import type { ShellRequest } from '../core/workbench/shell.ts';
import { keepBounds, restoredBounds, smallest } from './bounds.ts';
import { originArgument, requestChannel } from './channels.ts';
import { guardSession } from './guards.ts';
import type { Preferences } from './preferences.ts';

export interface WindowOptions {
  /** Where its page comes from, and the whole address of it. */
  readonly origin: string;
  readonly address: string;
  readonly preload: string;
  readonly preferences: Preferences;
  readonly devTools: boolean;
  /** Hears of each new window before it is loaded. */
  readonly made: (window: BrowserWindow) => void;
}

/** Requests that wait for a window to listen. */
const mostWaiting = 100;

export class MainWindow {
  readonly #options: WindowOptions;
  #window: BrowserWindow | null = null;
  #listening = false;
  #waiting: ShellRequest[] = [];

  constructor(options: WindowOptions) {
    this.#options = options;
    guardSession(session.defaultSession, options.origin);
  }

  get current(): BrowserWindow | null {
    return this.#window;
  }

  /** In front, made anew if it was closed. */
  show(): BrowserWindow {
    if (this.#window === null) return this.#make();
    if (this.#window.isMinimized()) this.#window.restore();
    this.#window.show();
    this.#window.focus();
    return this.#window;
  }

  /** Has the window do something, as soon as its page listens. */
  readonly ask = (request: ShellRequest): void => {
    if (this.#listening) this.#window?.webContents.send(requestChannel, request);
    else this.#waiting = [...this.#waiting, request].slice(-mostWaiting);
  };

  /** The page listens from now on. */
  listens(): void {
    this.#listening = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const request of waiting) this.ask(request);
  }

  #make(): BrowserWindow {
    const { origin, address, preload, preferences, devTools, made } = this.#options;
    const window = new BrowserWindow({
      ...restoredBounds(preferences.now.bounds),
      minWidth: smallest.width,
      minHeight: smallest.height,
      title: 'Platter',
      show: false,
      backgroundColor: nativeTheme.shouldUseDarkColors ? '#16181c' : '#f6f7f9',
      webPreferences: {
        preload,
        additionalArguments: [originArgument + origin],
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
        devTools,
      },
    });
    this.#window = window;
    this.#listening = false;
    window.once('ready-to-show', () => {
      if (preferences.now.maximized) window.maximize();
      window.show();
    });
    window.webContents.on('did-start-navigation', (event) => {
      if (event.isMainFrame && !event.isSameDocument) this.#listening = false;
    });
    window.webContents.on('render-process-gone', () => {
      this.#listening = false;
    });
    window.on('closed', () => {
      this.#window = null;
      this.#listening = false;
    });
    keepBounds(window, preferences);
    made(window);
    void window.loadURL(address).catch(() => {}); // what fails to load is seen in the window
    return window;
  }
}

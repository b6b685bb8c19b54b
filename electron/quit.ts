// Quitting: asked about while jobs are at work, and never before they have tidied up.
import { app, dialog, type BrowserWindow } from 'electron';
import type { Activity } from './activity.ts';
import type { Texts } from './texts.ts';

export interface Quitting {
  readonly activity: Activity;
  readonly texts: () => Texts;
  readonly window: () => BrowserWindow | null;
  /** Ends jobs and closes what is open. */
  readonly close: () => Promise<void>;
}

export function askBeforeQuitting({ activity, texts, window, close }: Quitting): void {
  let agreed = false;
  let state: 'running' | 'closing' | 'closed' = 'running';
  app.on('before-quit', (event) => {
    if (agreed || activity.count === 0) {
      agreed = true;
      return;
    }
    event.preventDefault();
    const { response } = askNow(activity.count, texts(), window());
    if (response !== 1) return;
    agreed = true;
    app.quit();
  });
  // Elsewhere than on a Mac the last window takes the program with it: it is asked before it closes.
  app.on('browser-window-created', (_event, made) => {
    made.on('close', (event) => {
      if (process.platform === 'darwin' || agreed || activity.count === 0) return;
      event.preventDefault();
      app.quit();
    });
  });
  app.on('will-quit', (event) => {
    if (state === 'closed') return;
    event.preventDefault();
    if (state === 'closing') return;
    state = 'closing';
    void close().finally(() => {
      state = 'closed';
      app.quit();
    });
  });
  app.on('window-all-closed', () => {
    if (process.platform !== 'darwin') app.quit();
  });
}

/** Waits for the answer: nothing else may begin to quit meanwhile. Jobs are in threads and go on. */
function askNow(count: number, texts: Texts, window: BrowserWindow | null): { response: number } {
  const options = {
    type: 'question' as const,
    message: texts('quit-text', { count }),
    detail: texts('quit-detail'),
    buttons: [texts('quit-stay'), texts('quit-anyway')],
    defaultId: 0,
    cancelId: 0,
  };
  const response = window === null ? dialog.showMessageBoxSync(options) : dialog.showMessageBoxSync(window, options);
  return { response };
}

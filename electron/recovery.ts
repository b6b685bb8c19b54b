// When the window's process dies or hangs: it is begun again and says so; jobs are in other threads and go on.
import { dialog, type BrowserWindow } from 'electron';
import type { ShellRequest } from '../core/workbench/shell.ts';
import type { Texts } from './texts.ts';

/** More crashes than that within the time, in milliseconds, and the user is asked before the next attempt. */
const most = 3;
const within = 60_000;

export interface Recovering {
  readonly texts: () => Texts;
  readonly ask: (request: ShellRequest) => void;
  readonly quit: () => void;
}

export function recoverWindow(window: BrowserWindow, { texts, ask, quit }: Recovering): void {
  let crashes: number[] = [];
  const { webContents } = window;
  const again = (reason: string): void => {
    webContents.reload();
    ask({ kind: 'restarted', reason });
  };
  webContents.on('render-process-gone', (_event, { reason }) => {
    if (reason === 'clean-exit' || window.isDestroyed()) return;
    const now = Date.now();
    crashes = [...crashes.filter((at) => now - at < within), now];
    if (crashes.length <= most) return again(reason);
    crashes = [];
    void dialog
      .showMessageBox({
        type: 'error',
        message: texts()('no-more-crashes', { reason }),
        buttons: [texts()('open-again'), texts()('quit')],
        defaultId: 0,
        cancelId: 0,
      })
      .then(({ response }) => {
        if (response === 1) quit();
        else if (!window.isDestroyed()) again(reason);
      });
  });
  let asking = false;
  window.on('unresponsive', () => {
    if (asking) return;
    asking = true;
    void dialog
      .showMessageBox(window, {
        type: 'warning',
        message: texts()('unresponsive'),
        detail: texts()('unresponsive-detail'),
        buttons: [texts()('unresponsive-wait'), texts()('unresponsive-reload')],
        defaultId: 0,
        cancelId: 0,
      })
      .then(({ response }) => {
        asking = false;
        // Ended from outside, it is begun again above.
        if (response === 1 && !window.isDestroyed()) webContents.forcefullyCrashRenderer();
      });
  });
}

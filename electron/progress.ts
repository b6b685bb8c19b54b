// How far the jobs are, in the taskbar or the dock, and how many there are as a badge.
import { app, nativeImage, type BrowserWindow } from 'electron';
import type { Activity } from './activity.ts';
import type { Texts } from './texts.ts';

/** Milliseconds between two changes of the bar. */
const every = 200;
/** Beyond 1 the bar moves without saying how far it is; below 0 there is none. */
const indeterminate = 2;
const none = -1;

export class TaskbarProgress {
  readonly #activity: Activity;
  readonly #window: () => BrowserWindow | null;
  readonly #texts: () => Texts;
  #badge = 0;

  constructor(activity: Activity, window: () => BrowserWindow | null, texts: () => Texts) {
    this.#activity = activity;
    this.#window = window;
    this.#texts = texts;
    let timer: NodeJS.Timeout | null = null;
    activity.onChange(() => {
      timer ??= setTimeout(() => {
        timer = null;
        this.show();
      }, every);
    });
  }

  /** Also for a window that is new. */
  show(): void {
    const { count, fraction, paused } = this.#activity;
    const window = this.#window();
    if (window !== null) {
      if (count === 0) window.setProgressBar(none);
      else window.setProgressBar(fraction ?? indeterminate, { mode: modeOf(fraction, paused) });
    }
    if (count === this.#badge) return;
    this.#badge = count;
    if (process.platform === 'win32') {
      window?.setOverlayIcon(count === 0 ? null : dot(), count === 0 ? '' : this.#texts()('jobs-running', { count }));
    } else app.setBadgeCount(count);
  }
}

function modeOf(fraction: number | null, paused: boolean): 'paused' | 'indeterminate' | 'normal' {
  if (paused) return 'paused';
  return fraction === null ? 'indeterminate' : 'normal';
}

/** A disc: Windows lays a picture over the icon instead of a number. */
function dot(): Electron.NativeImage {
  const size = 16;
  const pixels = Buffer.alloc(size * size * 4);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const within = Math.hypot(x - 7.5, y - 7.5) <= 7;
      if (within) pixels.set([0xd9, 0x7a, 0x2b, 0xff], (y * size + x) * 4); // blue, green, red, alpha
    }
  }
  return nativeImage.createFromBitmap(pixels, { width: size, height: size });
}

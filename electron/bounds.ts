// Where the window stood: kept, and put back where it can be seen.
import { screen, type BrowserWindow, type Rectangle } from 'electron';
import type { Preferences } from './preferences.ts';

const usual = { width: 1280, height: 820 };
export const smallest = { width: 760, height: 480 };
/** Of the title bar so much must be on a display that it can be taken hold of. */
const grip = { width: 120, height: 32 };

/** The bounds that were kept, if their title bar lies on a display that is there; else only a size that fits. */
export function restoredBounds(kept: Rectangle | null): Partial<Rectangle> & { width: number; height: number } {
  const displays = screen.getAllDisplays().map(({ workArea }) => workArea);
  if (kept !== null && displays.some((area) => isReachable(kept, area))) return kept;
  const { width, height } = screen.getPrimaryDisplay().workArea;
  return {
    width: Math.min(kept?.width ?? usual.width, width),
    height: Math.min(kept?.height ?? usual.height, height),
  };
}

function isReachable(window: Rectangle, area: Rectangle): boolean {
  const across = Math.min(window.x + window.width, area.x + area.width) - Math.max(window.x, area.x);
  const top = window.y >= area.y && window.y + grip.height <= area.y + area.height;
  return top && across >= grip.width;
}

/** Keeps where `window` is put, half a second after it came to rest and when it closes. */
export function keepBounds(window: BrowserWindow, preferences: Preferences): void {
  let timer: NodeJS.Timeout | null = null;
  const keep = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    preferences.write({ bounds: window.getNormalBounds(), maximized: window.isMaximized() });
  };
  const soon = (): void => {
    timer ??= setTimeout(keep, 500);
  };
  window.on('resize', soon);
  window.on('move', soon);
  window.on('close', keep);
}

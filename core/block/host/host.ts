// Which host this is: chosen once, when the first call needs it.
import type { HostCalls } from './calls.ts';
import { darwinCalls } from './darwin.ts';
import { fallbackCalls } from './fallback.ts';
import { loadKoffi } from './koffi.ts';
import { linuxCalls } from './linux.ts';
import { windowsCalls } from './windows.ts';

let chosen: HostCalls | null = null;

/** The calls of this host; those of `fallback.ts` where koffi does not load or PLATTER_NO_KOFFI is set. */
export function host(): HostCalls {
  chosen ??= choose();
  return chosen;
}

function choose(): HostCalls {
  const koffi = loadKoffi();
  if (koffi === null) return fallbackCalls;
  if (process.platform === 'linux') return linuxCalls(koffi) ?? fallbackCalls;
  if (process.platform === 'darwin') return darwinCalls(koffi);
  if (process.platform === 'win32') return windowsCalls(koffi);
  return fallbackCalls;
}

// Keys that do something anywhere in the window: how they are written down, recognised, and shown.
import { settings } from './settings.svelte.ts';

const apple = /Mac|iPhone|iPad/.test(navigator.platform);

const taking = 'input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable="true"]';

/** True while keys belong to a field, a list box or an open dialog. */
export function isTaken(target: EventTarget | null): boolean {
  if (document.querySelector('dialog[open], [role="dialog"], [role="menu"]') !== null) return true;
  return target instanceof HTMLElement && target.closest(taking) !== null;
}

/**
 * Whether this is `key`: `Mod+k` (Ctrl, or Cmd on a Mac), `Shift+m`, `Delete`, `n`, `?`. Keys without Mod can be switched off, for people
 * who dictate or whose keyboard sends stray letters.
 */
export function isKey(event: KeyboardEvent, key: string): boolean {
  const parts = key.split('+');
  const name = parts.pop() ?? '';
  const mod = parts.includes('Mod');
  if (!mod && !settings.singleKeys) return false;
  if ((apple ? event.metaKey : event.ctrlKey) !== mod || (apple ? event.ctrlKey : event.metaKey) || event.altKey) {
    return false;
  }
  if (/^[a-z]$/.test(name)) return event.key.toLowerCase() === name && event.shiftKey === parts.includes('Shift');
  return event.key === name;
}

const shown: Readonly<Record<string, string>> = {
  Delete: apple ? '⌦' : 'Del',
  Enter: '↵',
  Escape: 'Esc',
  ' ': 'Space',
};

/** As it stands on a keyboard: `Ctrl K`, `⌘K`, `Shift M`, `N`. */
export function keyText(key: string): string {
  const parts = key.split('+').map((part) => {
    if (part === 'Mod') return apple ? '⌘' : 'Ctrl';
    if (part === 'Shift') return apple ? '⇧' : 'Shift';
    return shown[part] ?? (part.length === 1 ? part.toUpperCase() : part);
  });
  return parts.join(apple ? '' : ' ');
}

/** For `aria-keyshortcuts`. */
export function ariaKey(key: string): string {
  return key
    .replace('Mod', apple ? 'Meta' : 'Control')
    .replace(/\+([a-z])$/, (_, letter: string) => `+${letter.toUpperCase()}`);
}

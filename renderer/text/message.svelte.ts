// The texts of the window in the language that is shown.
import { shownLanguage } from '../state/settings.svelte.ts';
import { en } from './messages/en.ts';
import { zhCN } from './messages/zh-cn.ts';

export type MessageKey = keyof typeof en;

/** The text for `key`; `{name}` in it is filled from `values`. */
export function t(key: MessageKey, values: Readonly<Record<string, string | number>> = {}): string {
  const text = (shownLanguage() === 'zh-CN' ? zhCN : en)[key];
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The text for a key that is made of what the engine says (`work.convert`); null: there is none. */
export function messageOf(key: string, values: Readonly<Record<string, string | number>> = {}): string | null {
  return Object.hasOwn(en, key) ? t(key as MessageKey, values) : null;
}

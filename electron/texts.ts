// The texts of the shell in the language of the window, or in the system's until the window has said its own.
import { app } from 'electron';
import type { ShellLanguage } from '../core/workbench/shell.ts';
import { en } from './texts/en.ts';
import { zhCN } from './texts/zh-cn.ts';
import type { Preferences } from './preferences.ts';

export type TextKey = keyof typeof en;
/** The text for a key; `{name}` in it is filled from the values. */
export type Texts = (key: TextKey, values?: Readonly<Record<string, string | number>>) => string;

export function textsOf(language: ShellLanguage): Texts {
  const table = language === 'zh-CN' ? zhCN : en;
  return (key, values = {}) => table[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** What was chosen in the window, or what the system prefers. */
export function languageOf(preferences: Preferences): ShellLanguage {
  const [first = 'en'] = app.getPreferredSystemLanguages();
  return preferences.now.language ?? (first.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en');
}

/** The key of the word for a work. */
export function workKey(work: string): TextKey {
  const key = `work.${work}`;
  return Object.hasOwn(en, key) ? (key as TextKey) : 'work.other';
}

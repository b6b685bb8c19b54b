// What a person has set for the window: kept in the browser, applied at once.

export type Language = 'system' | 'en' | 'zh-CN';
export type Theme = 'system' | 'light' | 'dark';
/** What an image may pull in: nothing, files of its folder, any file that it names. */
export type Trust = 'nothing' | 'folder' | 'files';

interface Settings {
  language: Language;
  theme: Theme;
  trust: Trust;
}

const key = 'platter-settings';
const choices: { readonly [Name in keyof Settings]: readonly Settings[Name][] } = {
  language: ['system', 'en', 'zh-CN'],
  theme: ['system', 'light', 'dark'],
  trust: ['nothing', 'folder', 'files'],
};

function read(): Settings {
  const settings: Settings = { language: 'system', theme: 'system', trust: 'files' };
  let kept: Partial<Record<keyof Settings, unknown>> = {};
  try {
    kept = JSON.parse(localStorage.getItem(key) ?? '{}') as typeof kept;
  } catch {
    return settings; // storage that is blocked or holds something else: begin with what is usual
  }
  const pick = <Name extends keyof Settings>(name: Name): Settings[Name] =>
    choices[name].find((choice) => choice === kept[name]) ?? settings[name];
  return { language: pick('language'), theme: pick('theme'), trust: pick('trust') };
}

export const settings = $state(read());

/** Keeps what was set; a browser that keeps nothing has it until the page is closed. */
export function keepSettings(): void {
  try {
    localStorage.setItem(key, JSON.stringify(settings));
  } catch {
    return;
  }
}

/** The language that is shown. */
export function shownLanguage(): 'en' | 'zh-CN' {
  if (settings.language !== 'system') return settings.language;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en';
}

/** Puts language and theme on the document. */
export function applySettings(): void {
  const root = document.documentElement;
  root.lang = shownLanguage();
  if (settings.theme === 'system') delete root.dataset.theme;
  else root.dataset.theme = settings.theme;
}

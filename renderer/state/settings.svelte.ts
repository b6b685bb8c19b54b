// What a person has set for the window: kept in the browser, applied at once.

export type Language = 'system' | 'en' | 'zh-CN';
export type Theme = 'system' | 'light' | 'dark';
/** 1024 to the step, or 1000. */
export type Units = 'binary' | 'decimal';

/** Columns of the library that can be hidden; the name always stands there. */
export const columnNames = ['format', 'virtual', 'on-disk', 'chain', 'health', 'changed', 'datastore'] as const;
export type ColumnName = (typeof columnNames)[number];

interface Settings {
  language: Language;
  theme: Theme;
  units: Units;
  /** Keys without Ctrl or Cmd do something. */
  singleKeys: boolean;
  /** The end of a job is told by the system while the window is in the background. */
  notifications: boolean;
  /** Where new files are proposed; empty: beside their source. */
  targetFolder: string;
  /** The selected image is shown below the list. */
  preview: boolean;
  columns: ColumnName[];
}

const key = 'platter-settings';
const usual: Settings = {
  language: 'system',
  theme: 'system',
  units: 'binary',
  singleKeys: true,
  notifications: false,
  targetFolder: '',
  preview: true,
  columns: ['format', 'virtual', 'on-disk', 'chain', 'health', 'changed'],
};
const choices: { readonly [Name in 'language' | 'theme' | 'units']: readonly Settings[Name][] } = {
  language: ['system', 'en', 'zh-CN'],
  theme: ['system', 'light', 'dark'],
  units: ['binary', 'decimal'],
};

/** Whatever is in the storage becomes settings: what is missing or makes no sense is as usual. */
function read(): Settings {
  let kept: Partial<Record<keyof Settings, unknown>> = {};
  try {
    const parsed: unknown = JSON.parse(localStorage.getItem(key) ?? '{}');
    if (typeof parsed === 'object' && parsed !== null) kept = parsed;
  } catch {
    return { ...usual }; // storage that is blocked or holds something else
  }
  const pick = <Name extends keyof typeof choices>(name: Name): Settings[Name] =>
    choices[name].find((choice) => choice === kept[name]) ?? usual[name];
  const flag = (name: 'singleKeys' | 'notifications' | 'preview'): boolean =>
    typeof kept[name] === 'boolean' ? kept[name] : usual[name];
  const { columns, targetFolder } = kept;
  return {
    language: pick('language'),
    theme: pick('theme'),
    units: pick('units'),
    singleKeys: flag('singleKeys'),
    notifications: flag('notifications'),
    preview: flag('preview'),
    targetFolder: typeof targetFolder === 'string' ? targetFolder : usual.targetFolder,
    columns: Array.isArray(columns) ? columnNames.filter((name) => columns.includes(name)) : usual.columns,
  };
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

/** Another window of this browser has set something: it holds here too. */
window.addEventListener('storage', (event) => {
  if (event.key === key) Object.assign(settings, read());
});

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

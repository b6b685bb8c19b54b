// The sentence of an error in the language of the window: the engine's own is English, others are fetched when they are first wanted.
import { shownLanguage } from '../state/settings.svelte.ts';
import { messageOf } from './message.svelte.ts';

type Detail = Readonly<Record<string, unknown>>;
interface Sentences {
  readonly errors: Readonly<Record<string, string>>;
  readonly system: Readonly<Record<string, string>>;
  readonly findings: readonly (readonly [RegExp, string])[];
}

let current = $state.raw<Sentences | null>(null);
let isAsked = false;

/** Fetches the sentences of the language that is shown, if they are not there yet. */
export function fetchErrorTexts(): void {
  if (shownLanguage() !== 'zh-CN' || isAsked) return;
  isAsked = true;
  void Promise.all([import('./messages/errors.zh-cn.ts'), import('./messages/findings.zh-cn.ts')]).then(
    ([{ errorsZhCN, systemZhCN }, { findingsZhCN }]) =>
      (current = { errors: errorsZhCN, system: systemZhCN, findings: findingsZhCN }),
    // What cannot be fetched now (the server is away) is asked for again; until then the sentences are English.
    () => (isAsked = false),
  );
}

/** The sentence for `code`, filled from `detail`; `english` where there is none in the language of the window. */
export function errorText(code: string | null, detail: Detail, english: string): string {
  if (code === null || shownLanguage() !== 'zh-CN') return english;
  const sentence = current?.errors[code];
  if (sentence === undefined) return current?.system[english] ?? english;
  // What was read by an older program has no detail.
  if (sentence.includes('{') && Object.keys(detail).length === 0) return english;
  return sentence.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = detail[name];
    const text = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? `${value}` : '';
    if (name === 'work') return messageOf(`work.${text}`) ?? text;
    return current?.system[text] ?? text;
  });
}

/** What a check found, or would do about it, in the language of the window; `english` where there is no sentence for it. */
export function findingText(english: string): string {
  if (shownLanguage() !== 'zh-CN') return english;
  const known = current?.findings.find(([pattern]) => pattern.test(english));
  return known === undefined ? english : english.replace(known[0], known[1]);
}

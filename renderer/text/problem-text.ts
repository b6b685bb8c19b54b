// The sentence of a problem in the language of the window.
import type { Problem } from '../../core/workbench/contract.ts';
import { errorText } from './error-text.svelte.ts';
import { messageOf } from './message.svelte.ts';

type Told = Pick<Problem, 'code' | 'text' | 'detail'>;

/** What the catalogue found by itself has a text of the window; why an image could not be opened is a sentence of the engine. */
export function problemText({ code, text, detail }: Told): string {
  const kind = /^problem\/(.+)$/.exec(code)?.[1];
  if (kind === undefined) return errorText(code, detail, text);
  const further =
    'found' in detail ? `${kind}-found-${String(detail.by)}` : Number(detail.children) > 0 ? `${kind}-below` : kind;
  return messageOf(`problem-text.${further}`, valuesOf(detail)) ?? text;
}

function valuesOf(detail: Told['detail']): Record<string, string> {
  return Object.fromEntries(Object.entries(detail).map(([name, value]) => [name, String(value)]));
}

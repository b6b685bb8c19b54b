// The patterns that were searched for last, the newest first; this browser keeps them.
import type { PatternKind } from '../../../core/workbench/contract.ts';

/** A pattern as it is written. */
export interface Asked {
  readonly kind: PatternKind;
  readonly text: string;
  readonly ignoreCase: boolean;
}

const key = 'platter.patterns';
const mostKept = 12;

const isAsked = (one: unknown): one is Asked =>
  typeof one === 'object' &&
  one !== null &&
  'kind' in one &&
  typeof one.kind === 'string' &&
  'text' in one &&
  typeof one.text === 'string' &&
  'ignoreCase' in one &&
  typeof one.ignoreCase === 'boolean';

export function keptPatterns(): readonly Asked[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isAsked).slice(0, mostKept) : [];
  } catch {
    return []; // what somebody else wrote there, or a browser that keeps nothing
  }
}

/** Puts it at the front; what is kept now. */
export function keepPattern(asked: Asked): readonly Asked[] {
  const others = keptPatterns().filter(({ kind, text }) => kind !== asked.kind || text !== asked.text);
  const kept = [asked, ...others].slice(0, mostKept);
  try {
    localStorage.setItem(key, JSON.stringify(kept));
  } catch {
    // a browser that keeps nothing: they last as long as the page
  }
  return kept;
}

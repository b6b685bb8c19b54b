// Sentences of compact.
import type { Sentence } from '../sentence.ts';

export const compactMessages = {
  'compact/impossible': (d) => `The image cannot be compacted: ${d.reason}`,
  'compact/rewrite': (d) => `The image cannot be written anew: ${d.reason}`,
  'compact/damaged': (d) =>
    `The image has errors (${d.count} found by check); they must be repaired before it can be compacted`,
  'compact/content': (d) => `Unused blocks cannot be given back: ${d.reason}`,
} as const satisfies Record<string, Sentence>;

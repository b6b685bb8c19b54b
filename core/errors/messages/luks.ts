// Codes and sentences of luks.
import type { Sentence } from '../sentence.ts';

export const luksMessages = {} as const satisfies Record<string, Sentence>;

// Codes and sentences of qed.
import type { Sentence } from '../sentence.ts';

export const qedMessages = {} as const satisfies Record<string, Sentence>;

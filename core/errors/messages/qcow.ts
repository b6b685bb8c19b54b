// Codes and sentences of qcow.
import type { Sentence } from '../sentence.ts';

export const qcowMessages = {} as const satisfies Record<string, Sentence>;

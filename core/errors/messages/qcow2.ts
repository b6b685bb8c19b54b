// Codes and sentences of qcow2.
import type { Sentence } from '../sentence.ts';

export const qcow2Messages = {} as const satisfies Record<string, Sentence>;

// Codes and sentences of vdi.
import type { Sentence } from '../sentence.ts';

export const vdiMessages = {} as const satisfies Record<string, Sentence>;

// Codes and sentences of vhdx.
import type { Sentence } from '../sentence.ts';

export const vhdxMessages = {} as const satisfies Record<string, Sentence>;

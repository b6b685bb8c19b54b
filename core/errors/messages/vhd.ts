// Codes and sentences of vhd.
import type { Sentence } from '../sentence.ts';

export const vhdMessages = {} as const satisfies Record<string, Sentence>;

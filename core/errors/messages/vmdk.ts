// Codes and sentences of vmdk.
import type { Sentence } from '../sentence.ts';

export const vmdkMessages = {} as const satisfies Record<string, Sentence>;

// Sentences for what stands on the guest's disk: file systems that contradict themselves.
import type { Sentence } from '../sentence.ts';

export const guestMessages = {
  'guest/damaged': (d) => `The file system is damaged: ${d.reason}`,
} as const satisfies Record<string, Sentence>;

// Codes and sentences of target profiles.
import type { Sentence } from '../sentence.ts';

export const profileMessages = {
  'profile/unknown': (d) => `There is no profile '${d.name}' (known: ${d.known})`,
  'profile/too-large': (d) =>
    `The disk would have ${d.found} bytes; ${d.label} takes at most ${d.allowed} in this format`,
  'profile/cannot-fit': (d) => `${d.label} would refuse the result: ${d.reason}`,
  'profile/option': (d) => `${d.label} would refuse the result of these options: ${d.reason}`,
} as const satisfies Record<string, Sentence>;

// Codes and sentences of changing an image in place.
import type { Sentence } from '../sentence.ts';

export const inPlaceMessages = {
  'in-place/read-only': (d) => `Images of format '${d.format}' can only be read here`,
  'in-place/dependents': (d) =>
    `${d.count} other image(s) read through '${d.name}' (${d.named}); changing it would change or break them. Use --force to do it all the same`,
} as const satisfies Record<string, Sentence>;

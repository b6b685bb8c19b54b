// Codes and sentences of copying an image with all its files.
import type { Sentence } from '../sentence.ts';

export const cloneMessages = {
  'clone/exists': (d) => `'${d.name}' is there already; the copy needs a name that is free`,
  'clone/same-folder': (d) =>
    `The image has a further file ('${d.name}') whose copy keeps its name: the copy must be made in another folder`,
  'clone/elsewhere': (d) =>
    `The image has a further file outside of its folder ('${d.name}'); it cannot be copied as a whole`,
  'check/relink-none': 'The image names no layer below that could be recognised',
} as const satisfies Record<string, Sentence>;

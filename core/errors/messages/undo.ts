// Codes and sentences of the undo journal: errors of `undo`, and notices beside other verbs.
import type { Sentence } from '../sentence.ts';

export const undoMessages = {
  'undo/nothing': (d) => `There is no change of '${d.name}' that could be taken back`,
  'undo/changed': (d) =>
    `'${d.name}' was changed after '${d.verb}' (${d.reason}); taking that back would lose or break what came later`,
  'undo/damaged': (d) => `The undo journal is damaged: ${d.what}`,
  'undo/version': (d) => `The undo journal has version ${d.found}; this program reads version ${d.allowed}`,
  'undo/unreadable': (d) => `The undo journal of '${d.name}' cannot be read (${d.reason}); the image is shown as it is`,
  'undo/rolled-back': (d) => `'${d.name}': an unfinished '${d.verb}' was taken back`,
  'undo/shown': (d) =>
    `'${d.name}' is shown as it was before an unfinished '${d.verb}', which the next change of the image will take back`,
  'undo/foreign': (d) =>
    `'${d.name}' has the journal of an unfinished change, which does not fit any more (${d.reason}); the image is shown as it is`,
  'undo/set-aside': (d) =>
    `'${d.name}' had the journal of an unfinished change, which does not fit any more (${d.reason}); the image is left as it is, the journal is now '${d.aside}'`,
  'undo/not-kept': (d) => `'${d.verb}' of '${d.name}' cannot be taken back later: ${d.reason}`,
  'undo/left': (d) =>
    `What '${d.verb}' changed in '${d.name}' could not be put back now (${d.reason}); the next opening for writing tries again`,
} as const satisfies Record<string, Sentence>;

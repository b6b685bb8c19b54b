// Codes and sentences of another size for a disk, and of what a guest has at its end.
import type { Sentence } from '../sentence.ts';

export const resizeMessages = {
  'resize/not-positive': 'New image size must be positive',
  'resize/too-large': 'Could not resize file: File too large',
  'resize/shrink': 'Use the --shrink option to perform a shrink operation.',
  'resize/preallocation-shrink': 'Preallocation can only be used for growing images',
  'resize/preallocation': (d) => `Unsupported preallocation mode: ${d.found}`,
  'resize/gpt-rewrite': (d) =>
    `The image has to be written anew (${d.reason}), and its GPT cannot be changed on the way; convert it to another format first`,
  'resize/rewrite-backing': (d) => `The image would have to be written anew (${d.reason}), and it has a layer below`,
  'gpt/none':
    'The disk has no GPT whose header and entries have the right checksums, so there is none to move; without --fix-gpt it can be resized. Nothing was changed',
  'gpt/cut': (d) =>
    `Partition ${d.number} ends at byte ${d.end} of the disk; the backup GPT needs what lies behind byte ${d.allowed}`,
  'gpt/small': (d) => `A disk of ${d.size} bytes has no room for the GPT`,
} as const satisfies Record<string, Sentence>;

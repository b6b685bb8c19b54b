// What the verbs of this call keep for taking them back: `--no-undo`, and what is said of journals on stderr.
import { listenToJournals } from '../core/block/journal/notices.ts';
import type { UndoMode } from '../core/formats/open.ts';
import type { CommandSpec, OptionSpec } from './args.ts';
import { actsAsQemuImg } from './level.ts';
import { complain, place } from './print.ts';

const noUndoOption: OptionSpec = {
  long: ['no-undo'],
  meaning:
    'keep no journal: the change cannot be taken back, and one that ends early leaves what the format makes of it (default: a ' +
    'file .NAME.platter-journal beside the image, for platter undo)',
};

let without = false;

/** The command with the option that all share which change images in place. */
export function withNoUndo(spec: CommandSpec): CommandSpec {
  return spec.changesInPlace === true ? { ...spec, options: { ...spec.options, noUndo: noUndoOption } } : spec;
}

/** From now on no verb keeps a journal. */
export function keepNoJournals(): void {
  without = true;
}

/** What was said of it, as opening an image wants it. */
export function chosenUndo(): { readonly undo?: UndoMode } {
  return without ? { undo: 'none' } : {};
}

/** Tells on stderr what happens to journals; to callers of qemu-img only that something was put back. */
export function tellOfJournals(): void {
  listenToJournals((notice) => {
    if (actsAsQemuImg && notice.code !== 'undo/rolled-back' && notice.code !== 'undo/left') return;
    complain(`note: ${notice.message}${place(notice)}`);
  });
}

// Changing an image that somebody depends on: opened for writing, changed, made to last, closed, whatever happens.
import { AsyncLocalStorage } from 'node:async_hooks';
import { forgetJournal } from '../block/journal/place.ts';
import { UndoJournal } from '../block/journal/undo-journal.ts';
import { isWritable, type WritableNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from '../formats/driver.ts';
import { openImage, type OpenedImage, type OpenOptions, type UndoMode } from '../formats/open.ts';

/** How a verb may change an image in place. */
export interface InPlaceOptions {
  /** Name of the verb, for messages and for undo. */
  readonly verb: string;
  /** `writable` is implied. */
  readonly open: OpenOptions;
  /** Images known to read through this one (the catalogue tells); absent: nobody knows of any. */
  readonly dependents?: ((path: string) => readonly string[]) | undefined;
  /** Change it although others depend on it. */
  readonly force?: boolean | undefined;
  /** What the verb does, for a person who may take it back (`resize to 10 GiB`); no secrets. Default: its name. */
  readonly description?: string | undefined;
}

/** An image that may be changed. */
export interface WritableImage {
  readonly path: string;
  readonly node: WritableNode;
  readonly driver: FormatDriver;
}

/**
 * Opens the image at `path` for writing, lets `change` work on it, flushes and closes it, under an undo journal (`open.undo`; by default
 * it is kept, and only serves failures while we stand in for qemu-img). When `change` throws, everything it did is put back; without a
 * journal (`none`, a block device, no room) it stands as the format's order of writes left it. Throws what opening throws,
 * `in-place/read-only` where the format is only read here, `in-place/dependents` for an image that others read through, and what
 * `change` throws. A change inside a change is finished, or put back, together with the one around it.
 */
export async function changeInPlace<Result>(
  path: string,
  options: InPlaceOptions,
  change: (image: WritableImage) => Result | Promise<Result>,
): Promise<Result> {
  refuseDependents(path, options);
  const outer = around.getStore() ?? null;
  const journal = journalOf(path, options, outer);
  if (journal === null) outer?.giveUp('a part of it has no journal');
  const { wrap } = options.open;
  let opened: OpenedImage | null = null;
  try {
    const watched = (storage: Storage, role: string, made?: boolean): Storage => {
      const file = journal === null ? storage : journal.watch(storage, role, made);
      return wrap === undefined ? file : wrap(file, role, made);
    };
    opened = openImage(path, { ...options.open, writable: true, wrap: watched });
    const { node, driver } = opened;
    if (!isWritable(node)) throw new ImageError('in-place/read-only', { format: driver.id }, { file: path });
    const image = { path, node, driver };
    const result = await around.run(journal, () => change(image));
    node.flush();
    // Closing may write too (the mark of a clean end); the journal keeps the files open until it is done itself.
    node.close();
    // What an earlier verb kept is of no use any more.
    if (journal === null) forgetJournal(path);
    else if (outer === null) journal.seal();
    else journal.park();
    return result;
  } catch (error) {
    closeQuietly(opened);
    journal?.rollBack();
    throw error;
  }
}

/** After a failure, which is what must be told. */
function closeQuietly(opened: OpenedImage | null): void {
  try {
    opened?.node.close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
  }
}

/** The journal of the change that the code runs in; null: it has none. */
const around = new AsyncLocalStorage<UndoJournal | null>();

function journalOf(
  path: string,
  { verb, description, open }: InPlaceOptions,
  outer: UndoJournal | null,
): UndoJournal | null {
  const mode: UndoMode = open.undo ?? (process.env.PLATTER_PROGNAME === 'qemu-img' ? 'rollback' : 'keep');
  if (mode === 'none') return null;
  const lasting = open.cache !== 'unsafe';
  return new UndoJournal(path, { verb, command: description ?? verb, keep: mode === 'keep', lasting }, outer);
}

/** Throws `in-place/dependents`. */
export function refuseDependents(path: string, options: Pick<InPlaceOptions, 'dependents' | 'force'>): void {
  if (options.force === true) return;
  const dependents = options.dependents?.(path) ?? [];
  if (dependents.length === 0) return;
  const named = dependents.slice(0, 3).join(', ') + (dependents.length > 3 ? ', …' : '');
  throw new ImageError('in-place/dependents', { name: path, count: dependents.length, named }, { file: path });
}

// bitmap: adds, removes, clears, enables, disables and merges the dirty bitmaps that an image keeps.
import { ImageError } from '../errors/image-error.ts';
import type { BitmapEditor, BitmapSource } from '../formats/bitmap-driver.ts';
import { openImage, type OpenedImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { changeInPlace, type WritableImage } from './in-place.ts';

/** One thing to be done to the bitmap; `merge` takes the bits of another one, of the same image or of `source`. */
export type BitmapAction =
  { readonly do: 'add' | 'remove' | 'clear' | 'enable' | 'disable' } | { readonly do: 'merge'; readonly from: string };

export interface BitmapParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** Name of the bitmap that the actions are about. */
  readonly name: string;
  /** In order. */
  readonly actions: readonly BitmapAction[];
  /** Bytes of the disk per bit of a new bitmap; null: the usual. */
  readonly granularity: number | null;
  /** The image that `merge` takes bitmaps from; null: the image itself. */
  readonly source: { readonly path: string; readonly options: OpenOptions } | null;
}

/**
 * Does the actions in order. One that fails ends it; what was done before it stands, as with qemu-img. The layers below are not opened.
 * Throws `bitmap/action` with the reason, what opening throws (for the source with cause and file), what `changeInPlace` throws.
 */
export async function bitmap(params: BitmapParams, job: Job): Promise<void> {
  const { path, name, actions, source } = params;
  const open = { ...params.options, withBacking: false };
  const description = `${actions.map((action) => action.do).join(', ')} bitmap ${name}`;
  const failure = await changeInPlace(path, { verb: 'bitmap', open, description }, (image) => {
    const other = source === null ? null : openImage(source.path, { ...source.options, withBacking: false });
    try {
      return applyActions(image, other, params, job);
    } finally {
      other?.node.close();
    }
  });
  if (failure !== null) throw failure;
}

/** Returns what ended it early, or null. */
function applyActions(
  image: WritableImage,
  other: OpenedImage | null,
  params: BitmapParams,
  job: Job,
): ImageError | null {
  const { name, granularity } = params;
  const editor = image.driver.dirtyBitmaps?.edit(image.node) ?? null;
  let failure: ImageError | null = null;
  for (const action of params.actions) {
    job.throwIfCancelled();
    try {
      applyAction(editorOrRefusal(editor, action, image, name), action, { name, granularity, other });
    } catch (error) {
      if (!(error instanceof ImageError) || !error.code.startsWith('bitmap/')) throw error;
      const detail = { action: action.do, name, reason: error.message };
      failure = new ImageError('bitmap/action', detail, error.where, error);
      break;
    }
  }
  editor?.commit();
  return failure;
}

function editorOrRefusal(
  editor: BitmapEditor | null,
  action: BitmapAction,
  image: WritableImage,
  name: string,
): BitmapEditor {
  if (editor !== null) return editor;
  const where = { file: image.path };
  if (action.do !== 'add') throw new ImageError('bitmap/not-found', { name }, where);
  if (name === '') throw new ImageError('bitmap/empty-name', {}, where);
  throw new ImageError('bitmap/unsupported', { image: image.path }, where);
}

function applyAction(
  editor: BitmapEditor,
  action: BitmapAction,
  { name, granularity, other }: { name: string; granularity: number | null; other: OpenedImage | null },
): void {
  switch (action.do) {
    case 'add':
      editor.add(name, granularity, true);
      return;
    case 'remove':
      editor.remove(name);
      return;
    case 'clear':
      editor.clear(name);
      return;
    case 'enable':
    case 'disable':
      editor.setEnabled(name, action.do === 'enable');
      return;
    case 'merge':
      editor.merge(name, other === null ? editor.source(action.from) : sourceIn(other, action.from));
  }
}

function sourceIn({ node, driver }: OpenedImage, name: string): BitmapSource {
  if (driver.dirtyBitmaps === undefined) throw new ImageError('bitmap/not-found', { name }, { file: node.name });
  return driver.dirtyBitmaps.source(node, name);
}

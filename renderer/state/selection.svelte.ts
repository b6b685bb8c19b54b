// The images that a verb acts on: those that are selected in the library, or the one whose page is open.
import { untrack } from 'svelte';
import type { ImageEntry } from '../../core/workbench/contract.ts';

export const selection = $state<{ images: readonly ImageEntry[] }>({ images: [] });

/** Whoever calls it does not follow what others select. */
export function select(images: readonly ImageEntry[]): void {
  const before = untrack(() => selection.images);
  const same = untrack(() => images.length === before.length && images.every((one, at) => one === before[at]));
  if (!same) selection.images = images;
}

/** Its content can be read: it is there, and a format was recognised. */
export function isReadable(image: ImageEntry): boolean {
  return !image.gone && image.virtualSize !== null;
}

// The images that a verb acts on: those that are selected in the library, or the one whose page is open.
import type { ImageEntry } from '../../core/workbench/contract.ts';

export const selection = $state<{ images: readonly ImageEntry[] }>({ images: [] });

export function select(images: readonly ImageEntry[]): void {
  const same = images.length === selection.images.length && images.every((one, at) => one === selection.images[at]);
  if (!same) selection.images = images;
}

/** Its content can be read: it is there, and a format was recognised. */
export function isReadable(image: ImageEntry): boolean {
  return !image.gone && image.virtualSize !== null;
}

// Images that are dragged within the window: what the browser hands over are their ids, the entries themselves stay here.
import type { ImageEntry } from '../../core/workbench/contract.ts';

const type = 'application/x-platter-images';
let dragged: readonly ImageEntry[] = [];

export const draggedImages = {
  /** Somebody begins to drag these. */
  set(transfer: DataTransfer, images: readonly ImageEntry[]): void {
    dragged = images;
    transfer.setData(type, images.map(({ id }) => id).join('\n'));
    transfer.setData('text/plain', images.map(({ file }) => file).join('\n'));
    transfer.effectAllowed = 'copyMove';
  },
  /** Whether images are what is dragged: while they hover, no more is known. */
  here(transfer: DataTransfer | null): boolean {
    return transfer?.types.includes(type) === true;
  },
  /** What was dropped. */
  take(transfer: DataTransfer | null): readonly ImageEntry[] {
    const ids = new Set((transfer?.getData(type) ?? '').split('\n'));
    return dragged.filter(({ id }) => ids.has(id));
  },
};

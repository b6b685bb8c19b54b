// The map as files: the picture as it is on the screen, and its cells with their shares as JSON.
import type { Viewport } from './geometry.ts';
import type { Totals } from './tile-store.ts';

function save(content: Blob, name: string): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export function savePicture(canvas: HTMLCanvasElement, name: string): void {
  canvas.toBlob((content) => {
    if (content !== null) save(content, name);
  }, 'image/png');
}

/** Cells: for each that is shown its classes (by number) with their share in 255ths; null: not fetched. */
export function exportCells(
  name: string,
  {
    image,
    view,
    layer,
    totals,
    viewport,
    cells,
  }: {
    readonly image: string;
    readonly view: string;
    readonly layer: string;
    readonly totals: Totals;
    readonly viewport: Viewport;
    readonly cells: readonly unknown[];
  },
): void {
  const content = {
    image,
    view,
    layer,
    classes: totals.classes,
    totals: Object.fromEntries(totals.classes.map((kind, index) => [kind, totals.bytes[index] ?? 0])),
    surveyed: totals.surveyed,
    start: viewport.first * viewport.cellBytes,
    'cell-bytes': viewport.cellBytes,
    cells,
  };
  save(new Blob([JSON.stringify(content, null, 1)], { type: 'application/json' }), name);
}

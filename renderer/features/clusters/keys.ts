// The keyboard on a map: arrows and pages move what is selected, plus and minus zoom.
import type { MapView } from './map-view.svelte.ts';

export interface KeyTargets {
  readonly view: MapView;
  readonly selected: number | null;
  readonly onselect: (at: number | null) => void;
  readonly onopen: () => void;
}

/** Does what a key stands for, and keeps it from others if it stands for something. */
export function mapKey(event: KeyboardEvent, { view, selected, onselect, onopen }: KeyTargets): void {
  if (view.viewport === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const { columns, rows, cells, cellBytes, first } = view.viewport;
  const now = selected === null ? first - 1 : Math.floor(selected / cellBytes);
  const page = columns * Math.max(1, rows - 1);
  const select = (cell: number): void => {
    const to = Math.max(0, Math.min(cells - 1, cell));
    onselect(to * cellBytes);
    const row = Math.floor((to - first) / columns);
    if (row < 0) view.pan(row * columns);
    else if (row >= rows) view.pan((row - rows + 1) * columns);
  };
  const moves: Record<string, () => void> = {
    ArrowRight: () => select(now + 1),
    ArrowLeft: () => select(now - 1),
    ArrowDown: () => select(selected === null ? first : now + columns),
    ArrowUp: () => select(now - columns),
    PageDown: () => select(Math.min(cells - 1, now + page)),
    PageUp: () => select(now - page),
    Home: () => select(0),
    End: () => select(cells - 1),
    '+': () => view.zoomAround(1, selected),
    '=': () => view.zoomAround(1, selected),
    '-': () => view.zoomAround(-1, selected),
    '0': () => view.showAll(),
    Enter: () => onopen(),
    Escape: () => onselect(null),
  };
  const move = moves[event.key];
  if (move === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  move();
}

// Wheel and pointer on a map: turn to zoom, drag to move, click to select; and on the strip beside it.
import { cellAt } from './geometry.ts';
import type { MapView } from './map-view.svelte.ts';

/** The cell under the pointer, and where the pointer is, in CSS pixels. */
export interface Hover {
  readonly cell: number;
  readonly x: number;
  readonly y: number;
}

export interface PointerHandlers {
  readonly onwheel: (event: WheelEvent) => void;
  readonly onpointerdown: (event: PointerEvent) => void;
  readonly onpointermove: (event: PointerEvent) => void;
  readonly onpointerup: (event: PointerEvent) => void;
  readonly onpointerleave: () => void;
}

/** What the canvas of a map listens to. */
export function pointerOn(
  view: MapView,
  hover: (hover: Hover | null) => void,
  select: (at: number | null) => void,
): PointerHandlers {
  let turned = 0;
  let dragged: { readonly x: number; readonly y: number; readonly first: number; moved: boolean } | null = null;
  return {
    onwheel(event) {
      event.preventDefault();
      if (event.shiftKey) {
        view.pan(Math.sign(event.deltaY || event.deltaX) * (view.viewport?.columns ?? 0) * 3);
        return;
      }
      turned += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 60 : event.deltaY;
      const by = Math.trunc(turned);
      if (by === 0) return;
      turned = 0;
      view.zoomAt(-Math.max(-2, Math.min(2, by)), event.offsetX * view.scale, event.offsetY * view.scale);
    },
    onpointerdown(event) {
      if (event.button !== 0 || view.viewport === null) return;
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      dragged = { x: event.offsetX, y: event.offsetY, first: view.viewport.first, moved: false };
    },
    onpointermove(event) {
      const { scale } = view;
      if (view.viewport === null) return;
      if (dragged !== null) {
        const { step, columns: inRow } = view.viewport;
        const rows = Math.round(((dragged.y - event.offsetY) * scale) / step.size);
        const columns = Math.round(((dragged.x - event.offsetX) * scale) / step.size);
        if (rows !== 0 || columns !== 0) dragged.moved = true;
        if (dragged.moved) view.moveTo(dragged.first + rows * inRow + columns);
      }
      const cell = cellAt(view.viewport, event.offsetX * scale, event.offsetY * scale);
      hover(cell === null ? null : { cell, x: event.offsetX, y: event.offsetY });
    },
    onpointerup(event) {
      const drag = dragged;
      dragged = null;
      if (drag === null || drag.moved || view.viewport === null) return;
      const cell = cellAt(view.viewport, event.offsetX * view.scale, event.offsetY * view.scale);
      select(cell === null ? null : cell * view.viewport.cellBytes);
    },
    onpointerleave() {
      hover(null);
    },
  };
}

/** A press or a drag on the strip: what stands there comes into the middle. */
export function moveByStrip(view: MapView, event: PointerEvent): void {
  const strip = event.currentTarget as Element;
  if (event.buttons % 2 === 0 || view.viewport === null) return;
  strip.setPointerCapture(event.pointerId);
  const { cells, rows, columns } = view.viewport;
  const middle = Math.max(0, Math.min(1, event.offsetY / strip.clientHeight)) * cells;
  view.moveTo(middle - (rows * columns) / 2);
}

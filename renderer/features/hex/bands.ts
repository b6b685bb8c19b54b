// The rectangles that mark a stretch of bytes on the rows in sight.
import { rowBytes } from './rows.ts';

/** A part of one row, from its byte `from` up to but without `to`; `style` is a CSS class. */
export interface Band {
  readonly line: number;
  readonly from: number;
  readonly to: number;
  readonly style: string;
}

/** `sight`: the first byte in sight, and how many rows are. Null: nothing is marked. */
export function bands(
  stretch: { readonly start: number; readonly end: number } | null,
  style: string,
  sight: { readonly top: number; readonly rows: number },
): Band[] {
  if (stretch === null) return [];
  const found: Band[] = [];
  const first = Math.max(0, Math.floor((stretch.start - sight.top) / rowBytes));
  const last = Math.min(sight.rows - 1, Math.floor((stretch.end - 1 - sight.top) / rowBytes));
  for (let line = first; line <= last; line++) {
    const offset = sight.top + line * rowBytes;
    const from = Math.max(0, stretch.start - offset);
    const to = Math.min(rowBytes, stretch.end - offset);
    if (to > from) found.push({ line, from, to, style });
  }
  return found;
}

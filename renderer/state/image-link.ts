// Addresses of a place in an image that can be sent on: the desktop program opens them (docs/electron.md).

/** A place: a tab of an image's page, which bytes (`guest`, `snapshot:ID`, the role of a file), and which of them. */
export interface ImagePlace {
  readonly id: string;
  readonly tab: string;
  readonly of: string;
  readonly at: number;
}

/** `platter://image/ID?view=hex&of=guest&at=0x200`. */
export function linkTo({ id, tab, of, at }: ImagePlace): string {
  const query = new URLSearchParams({ view: tab, of, at: `0x${at.toString(16)}` });
  return `platter://image/${encodeURIComponent(id)}?${query}`;
}

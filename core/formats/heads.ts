// What stands at fixed places of a format's files, for an image that is too damaged to be opened: shown with what is wrong in it.
import type { Annotation } from '../bytes/struct.ts';
import type { BlockNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import type { FormatDriver, Region } from './driver.ts';

/** A declared structure at a fixed place. */
export interface Head {
  /** Bytes from the start of the file; negative: from its end. */
  readonly at: number;
  readonly label: string;
  readonly rows: { readonly size: number; annotate(bytes: Uint8Array, at: number): Annotation[] };
}

const probed = 64 * 1024;
const probedEnd = 1024;

/** The format that a file looks like; null: none with structures. Throws `storage/*`. */
export function formatOf(storage: Storage, drivers: readonly FormatDriver[]): FormatDriver | null {
  const head = new Uint8Array(Math.min(probed, storage.size));
  const tail = new Uint8Array(Math.min(probedEnd, storage.size));
  storage.readAt(head, 0);
  storage.readAt(tail, storage.size - tail.length);
  return drivers.find((one) => one.heads !== undefined && one.probe(head, tail, storage.size)) ?? null;
}

/** The regions of the plain file of `node`: the structures at the fixed places of `driver`, and the rest. */
export function* headRegions(node: BlockNode, driver: FormatDriver): Generator<Region, void, void> {
  const storage = node.files[0]?.storage;
  if (storage === undefined) return;
  const { size } = storage;
  const placed = (driver.heads ?? [])
    .map(({ at, label, rows }) => ({ start: at < 0 ? size + at : at, label, rows }))
    .filter(({ start, rows }) => start >= 0 && start + rows.size <= size)
    .sort((a, b) => a.start - b.start);
  const rest = (start: number, length: number): Region => ({
    start,
    length,
    label: 'bytes',
    kind: 'data',
    annotate: () => [],
  });
  let at = 0;
  for (const { start, label, rows } of placed) {
    if (start < at) continue;
    if (start > at) yield rest(at, start - at);
    const annotate: Region['annotate'] = (window) => {
      const bytes = new Uint8Array(rows.size);
      storage.readAt(bytes, start);
      const end = window.start + window.length;
      return rows.annotate(bytes, start).filter((row) => row.start < end && row.start + row.length > window.start);
    };
    yield { start, length: rows.size, label, kind: 'header', annotate };
    at = start + rows.size;
  }
  if (at < size) yield rest(at, size - at);
}

// Parts of a file that are known, with what the hex view shows in them: headers, directories, tables.
import type { Annotation } from '../../bytes/struct.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset, type HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import type { SparseExtent } from './sparse.ts';
import { sectorSize } from './spec.ts';

/** A stretch that is known, before gaps are named. */
export interface Part {
  readonly start: HostOffset;
  readonly end: HostOffset;
  readonly label: string;
  readonly kind: Region['kind'];
  annotate?(window: HostRange): Annotation[];
}

interface Annotating {
  readonly size: number;
  annotate(bytes: Uint8Array, at: number): Annotation[];
}

/** A declared structure at a place of the file. */
export function headerPart(storage: Storage, structure: Annotating, offset: HostOffset, label = 'header'): Part {
  return {
    start: offset,
    end: offset + structure.size,
    label,
    kind: 'header',
    annotate(window) {
      const bytes = new Uint8Array(Math.max(0, Math.min(structure.size, storage.size - offset)));
      storage.readAt(bytes, Math.min(offset, storage.size));
      const end = window.start + window.length;
      return structure
        .annotate(bytes, offset)
        .filter((row) => row.start < end && row.start + row.length > window.start);
    },
  };
}

/** A grain directory of `count` entries. */
export function directoryPart(
  extent: SparseExtent,
  offset: HostOffset,
  label: string,
  count: number,
  width: 4 | 8,
): Part {
  const end = offset + alignUp(count * width, sectorSize);
  const covers = extent.entriesPerTable * extent.grainSize;
  return {
    start: offset,
    end,
    label,
    kind: 'table',
    annotate: (window) =>
      numbers(extent.storage, window, { start: offset, end: offset + count * width }, width, (index, value) => ({
        structure: 'Grain directory',
        field: `GDE ${index}`,
        value: value === 0 ? 'no table' : width === 8 ? `0x${value.toString(16)}` : `sector ${value}`,
        meaning: `guest bytes from ${index * covers}`,
        path: `GD[${index}]`,
        section: 'VMDK 5.0: Grain directory',
        ...placeOf(width, value, 1),
      })),
  };
}

/** Tables that follow each other in the file and on the disk are one part. */
export function tableParts(
  extent: SparseExtent,
  offsetOf: (table: number) => HostOffset,
  label: string,
  tableBytes: number,
): Part[] {
  const length = alignUp(tableBytes, sectorSize);
  const parts: Part[] = [];
  const count = extent.directory.entries.length;
  let table = 0;
  while (table < count) {
    const start = offsetOf(table);
    if (start === 0 || start >= extent.storage.size) {
      table++;
      continue;
    }
    const first = table;
    while (table < count && offsetOf(table) === start + (table - first) * length) table++;
    parts.push(tablePart(extent, { first, start, end: start + (table - first) * length }, label));
  }
  return parts;
}

/** Tables from number `first` on. */
export function tablePart(
  extent: SparseExtent,
  at: { first: number; start: HostOffset; end: HostOffset },
  label: string,
): Part {
  const { entriesPerTable, grainSize } = extent;
  const width = extent.tables.source.entryBytes;
  const { first, start, end } = at;
  return {
    start,
    end,
    label,
    kind: 'table',
    annotate: (window) =>
      numbers(extent.storage, window, { start, end }, width, (index, value) => ({
        structure: 'Grain table',
        field: `GTE ${index % entriesPerTable} of table ${first + Math.floor(index / entriesPerTable)}`,
        value: value === 0 ? 'not allocated' : width === 8 ? `0x${value.toString(16)}` : `sector ${value}`,
        meaning: `guest bytes from ${(first * entriesPerTable + index) * grainSize}`,
        path: `GT[${first + Math.floor(index / entriesPerTable)}][${index % entriesPerTable}]`,
        section: 'VMDK 5.0: Grain table',
        ...placeOf(width, value, 2),
      })),
  };
}

/** Where an entry leads: sectors below `least` are marks of their own (none, zeroed). seSparse entries are not plain sector numbers. */
function placeOf(width: 4 | 8, value: bigint | number, least: number): Pick<Annotation, 'target'> {
  return width === 4 && Number(value) >= least ? { target: { offset: Number(value) * sectorSize } } : {};
}

/** Rows for the numbers of a table that lie in the window. */
function numbers(
  storage: Storage,
  window: HostRange,
  table: { start: HostOffset; end: HostOffset },
  width: 4 | 8,
  row: (index: number, value: bigint | number) => Omit<Annotation, 'start' | 'length' | 'fault'>,
): Annotation[] {
  const first = Math.max(0, Math.floor((window.start - table.start) / width));
  const last = Math.ceil((Math.min(window.start + window.length, table.end, storage.size) - table.start) / width);
  const bytes = new Uint8Array(Math.max(0, last - first) * width);
  if (bytes.length === 0 || table.start + last * width > storage.size) return [];
  storage.readAt(bytes, table.start + first * width);
  const view = new DataView(bytes.buffer);
  const rows: Annotation[] = [];
  for (let i = 0; i < bytes.length / width; i++) {
    const value = width === 4 ? view.getUint32(4 * i, true) : view.getBigUint64(8 * i, true);
    const start = table.start + (first + i) * width;
    rows.push({ ...row(first + i, value === 0n ? 0 : value), start, length: width, fault: null });
  }
  return rows;
}

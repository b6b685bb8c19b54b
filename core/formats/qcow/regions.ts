// What each stretch of a qcow file is for.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import { codec } from './node.ts';
import { join, packedLength, packedOffset } from './layout.ts';
import { header, packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';
import { usesOf, type Use } from './uses.ts';

/** The regions of the file, in order, without gap or overlap; what damage puts on top of each other is cut. Throws `storage/*`. */
export function* qcowRegions(state: QcowState, role: string): Generator<Region, void, void> {
  if (role !== 'file') return;
  const { size } = state.storage;
  let at = 0;
  for (const use of usesOf(
    state,
    () => {},
    () => {},
  )) {
    const start = Math.max(at, use.start);
    const end = use.start + use.length;
    if (end <= start) continue;
    if (start > at) yield unused(at, start - at);
    yield { ...named(state, use), start, length: end - start };
    at = end;
  }
  if (at < size) yield unused(at, size - at);
}

function unused(start: number, length: number): Region {
  return { start, length, label: 'unused', kind: 'lost', annotate: () => [] };
}

function named(state: QcowState, { what, guest }: Use): Omit<Region, 'start' | 'length'> {
  const plain = (): Annotation[] => [];
  switch (what) {
    case 'header':
      return { label: 'header', kind: 'header', annotate: (window) => headerNotes(state, window) };
    case 'name':
      return { label: 'backing file name', kind: 'header', annotate: (window) => nameNotes(state, window) };
    case 'L1 table':
      return { label: 'L1 table', kind: 'table', annotate: (window) => l1Notes(state, window) };
    case 'L2 table':
      return { label: `L2 table ${guest}`, kind: 'table', annotate: (window) => l2Notes(state, guest, window) };
    case 'data':
      return { label: 'guest data', kind: 'data', annotate: plain };
    case 'compressed':
      return { label: 'compressed cluster', kind: 'data', annotate: plain };
  }
}

function headerNotes({ fields }: QcowState, window: HostRange): Annotation[] {
  const end = window.start + window.length;
  return header
    .annotate(header.serialise(fields), 0)
    .filter((note) => note.start < end && note.start + note.length > window.start);
}

const shown = (value: number): string => `0x${value.toString(16)}`;

function nameNotes({ fields, backingName }: QcowState, window: HostRange): Annotation[] {
  const { backing_file_offset: start, backing_file_size: length } = fields;
  if (start >= window.start + window.length || start + length <= window.start) return [];
  const value = JSON.stringify(backingName);
  const row = { structure: 'backing file name', field: 'name', path: 'backing_file_name', section: 'qcow: Header' };
  return [{ ...row, start, length, value, meaning: 'the layer below, as the image names it', fault: null }];
}

/** The indices of the entries of a table from `start` that `window` touches. */
function touched(start: number, entries: number, window: HostRange): { readonly first: number; readonly end: number } {
  const first = Math.max(0, Math.floor((window.start - start) / 8));
  return { first, end: Math.min(entries, Math.ceil((window.start + window.length - start) / 8)) };
}

function l1Notes(state: QcowState, window: HostRange): Annotation[] {
  const { fields, l1, layout, storage } = state;
  const start = fields.l1_table_offset;
  const { first, end } = touched(start, l1.length / 2, window);
  const notes: Annotation[] = [];
  for (let index = first; index < end; index++) {
    const offset = join(l1[2 * index] ?? 0, l1[2 * index + 1] ?? 0);
    const outside = offset + layout.l2Size > storage.size;
    notes.push({
      start: start + 8 * index,
      length: 8,
      structure: 'L1 table',
      field: `entry ${index}`,
      value: offset === 0 ? 'no L2 table' : `L2 table at ${shown(offset)}`,
      meaning: `guest bytes from ${shown(index * layout.l2Coverage)}`,
      fault: offset !== 0 && outside ? 'lies outside of the file' : null,
      path: `L1[${index}]`,
      section: 'qcow: L1 table',
      ...(offset === 0 || outside ? {} : { target: { offset } }),
    });
  }
  return notes;
}

function l2Notes(state: QcowState, table: number, window: HostRange): Annotation[] {
  const { layout, storage } = state;
  const start = state.l2Offset(table);
  const halves = state.l2Table(start);
  const { first, end } = touched(start, layout.l2Entries, window);
  const notes: Annotation[] = [];
  for (let index = first; index < end; index++) {
    const high = halves[2 * index] ?? 0;
    const low = halves[2 * index + 1] ?? 0;
    const isPacked = (high & packedFlag) !== 0;
    const offset = isPacked ? packedOffset(layout, high, low) : join(high, low);
    const length = isPacked ? packedLength(layout, high) : layout.clusterSize;
    const outside = offset >= storage.size;
    const words = isPacked ? `compressed, ${length} bytes at ${shown(offset)}` : `data at ${shown(offset)}`;
    const target = isPacked ? { offset, packed: { codec: codec.id, length } } : { offset };
    notes.push({
      start: start + 8 * index,
      length: 8,
      structure: 'L2 table',
      field: `entry ${index}`,
      value: offset === 0 ? 'unallocated' : words,
      meaning: `guest bytes from ${shown(table * layout.l2Coverage + index * layout.clusterSize)}`,
      fault: outside ? 'lies outside of the file' : null,
      path: `L2[${table}][${index}]`,
      section: 'qcow: L2 table',
      ...(offset === 0 || outside ? {} : { target }),
    });
  }
  return notes;
}

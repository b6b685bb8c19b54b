// What each stretch of a qcow file is for.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import { header } from './spec.ts';
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
      return { label: 'backing file name', kind: 'header', annotate: plain };
    case 'L1 table':
      return { label: 'L1 table', kind: 'table', annotate: plain };
    case 'L2 table':
      return { label: `L2 table ${guest}`, kind: 'table', annotate: plain };
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

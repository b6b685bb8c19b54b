// What of the file is in use, in the order of the file, by windows of bounded size: for the check and for the regions.
import { alignUp, type HostOffset, type HostRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { join, packedLength, packedOffset } from './layout.ts';
import { header, packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';

/** A stretch that something points to. `guest`: the first guest cluster of data, or the number of an L1 entry. */
export interface Use extends HostRange {
  readonly what: 'header' | 'name' | 'L1 table' | 'L2 table' | 'data' | 'compressed';
  readonly guest: number;
}

/** Clusters of the file that are looked at together: what is held in memory at once is bounded by them. */
const windowClusters = 256 * 1024;

/** Tables that cannot be read, and entries that point outside of the file, are told here. */
export type OnFault = (fault: ImageError) => void;

/**
 * All stretches in use in the order of the file; those that cross a window come in parts. Each window walks through the tables, so
 * that memory stays bounded however large the file is. Throws `storage/*`; damage goes to `onFault`, in the first window only.
 */
export function* usesOf(state: QcowState, onFault: OnFault, onWindow: () => void): Generator<Use, void, void> {
  const { size } = state.storage;
  const step = windowClusters * state.layout.clusterSize;
  for (let from = 0; from === 0 || from < size; from += step) {
    onWindow();
    const uses = usesWithin(state, from, Math.min(size, from + step), from === 0 ? onFault : () => {});
    yield* uses.sort((a, b) => a.start - b.start || b.length - a.length);
  }
}

function usesWithin(state: QcowState, from: HostOffset, to: HostOffset, onFault: OnFault): Use[] {
  const found: Use[] = [];
  const add = (what: Use['what'], guest: number, start: HostOffset, length: number): void => {
    const first = Math.max(from, start);
    const end = Math.min(to, start + length);
    if (end <= first) return;
    const last = found.at(-1);
    const joins = what === 'data' && last?.what === 'data' && last.start + last.length === first;
    if (joins) found[found.length - 1] = { ...last, length: last.length + end - first };
    else found.push({ what, guest, start: first, length: end - first });
  };
  const { fields, layout, l1 } = state;
  add('header', 0, 0, header.size);
  if (fields.backing_file_offset !== 0) add('name', 0, fields.backing_file_offset, fields.backing_file_size);
  // It is written in whole sectors.
  add('L1 table', 0, fields.l1_table_offset, alignUp(l1.length * 4, 512));
  for (const { index, offset, table } of tablesOf(state, onFault)) {
    add('L2 table', index, offset, layout.l2Size);
    for (let i = 0; i < layout.l2Entries; i++) {
      const high = table[i * 2] ?? 0;
      const low = table[i * 2 + 1] ?? 0;
      if ((high | low) === 0) continue;
      const cluster = index * layout.l2Entries + i;
      if ((high & packedFlag) !== 0) {
        add('compressed', cluster, packedOffset(layout, high, low), packedLength(layout, high));
      } else {
        add('data', cluster, join(high, low), layout.clusterSize);
      }
    }
  }
  return found;
}

/** The L2 tables that can be read, each once. */
export function* tablesOf(
  state: QcowState,
  onFault: OnFault,
): Generator<{ readonly index: number; readonly offset: HostOffset; readonly table: Uint32Array }, void, void> {
  const seen = new Set<HostOffset>();
  for (let index = 0; index * 2 < state.l1.length; index++) {
    let offset: HostOffset;
    let table: Uint32Array;
    try {
      offset = state.l2Offset(index);
      if (offset === 0) continue;
      if (seen.has(offset)) {
        const where = {
          file: state.storage.name,
          offset: state.fields.l1_table_offset + index * 8,
          field: `L1[${index}]`,
        };
        throw new ImageError('qcow/table-shared', { offset }, where);
      }
      table = state.l2Table(offset);
    } catch (error) {
      if (!(error instanceof ImageError) || !error.code.startsWith('qcow/')) throw error;
      onFault(error);
      continue;
    }
    seen.add(offset);
    yield { index, offset, table };
  }
}

// Where guest bytes lie in a qcow2 image: L1 and L2 entries turned into mappings, neighbours merged.
import type { Mapping } from '../../block/node.ts';
import { mapDamaged } from '../../block/unreadable.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { answerEmpty, notStored, packedMapping, skipUnallocated, stored, type View } from './answers.ts';
import { entryWhere, Kind, kindOf } from './entries.ts';
import { l2OffsetAt } from './l2.ts';
import { mapSubclusters } from './subcluster-mapping.ts';

/**
 * The mapping of the first bytes of `range`, which lies within the view (specification: "Cluster mapping").
 * Throws `qcow2/l2-offset`, `qcow2/cluster-offset`, `qcow2/reserved-bits` and others for damaged tables, `qcow2/encrypted`.
 */
export function mapRange(view: View, range: GuestRange): Mapping {
  const { damage } = view;
  return damage === null ? mapSound(view, range) : mapDamaged(range, damage, (known) => mapSound(view, known));
}

function mapSound(view: View, range: GuestRange): Mapping {
  const { state, l1 } = view;
  if (state.encrypted && state.cipher === null) {
    throw new ImageError('qcow2/encrypted', { method: state.cryptName }, { file: state.storage.name });
  }
  const empty = view.knownEmpty(range.start);
  if (empty > 0) return answerEmpty(view, range, Math.min(empty, range.length));
  const { l2Coverage } = state.layout;
  const index = Math.floor(range.start / l2Coverage);
  const inTable = range.start - index * l2Coverage;
  const offset = l2OffsetAt(state, l1, index);
  if (offset === 0) return notStored(view, range, skipUnallocated(view, index, range, 0));
  const table = view.tables.get(offset);
  const most = Math.min(range.length, l2Coverage - inTable);
  if (state.lenient) return mapAsFarAs(view, range, table, offset, inTable, most);
  return state.layout.extendedL2
    ? mapSubclusters(view, range, table, offset, inTable, most)
    : mapClusters(view, range, table, offset, inTable, most);
}

/** The same with a table that the file may have the start of only. */
function mapAsFarAs(
  view: View,
  { start, length }: GuestRange,
  table: Uint32Array,
  offset: number,
  inTable: number,
  most: number,
): Mapping {
  const { state, tables } = view;
  const { clusterSize, l2Entries, extendedL2 } = state.layout;
  const entries = tables.entriesInFile(offset);
  if (inTable >= entries * clusterSize) {
    const detail = { table: 'L2 table', length: clusterSize, offset, size: state.storage.size };
    const where = { file: state.storage.name, offset, field: 'L2 table' };
    throw new ImageError('qcow2/table-beyond-file', detail, where);
  }
  const reach = Math.min(most, entries * clusterSize - inTable);
  const range = { start, length: entries < l2Entries ? reach : length };
  return extendedL2
    ? mapSubclusters(view, range, table, offset, inTable, reach)
    : mapClusters(view, range, table, offset, inTable, reach);
}

function mapClusters(
  view: View,
  range: GuestRange,
  table: Uint32Array,
  tableOffset: number,
  inTable: number,
  most: number,
): Mapping {
  const { state } = view;
  const { clusterSize } = state.layout;
  const first = Math.floor(inTable / clusterSize);
  const skip = inTable - first * clusterSize;
  const last = Math.ceil((inTable + most) / clusterSize);
  const high = table[first * 2] ?? 0;
  const low = table[first * 2 + 1] ?? 0;
  const kind = kindOf(state, high, low);
  const length = (entries: number): number => Math.min(entries * clusterSize - skip, most);
  const where = { tableOffset, index: first };
  switch (kind) {
    case Kind.unallocated: {
      const flags = state.external ? 0xffff_ffff : 0x7fff_ffff;
      let i = first + 1;
      while (i < last && (((table[i * 2] ?? 0) & flags) | (table[i * 2 + 1] ?? 0)) === 0) i++;
      const run = length(i - first);
      const index = Math.floor(range.start / state.layout.l2Coverage);
      return notStored(
        view,
        range,
        run < most || most === range.length ? run : skipUnallocated(view, index + 1, range, run),
      );
    }
    case Kind.zero: {
      if (state.version < 3) {
        throw new ImageError('qcow2/zero-in-v2', { l2: tableOffset, index: first }, entryWhere(state, where));
      }
      let i = first + 1;
      while (i < last && table[i * 2] === high && table[i * 2 + 1] === low) i++;
      return { kind: 'zero', length: length(i - first), explicit: true };
    }
    case Kind.packed:
      return packedMapping(view, range, high, low, skip, length(1), where);
    case Kind.zeroReserved:
    case Kind.unallocatedReserved:
    case Kind.data: {
      const run = length(contiguous(table, first, last, 2, high, low, clusterSize));
      return stored(view, range, kind, high, low, skip, run, where);
    }
  }
}

/** How many entries from `first` on point to host clusters that follow each other, with the same flags. */
function contiguous(
  table: Uint32Array,
  first: number,
  last: number,
  halves: number,
  high: number,
  low: number,
  clusterSize: number,
): number {
  let i = first + 1;
  let expectHigh = high;
  let expectLow = low;
  for (; i < last; i++) {
    expectLow += clusterSize;
    if (expectLow > 0xffff_ffff) {
      expectLow -= 0x1_0000_0000;
      expectHigh++;
    }
    if (table[i * halves] !== expectHigh || table[i * halves + 1] !== expectLow) break;
  }
  return i - first;
}

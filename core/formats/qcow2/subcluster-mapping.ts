// Where guest bytes lie under an extended L2 table: subclusters of one kind, joined across clusters.
import type { Mapping } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { notStored, packedMapping, skipUnallocated, stored, type View } from './answers.ts';
import { dataOffset, entryWhere, Kind, kindOf } from './entries.ts';
import { entryOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** The mapping of the first of `most` bytes from `inTable` of the guest range that the table at `tableOffset` describes. */
export function mapSubclusters(
  view: View,
  range: GuestRange,
  table: Uint32Array,
  tableOffset: number,
  inTable: number,
  most: number,
): Mapping {
  const { state } = view;
  const { clusterSize, subclusterSize } = state.layout;
  const first = Math.floor(inTable / clusterSize);
  const skip = inTable - first * clusterSize;
  const last = Math.ceil((inTable + most) / clusterSize);
  const high = table[first * 4] ?? 0;
  const low = table[first * 4 + 1] ?? 0;
  const place = { tableOffset, index: first };
  if ((high & entry.compressed) !== 0) {
    return packedMapping(view, range, high, low, skip, Math.min(clusterSize - skip, most), place);
  }
  const sub = Math.floor(skip / subclusterSize);
  const kind = subKind(state, table, tableOffset, first, sub);
  const copied = high & entry.copied;
  // Without a layer below, room for subclusters that hold nothing yet is told as what it is.
  const roomOnly = kind === Kind.unallocatedReserved && (view.backing === null || range.start >= view.backing.size);
  const placed = kind === Kind.data || kind === Kind.zeroReserved || roomOnly;
  const base = placed ? dataOffset(state, high, low, range.start - skip, place) : 0;
  let index = first;
  let at = sub;
  for (;;) {
    at = sameKind(table, index, at + 1, kind);
    if (at < 32) break;
    index++;
    at = 0;
    if (index >= last || ((table[index * 4] ?? 0) & entry.compressed) !== 0) break;
    if (subKind(state, table, tableOffset, index, 0) !== kind) break;
    if (base !== 0 || state.external) {
      const nextHigh = table[index * 4] ?? 0;
      if ((nextHigh & entry.copied) !== copied) break;
      const follows = base + (index - first) * clusterSize;
      if (placed && entryOffset(nextHigh, table[index * 4 + 1] ?? 0) !== follows) break;
    }
  }
  const length = Math.min((index - first) * clusterSize + at * subclusterSize - skip, most);
  switch (kind) {
    case Kind.unallocated:
    case Kind.unallocatedReserved: {
      if (roomOnly) {
        return { kind: 'zero', length, explicit: false, reserved: { storage: state.data, offset: base + skip } };
      }
      const next = Math.floor(range.start / state.layout.l2Coverage) + 1;
      const run = length < most || most === range.length ? length : skipUnallocated(view, next, range, length);
      return notStored(view, range, run);
    }
    case Kind.zero:
      return { kind: 'zero', length, explicit: true };
    case Kind.packed:
    case Kind.zeroReserved:
    case Kind.data:
      return stored(view, range, kind, high, low, skip, length, place);
  }
}

/** The kind of subcluster `sub` of entry `index`, which is not compressed. Throws `qcow2/subcluster-bits`. */
function subKind(state: Qcow2State, table: Uint32Array, tableOffset: number, index: number, sub: number): Kind {
  const whole = kindOf(state, table[index * 4] ?? 0, table[index * 4 + 1] ?? 0);
  const zeroBits = table[index * 4 + 2] ?? 0;
  const allocated = table[index * 4 + 3] ?? 0;
  const bad = whole === Kind.data ? zeroBits & allocated : allocated;
  if (bad !== 0) {
    const place = { tableOffset, index };
    throw new ImageError('qcow2/subcluster-bits', { l2: tableOffset, index }, entryWhere(state, place));
  }
  const zero = ((zeroBits >>> sub) & 1) !== 0;
  if (whole !== Kind.data) return zero ? Kind.zero : Kind.unallocated;
  if (zero) return Kind.zeroReserved;
  return ((allocated >>> sub) & 1) !== 0 ? Kind.data : Kind.unallocatedReserved;
}

/** The first subcluster of entry `index` from `sub` on that is not of `kind`; 32: all are. */
function sameKind(table: Uint32Array, index: number, sub: number, kind: Kind): number {
  const zeroBits = table[index * 4 + 2] ?? 0;
  const allocated = table[index * 4 + 3] ?? 0;
  let differs: number;
  if (kind === Kind.data) differs = ~allocated;
  else if (kind === Kind.zero || kind === Kind.zeroReserved) differs = ~zeroBits;
  else differs = allocated | zeroBits;
  const rest = sub >= 32 ? 0 : (differs >>> sub) << sub;
  return rest === 0 ? 32 : 31 - Math.clz32(rest & -rest);
}

// Where guest bytes lie in a qcow2 image: L1 and L2 entries turned into mappings, neighbours merged.
import type { BlockNode, Codec, Mapping } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { l2OffsetAt, type L2Tables } from './l2.ts';
import { entryOffset, packedLength, packedOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** What a mapping is looked up in: the active disk or a snapshot. */
export interface View {
  readonly state: Qcow2State;
  readonly tables: L2Tables;
  readonly l1: Uint32Array;
  readonly backing: BlockNode | null;
}

/** L2 tables that one call looks at, at most, to merge what is not stored. */
const tablesPerCall = 64;

/** What an L2 entry (or one subcluster of it) says. */
export const Kind = { unallocated: 0, zero: 1, zeroReserved: 2, data: 3, packed: 4, unallocatedReserved: 5 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

const deflate: Codec = { id: 'deflate-raw', windowBits: 12 };
const zstd: Codec = { id: 'zstd' };

/** How compressed clusters of this image are packed. */
export function codecOf(state: Qcow2State): Codec {
  return state.header.compressionType === 0 ? deflate : zstd;
}

/**
 * The mapping of the first bytes of `range`, which lies within the view (specification: "Cluster mapping").
 * Throws `qcow2/l2-offset`, `qcow2/cluster-offset`, `qcow2/reserved-bits` and others for damaged tables, `qcow2/encrypted`.
 */
export function mapRange(view: View, range: GuestRange): Mapping {
  const { state, l1 } = view;
  if (state.encrypted && state.cipher === null) {
    throw new ImageError('qcow2/encrypted', { method: state.cryptName }, { file: state.storage.name });
  }
  const { l2Coverage } = state.layout;
  const index = Math.floor(range.start / l2Coverage);
  const inTable = range.start - index * l2Coverage;
  const offset = l2OffsetAt(state, l1, index);
  if (offset === 0) return notStored(view, range, skipUnallocated(view, index, range, 0));
  const table = view.tables.get(offset);
  const most = Math.min(range.length, l2Coverage - inTable);
  return state.layout.extendedL2
    ? mapSubclusters(view, range, table, offset, inTable, most)
    : mapClusters(view, range, table, offset, inTable, most);
}

/** Nothing is stored for `length` bytes: the layer below answers, or nothing does. */
function notStored(view: View, range: GuestRange, length: number): Mapping {
  const { backing } = view;
  if (backing === null || range.start >= backing.size) return { kind: 'zero', length, explicit: false };
  return {
    kind: 'below',
    length: Math.min(length, backing.size - range.start),
    node: backing,
    offset: range.start,
  };
}

/**
 * How many bytes from the start of `range` are not stored: from L1 entry `index` on, where `known` bytes before it are known to be.
 * Follows L1 entries without a table, and a bounded number of tables that are empty at their start.
 */
function skipUnallocated(view: View, index: number, range: GuestRange, known: number): number {
  const { state, l1, tables } = view;
  const { l2Coverage, clusterSize, l2Entries } = state.layout;
  const end = range.start + range.length;
  let tablesLeft = tablesPerCall;
  let at = known === 0 ? Math.max(index * l2Coverage, range.start) : range.start + known;
  for (let i = index; at < end; i++) {
    if (((l1[i * 2] ?? 0) | (l1[i * 2 + 1] ?? 0)) === 0) {
      at = (i + 1) * l2Coverage;
      continue;
    }
    if (tablesLeft-- === 0) break;
    const empty = emptyEntries(state, l1, tables, i);
    at += empty * clusterSize;
    if (empty < l2Entries) break;
  }
  return Math.min(at, end) - range.start;
}

/** How many entries at the start of the table of L1 entry `index` are all zero; none if it cannot be read: whoever maps it is told. */
function emptyEntries(state: Qcow2State, l1: Uint32Array, tables: L2Tables, index: number): number {
  let table: Uint32Array;
  try {
    table = tables.get(l2OffsetAt(state, l1, index));
  } catch (error) {
    if (error instanceof ImageError) return 0;
    throw error;
  }
  let i = 0;
  while (i < table.length && table[i] === 0) i++;
  return Math.floor((i * 4) / state.layout.l2EntrySize);
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

/** The kind of a standard entry, before its offset is looked at. In images with subclusters: of the whole cluster. */
export function kindOf(state: Qcow2State, high: number, low: number): Kind {
  if ((high & entry.compressed) !== 0) return Kind.packed;
  const hasOffset = ((high & entry.offsetHigh) | (low & entry.offsetLow)) !== 0;
  if ((low & entry.zero) !== 0 && !state.layout.extendedL2) return hasOffset ? Kind.zeroReserved : Kind.zero;
  if (hasOffset || (state.external && (high & entry.copied) !== 0)) return Kind.data;
  // Offset 0 of an external data file is a place like any other; there the copied bit says that the cluster is there.
  return Kind.unallocated;
}

interface EntryPlace {
  readonly tableOffset: number;
  readonly index: number;
}

function stored(
  view: View,
  range: GuestRange,
  kind: Kind,
  high: number,
  low: number,
  skip: number,
  length: number,
  place: EntryPlace,
): Mapping {
  const { state } = view;
  const cluster = dataOffset(state, high, low, range.start - skip, place);
  const offset = cluster + skip;
  if (kind === Kind.zeroReserved) {
    return { kind: 'zero', length, explicit: true, reserved: { storage: state.data, offset } };
  }
  const inFile = state.data.writable ? length : Math.min(length, state.data.size - offset);
  if (inFile <= 0) {
    const detail = { offset, size: state.data.size, guest: range.start };
    throw new ImageError('qcow2/cluster-beyond-file', detail, entryWhere(state, place));
  }
  const writable = (high & entry.copied) !== 0 && state.storage.writable;
  if (state.cipher === null) return { kind: 'data', length: inFile, storage: state.data, offset, writable };
  return { kind: 'data', length: inFile, storage: state.data, offset, writable, cipher: state.cipher };
}

/** The host offset of a standard entry. Throws `qcow2/cluster-offset`, `qcow2/reserved-bits`, `qcow2/zero-in-v2`, `qcow2/external-offset`. */
export function dataOffset(state: Qcow2State, high: number, low: number, guest: number, place: EntryPlace): number {
  const offset = entryOffset(high, low);
  const zeroBit = state.layout.extendedL2 ? 0 : entry.zero;
  if (((high & entry.l2ReservedHigh) | (low & (0x1ff & ~zeroBit))) !== 0) {
    throw new ImageError(
      'qcow2/reserved-bits',
      { table: 'L2', index: place.index, value: hex(high, low) },
      entryWhere(state, place),
    );
  }
  if ((low & zeroBit) !== 0 && state.version < 3) {
    throw new ImageError('qcow2/zero-in-v2', { l2: place.tableOffset, index: place.index }, entryWhere(state, place));
  }
  if (offset % state.layout.clusterSize !== 0) {
    const detail = { offset, l2: place.tableOffset, index: place.index };
    throw new ImageError('qcow2/cluster-offset', detail, entryWhere(state, place));
  }
  if (state.external && offset !== guest) {
    const detail = { offset, guest, index: place.index };
    throw new ImageError('qcow2/external-offset', detail, entryWhere(state, place));
  }
  return offset;
}

function packedMapping(
  view: View,
  range: GuestRange,
  high: number,
  low: number,
  skip: number,
  length: number,
  place: EntryPlace,
): Mapping {
  const { state } = view;
  const { layout, storage } = state;
  if (state.external) {
    throw new ImageError(
      'qcow2/packed-external',
      { l2: place.tableOffset, index: place.index },
      entryWhere(state, place),
    );
  }
  const offset = packedOffset(layout, high, low);
  if (offset >= storage.size && !storage.writable) {
    const detail = { offset, size: storage.size, guest: range.start };
    throw new ImageError('qcow2/cluster-beyond-file', detail, entryWhere(state, place));
  }
  const most = Math.min(packedLength(layout, high, low), Number.MAX_SAFE_INTEGER - offset);
  return {
    kind: 'packed',
    length,
    storage,
    offset,
    storedLength: storage.writable ? most : Math.min(most, storage.size - offset),
    unpackedLength: layout.clusterSize,
    skip,
    codec: codecOf(state),
  };
}

function mapSubclusters(
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
  const base =
    kind === Kind.data || kind === Kind.zeroReserved ? dataOffset(state, high, low, range.start - skip, place) : 0;
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
      if (
        (kind === Kind.data || kind === Kind.zeroReserved) &&
        entryOffset(nextHigh, table[index * 4 + 1] ?? 0) !== base + (index - first) * clusterSize
      )
        break;
    }
  }
  const length = Math.min((index - first) * clusterSize + at * subclusterSize - skip, most);
  switch (kind) {
    case Kind.unallocated:
    case Kind.unallocatedReserved: {
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

function entryWhere(state: Qcow2State, place: EntryPlace): Where {
  const offset = place.tableOffset + place.index * state.layout.l2EntrySize;
  return { file: state.storage.name, offset, field: `L2 entry ${place.index}` };
}

function hex(high: number, low: number): string {
  return `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;
}

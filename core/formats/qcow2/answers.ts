// The answers that a lookup in the tables can come to: stored, packed, not stored.
import type { BlockNode, Codec, Mapping } from '../../block/node.ts';
import { restOf, type Damage } from '../../block/unreadable.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { dataOffset, entryWhere, Kind, type EntryPlace } from './entries.ts';
import { l2OffsetAt, type L2Tables } from './l2.ts';
import { packedLength, packedOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** What is known of a state whose tables may not lie within the file; `active`: of its own L1 table, not a snapshot's. */
function damageOf(state: Qcow2State, active: boolean): Damage {
  const { l2Coverage, clusterSize } = state.layout;
  const { l1_table_offset, l1_size } = state.header.fields;
  const { storage } = state;
  const inFile = Math.floor(Math.max(0, storage.size - l1_table_offset) / 8);
  const detail = { table: 'Active L1 table', length: l1_size * 8, offset: l1_table_offset, size: storage.size };
  const where = { file: storage.name, offset: l1_table_offset, field: 'Active L1 table' };
  const isShort = active && inFile < l1_size;
  return {
    known: isShort ? inFile * l2Coverage : Infinity,
    beyond: isShort ? new ImageError('qcow2/table-beyond-file', detail, where) : null,
    reach(start, { code, facts }) {
      if (code === 'qcow2/encrypted') return Infinity;
      const isTable = code === 'qcow2/l2-offset' || code === 'qcow2/table-beyond-file' || facts.table === 'L1';
      return restOf(isTable ? l2Coverage : clusterSize, start);
    },
  };
}

/** What a mapping is looked up in: the active disk or a snapshot. Remembers the last stretch that was found not to be stored. */
export class View {
  readonly state: Qcow2State;
  readonly backing: BlockNode | null;
  readonly #l1: Uint32Array | null;
  /** Null: it was not opened leniently. */
  readonly damage: Damage | null;
  #emptyStart = 0;
  #emptyEnd = 0;
  #emptyAsOf = -1;

  /** `l1`: the table of a snapshot; null: the active one. */
  constructor(state: Qcow2State, backing: BlockNode | null, l1: Uint32Array | null = null) {
    this.state = state;
    this.backing = backing;
    this.#l1 = l1;
    this.damage = state.lenient ? damageOf(state, l1 === null) : null;
  }

  get l1(): Uint32Array {
    return this.#l1 ?? this.state.l1;
  }

  get tables(): L2Tables {
    return this.state.tables;
  }

  /**
   * How many bytes from `guest` on are known not to be stored; 0: unknown. The layer below may have many small runs there, and is not
   * worth a search through the tables for each.
   */
  knownEmpty(guest: number): number {
    if (this.#emptyAsOf !== this.state.changes || guest < this.#emptyStart) return 0;
    return Math.max(0, this.#emptyEnd - guest);
  }

  noteEmpty(start: number, length: number): void {
    this.#emptyStart = start;
    this.#emptyEnd = start + length;
    this.#emptyAsOf = this.state.changes;
  }
}

/** L2 tables that one call looks at, at most, to merge what is not stored. */
const tablesPerCall = 64;

const deflate: Codec = { id: 'deflate-raw', windowBits: 12 };
const zstd: Codec = { id: 'zstd' };

/** How compressed clusters of this image are packed. */
export function codecOf(state: Qcow2State): Codec {
  return state.header.compressionType === 0 ? deflate : zstd;
}

/** Nothing is stored for `length` bytes, as was found out just now: the layer below answers, or nothing does. */
export function notStored(view: View, range: GuestRange, length: number): Mapping {
  view.noteEmpty(range.start, length);
  return answerEmpty(view, range, length);
}

/** The same where it was known. */
export function answerEmpty(view: View, range: GuestRange, length: number): Mapping {
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
export function skipUnallocated(view: View, index: number, range: GuestRange, known: number): number {
  const { state, l1, tables } = view;
  const { l2Coverage, clusterSize, l2Entries } = state.layout;
  const end = range.start + range.length;
  let tablesLeft = tablesPerCall;
  let at = known === 0 ? Math.max(index * l2Coverage, range.start) : range.start + known;
  for (let i = index; at < end; i++) {
    // A flag without a table is no table either.
    if ((((l1[i * 2] ?? 0) & ~entry.copied) | (l1[i * 2 + 1] ?? 0)) === 0) {
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
  const empty = Math.floor((i * 4) / state.layout.l2EntrySize);
  return state.lenient ? Math.min(empty, tables.entriesInFile(l2OffsetAt(state, l1, index))) : empty;
}

/** Stored as it is, or space that is set aside: `length` bytes from `skip` of the cluster of a standard entry. */
export function stored(
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
  const shared = (high & entry.copied) === 0;
  const writable = !shared && state.storage.writable;
  if (state.cipher === null) return { kind: 'data', length: inFile, storage: state.data, offset, writable, shared };
  return { kind: 'data', length: inFile, storage: state.data, offset, writable, shared, cipher: state.cipher };
}

/** `length` bytes from `skip` of a compressed cluster. */
export function packedMapping(
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

// Entries of the tables in words, for the bytes that somebody looks at.
import type { Annotation, Target } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import { hexEntry } from './findings.ts';
import { entryOffset, getRefcount, join, packedLength, packedOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';
import { loadTable } from './tables.ts';

/** Annotations are made for this many bytes of a window at most. */
const windowLimit = 256 * 1024;

const hex = (value: number): string =>
  `0x${Number.isSafeInteger(value) ? value.toString(16) : BigInt(value).toString(16)}`;

/** What of `window` lies in the stretch from `start`, widened to whole units of `unit` bytes counted from `start`. */
export function within(window: HostRange, start: number, length: number, unit: number): HostRange {
  const from = Math.max(0, window.start - start);
  const to = Math.min(length, window.start + Math.min(window.length, windowLimit) - start);
  if (to <= from) return { start, length: 0 };
  const first = from - (from % unit);
  return { start: start + first, length: Math.min(Math.ceil((to - first) / unit) * unit, length - first) };
}

/** One entry of 64 bits in words. */
interface Words {
  readonly value: string;
  readonly meaning: string;
  readonly fault: string | null;
  readonly target?: Target;
}

function* rows(
  state: Qcow2State,
  window: HostRange,
  words: (high: number, low: number, at: number) => Words,
): Generator<[at: number, words: Words], void, void> {
  const count = Math.floor(window.length / 8);
  const halves = loadTable(state.storage, window.start, count, 'table', 'zero');
  for (let index = 0; index < count; index++) {
    const at = window.start + index * 8;
    yield [at, words(halves[2 * index] ?? 0, halves[2 * index + 1] ?? 0, at)];
  }
}

const guestSpan = (start: number, length: number): string => `guest ${hex(start)} to ${hex(start + length - 1)}`;

function pointerFault(state: Qcow2State, offset: number, reserved: boolean): string | null {
  if (reserved) return 'reserved bits are set';
  if (offset % state.layout.clusterSize !== 0) return 'the offset is not that of a cluster';
  return offset >= state.storage.size ? 'the offset lies beyond the end of the file' : null;
}

/** `name` with the index in brackets. */
const indexed =
  (name: string) =>
  (index: number): string =>
    `${name}[${index}]`;

/** Entries of an L1 table that starts at `start`; paths begin with `name`. `window` covers whole entries. */
export function l1Words(state: Qcow2State, start: number, window: HostRange, name = 'L1'): Annotation[] {
  const { layout } = state;
  const words = (high: number, low: number, at: number): Words => {
    const meaning = guestSpan(((at - start) / 8) * layout.l2Coverage, layout.l2Coverage);
    if (high === 0 && low === 0) return { value: 'no L2 table', meaning, fault: null };
    const offset = entryOffset(high, low);
    const reserved = (high & entry.l1ReservedHigh) !== 0 || (low & entry.l1ReservedLow) !== 0;
    const copied = high >= entry.copied ? ', copied' : '';
    const fault = pointerFault(state, offset, reserved);
    return { value: `L2 table at ${hex(offset)}${copied}`, meaning, fault, target: { offset } };
  };
  const table = { structure: 'L1 table', start, unit: 8, path: indexed(name), section: 'qcow2: L1 table' };
  return annotations(table, rows(state, window, words));
}

interface Entries {
  readonly structure: string;
  readonly start: number;
  /** Bytes of an entry. */
  readonly unit: number;
  readonly path: (index: number) => string;
  readonly section: string;
}

function annotations(table: Entries, found: Iterable<[at: number, words: Words]>): Annotation[] {
  const { structure, start, unit, path, section } = table;
  return Array.from(found, ([at, words]) => {
    const index = Math.floor((at - start) / unit);
    const isFirst = (at - start) % unit === 0;
    return {
      start: at,
      length: 8,
      structure,
      field: `entry ${index}${isFirst ? '' : ' subclusters'}`,
      path: `${path(index)}${isFirst ? '' : '.subclusters'}`,
      section,
      ...words,
    };
  });
}

/** Entries of the L2 table at `start`, with the guest range of each if the active L1 table leads there. */
export function l2Words(state: Qcow2State, start: number, window: HostRange): Annotation[] {
  const { layout } = state;
  const { clusterSize, l2EntrySize, extendedL2 } = layout;
  const base = guestOf(state, start);
  const words = (high: number, low: number, at: number): Words => {
    const within = at - start;
    if (extendedL2 && within % l2EntrySize !== 0) return subclusterWords(high, low);
    const guest = (within / l2EntrySize) * clusterSize;
    const meaning = base === null ? 'of a snapshot' : guestSpan(base + guest, clusterSize);
    return { ...clusterWords(state, high, low), meaning };
  };
  const name = base === null ? `L2@${hex(start)}` : `L2[${base / layout.l2Coverage}]`;
  const section = extendedL2 ? 'qcow2: Extended L2 Entries' : 'qcow2: L2 table entry';
  const table = { structure: 'L2 table', start, unit: l2EntrySize, path: indexed(name), section };
  return annotations(table, rows(state, window, words));
}

/** The first guest byte that the L2 table at `offset` maps; null: no entry of the active L1 table leads there. */
function guestOf(state: Qcow2State, offset: number): number | null {
  const { l1, layout } = state;
  for (let index = 0; 2 * index < l1.length; index++) {
    if (entryOffset(l1[2 * index] ?? 0, l1[2 * index + 1] ?? 0) === offset) return index * layout.l2Coverage;
  }
  return null;
}

function clusterWords(state: Qcow2State, high: number, low: number): Omit<Words, 'meaning'> {
  const { layout, external } = state;
  if (high === 0 && low === 0) return { value: 'unallocated', fault: null };
  if ((high & entry.compressed) !== 0) return packedWords(state, high, low);
  const offset = entryOffset(high, low);
  const reserved = (high & entry.l2ReservedHigh) !== 0 || (low & entry.l2ReservedLow) !== 0;
  const zero = !layout.extendedL2 && (low & entry.zero) !== 0;
  const copied = high >= entry.copied ? ', copied' : '';
  const where = external ? ' of the data file' : '';
  const fault = external && !reserved ? null : pointerFault(state, offset, reserved);
  if (offset === 0 && zero) return { value: 'reads as zeroes', fault };
  if (offset === 0 && !(external && high >= entry.copied)) return { value: 'unallocated', fault };
  const target = external ? { view: 'data-file', offset } : { offset };
  if (zero) return { value: `reads as zeroes, space at ${hex(offset)}${where}${copied}`, fault, target };
  return { value: `data at ${hex(offset)}${where}${copied}`, fault, target };
}

function packedWords(state: Qcow2State, high: number, low: number): Omit<Words, 'meaning'> {
  const { layout } = state;
  const offset = packedOffset(layout, high, low);
  const length = packedLength(layout, high, low);
  const fault = high >= entry.copied ? 'compressed clusters never have the copied bit' : null;
  const codec = state.header.compressionType === 0 ? ('deflate-raw' as const) : ('zstd' as const);
  const target = { offset, packed: { codec, length } };
  return { value: `compressed, at most ${length} bytes at ${hex(offset)}`, fault, target };
}

/** The bitmap of an extended L2 entry: `high` tells zeroes, `low` allocation, a bit per subcluster. */
function subclusterWords(high: number, low: number): Words {
  const shown = (bits: number): string => (bits === 0 ? 'none' : bits === 0xffff_ffff ? 'all' : hexEntry(0, bits));
  const fault = (high & low) !== 0 ? 'subclusters are allocated and read as zeroes' : null;
  return {
    value: `allocated: ${shown(low)}, zero: ${shown(high)}`,
    meaning: 'a bit per subcluster, the first one lowest',
    fault,
  };
}

/** Entries of the refcount table that starts at `start`. */
export function refcountTableWords(state: Qcow2State, start: number, window: HostRange): Annotation[] {
  const { layout } = state;
  const covered = layout.refcountBlockEntries * layout.clusterSize;
  const words = (high: number, low: number, at: number): Words => {
    const first = ((at - start) / 8) * covered;
    const meaning = `counts the file from ${hex(first)} to ${hex(first + covered - 1)}`;
    if (high === 0 && low === 0) return { value: 'no refcount block', meaning, fault: null };
    const offset = join(high, low & ~entry.refcountReservedLow);
    const fault = pointerFault(state, offset, (low & entry.refcountReservedLow) !== 0);
    return { value: `refcount block at ${hex(offset)}`, meaning, fault, target: { offset } };
  };
  const section = 'qcow2: Host cluster management';
  const table = { structure: 'refcount table', start, unit: 8, path: indexed('refcount_table'), section };
  return annotations(table, rows(state, window, words));
}

/** Refcounts of the block that is number `block` of the refcount table and stands at `start`. */
export function refcountBlockWords(state: Qcow2State, start: number, block: number, window: HostRange): Annotation[] {
  const { refcountBits, refcountOrder, refcountBlockEntries, clusterSize } = state.layout;
  const unit = Math.max(1, refcountBits / 8);
  const each = Math.max(1, 8 / refcountBits);
  const bytes = new Uint8Array(window.length);
  readPadded(state.storage, bytes, window.start);
  const found: Annotation[] = [];
  for (let at = 0; at + unit <= bytes.length; at += unit) {
    const first = block * refcountBlockEntries + ((window.start + at - start) * 8) / refcountBits;
    const piece = bytes.subarray(at, at + unit);
    const counts = Array.from({ length: each }, (_, index) => getRefcount(piece, refcountOrder, index));
    found.push({
      start: window.start + at,
      length: unit,
      structure: 'refcount block',
      field: each === 1 ? `cluster ${first}` : `clusters ${first} to ${first + each - 1}`,
      value: counts.join(' '),
      meaning: `references to the file from ${hex(first * clusterSize)}`,
      fault: null,
      path: `refcount[${first}]`,
      section: 'qcow2: Host cluster management',
      target: { offset: first * clusterSize },
    });
  }
  return found;
}

/** Entries of a bitmap table. */
export function bitmapTableWords(state: Qcow2State, start: number, window: HostRange): Annotation[] {
  const words = (high: number, low: number): Words => {
    const offset = entryOffset(high, low);
    const reserved = (high & 0xff00_0000) !== 0 || (low & 0x1fe) !== 0 || (offset !== 0 && (low & 1) !== 0);
    const fault = pointerFault(state, offset, reserved);
    const value = offset !== 0 ? `bits at ${hex(offset)}` : (low & 1) !== 0 ? 'all ones' : 'all zeroes';
    const meaning = 'a cluster of the bitmap';
    return offset === 0 ? { value, meaning, fault } : { value, meaning, fault, target: { offset } };
  };
  const section = 'qcow2: Bitmap table';
  const table = { structure: 'bitmap table', start, unit: 8, path: indexed('bitmap_table'), section };
  return annotations(table, rows(state, window, words));
}

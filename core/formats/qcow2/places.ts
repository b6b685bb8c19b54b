// Places for guest bytes in images without subclusters, and what publishing one does to the tables.
import type { Place } from '../../block/node.ts';
import { alignDown, alignUp, type GuestRange } from '../../block/units.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import type { View } from './answers.ts';
import { dataOffset, Kind, kindOf } from './entries.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** One place covers at most this many bytes. */
const placeLimit = 64 * 1024 * 1024;

/** How the next cluster is to be written. */
const Way = {
  /** Over its present bytes. */
  over: 0,
  /** Into space that is set aside for it. */
  reserved: 1,
  /** Into new space. */
  fresh: 2,
} as const;
type Way = (typeof Way)[keyof typeof Way];

function wayOf(state: Qcow2State, high: number, low: number): Way {
  const kind = kindOf(state, high, low);
  if ((high & entry.copied) === 0) return Way.fresh;
  if (kind === Kind.data) return Way.over;
  return kind === Kind.zeroReserved ? Way.reserved : Way.fresh;
}

/** Room for a prefix of `range`. `size` is the disk's. Throws the codes of damaged tables and of allocation. */
export function placeClusters(view: View, metadata: Qcow2Metadata, range: GuestRange, size: number): Place {
  const { state, l1, tables } = view;
  const { clusterSize, l2Coverage, l2Entries } = state.layout;
  const start = alignDown(range.start, clusterSize);
  const end = Math.min(alignUp(range.start + range.length, clusterSize), start + placeLimit);
  const index = Math.floor(start / l2Coverage);
  const tableOffset = l2OffsetAt(state, l1, index);
  if (tableOffset === 0) return freshPlace(view, metadata, start, end, size);
  const table = tables.get(tableOffset);
  const first = Math.floor((start - index * l2Coverage) / clusterSize);
  const high = table[first * 2] ?? 0;
  const low = table[first * 2 + 1] ?? 0;
  const way = wayOf(state, high, low);
  if (way === Way.fresh) return freshPlace(view, metadata, start, end, size);
  const offset = dataOffset(state, high, low, start, { tableOffset, index: first });
  const flags = low & entry.zero;
  const last = Math.min(l2Entries, first + (end - start) / clusterSize);
  let i = first + 1;
  for (; i < last; i++) {
    const nextHigh = table[i * 2] ?? 0;
    const nextLow = table[i * 2 + 1] ?? 0;
    if ((nextHigh & entry.copied) === 0 || (nextHigh & entry.compressed) !== 0 || (nextLow & 0x1ff) !== flags) break;
    if (entryOffset(nextHigh, nextLow) !== offset + (i - first) * clusterSize) break;
  }
  const length = (i - first) * clusterSize;
  metadata.checkData(offset, length);
  if (way === Way.over) {
    const skip = range.start - start;
    return {
      covers: { start: range.start, length: Math.min(range.length, length - skip) },
      storage: state.data,
      offset: offset + skip,
      fresh: false,
      cipher: state.cipher ?? undefined,
      publish: () => {},
    };
  }
  return newPlace(state, start, length, offset, size, () => publishRun(state, metadata, start, length, offset));
}

/** New space from `start` on, as far towards `end` as nothing else is there and one run of clusters holds. */
function freshPlace(view: View, metadata: Qcow2Metadata, start: number, end: number, size: number): Place {
  const { state } = view;
  const { clusterSize } = state.layout;
  const wanted = freshLength(view, start, end);
  if (state.dataFile !== null) {
    return newPlace(state, start, wanted, start, size, () => publishRun(state, metadata, start, wanted, start));
  }
  // The table comes to stand before the data that it points to, and not between them and what follows.
  metadata.relieve();
  metadata.tableForChange(Math.floor(start / state.layout.l2Coverage));
  const run = metadata.allocate(wanted / clusterSize);
  const length = run.count * clusterSize;
  const offset = run.first * clusterSize;
  return newPlace(state, start, length, offset, size, () => publishRun(state, metadata, start, length, offset));
}

/** A place that covers whole clusters; in an external data file none beyond the disk. */
function newPlace(
  state: Qcow2State,
  start: number,
  length: number,
  offset: number,
  size: number,
  publish: () => void,
): Place {
  const covered = state.dataFile === null ? length : Math.min(length, size - start);
  return {
    covers: { start, length: covered },
    storage: state.data,
    offset,
    fresh: true,
    cipher: state.cipher ?? undefined,
    publish,
  };
}

/** Bytes from `start`, at most to `end`, whose clusters all want new space. */
function freshLength(view: View, start: number, end: number): number {
  const { state, l1, tables } = view;
  const { clusterSize, l2Coverage, l2Entries } = state.layout;
  let at = start + clusterSize;
  while (at < end) {
    const index = Math.floor(at / l2Coverage);
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0) {
      at = Math.min(end, (index + 1) * l2Coverage);
      continue;
    }
    const table = tables.get(offset);
    let i = Math.floor((at - index * l2Coverage) / clusterSize);
    for (; i < l2Entries && at < end; i++) {
      if (wayOf(state, table[i * 2] ?? 0, table[i * 2 + 1] ?? 0) !== Way.fresh) return at - start;
      at += clusterSize;
    }
  }
  return end - start;
}

/** Points the clusters from `start` to `length` bytes from host offset `offset`, and gives up what they pointed to. */
function publishRun(state: Qcow2State, metadata: Qcow2Metadata, start: number, length: number, offset: number): void {
  const { clusterSize, l2Coverage, l2Entries } = state.layout;
  let at = start;
  let host = offset;
  const end = start + length;
  while (at < end) {
    const index = Math.floor(at / l2Coverage);
    const table = metadata.tableForChange(index);
    for (let i = Math.floor((at - index * l2Coverage) / clusterSize); i < l2Entries && at < end; i++) {
      const oldHigh = table[i * 2] ?? 0;
      const oldLow = table[i * 2 + 1] ?? 0;
      table[i * 2] = (Math.floor(host / 0x1_0000_0000) | entry.copied) >>> 0;
      table[i * 2 + 1] = host % 0x1_0000_0000;
      giveUp(state, metadata, oldHigh, oldLow, host);
      at += clusterSize;
      host += clusterSize;
    }
  }
}

/**
 * Points clusters that have no place yet to host offset `offset` and what follows. In images with subclusters none of those is stored
 * yet: the layer below still shows through.
 */
export function linkClusters(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  start: number,
  length: number,
  offset: number,
): void {
  const { clusterSize, l2Coverage, l2Entries, l2EntrySize } = state.layout;
  const halves = l2EntrySize / 4;
  let host = offset;
  for (let at = start; at < start + length;) {
    const index = Math.floor(at / l2Coverage);
    const table = metadata.tableForChange(index);
    for (let i = Math.floor((at - index * l2Coverage) / clusterSize); i < l2Entries && at < start + length; i++) {
      table[i * halves] = (Math.floor(host / 0x1_0000_0000) | entry.copied) >>> 0;
      table[i * halves + 1] = host % 0x1_0000_0000;
      at += clusterSize;
      host += clusterSize;
    }
  }
}

/** What an L2 entry pointed to is not used by it any more, unless it is what the entry points to now. */
function giveUp(state: Qcow2State, metadata: Qcow2Metadata, high: number, low: number, now: number): void {
  if ((high | low) === 0) return;
  const kind = kindOf(state, high, low);
  if (kind === Kind.packed || entryOffset(high, low) !== now) metadata.freeEntry(high, low);
}

/** Points the cluster at `start` to compressed data: the entry is `high`, `low`. */
export function publishPacked(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  start: number,
  high: number,
  low: number,
): void {
  const { clusterSize, l2Coverage, l2EntrySize } = state.layout;
  const index = Math.floor(start / l2Coverage);
  const table = metadata.tableForChange(index);
  const halves = l2EntrySize / 4;
  const i = Math.floor((start - index * l2Coverage) / clusterSize) * halves;
  const oldHigh = table[i] ?? 0;
  const oldLow = table[i + 1] ?? 0;
  table[i] = high;
  table[i + 1] = low;
  if (halves === 4) {
    table[i + 2] = 0;
    table[i + 3] = 0;
  }
  if ((oldHigh | oldLow) !== 0) metadata.freeEntry(oldHigh, oldLow);
}

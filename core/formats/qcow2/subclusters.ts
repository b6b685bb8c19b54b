// Places for guest bytes in images with extended L2 entries: space is set aside by clusters and filled by subclusters.
import type { Place } from '../../block/node.ts';
import { alignDown, alignUp, type GuestRange } from '../../block/units.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import type { View } from './answers.ts';
import { dataOffset, Kind, kindOf } from './entries.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

const placeLimit = 64 * 1024 * 1024;

/** How a cluster is to be written. */
const Way = {
  /** It has space of its own. */
  own: 0,
  /** It has none. */
  none: 1,
  /** What it has is shared or compressed: all of it moves. */
  move: 2,
} as const;
type Way = (typeof Way)[keyof typeof Way];

function wayOf(state: Qcow2State, high: number, low: number): Way {
  const kind = kindOf(state, high, low);
  if (kind === Kind.unallocated) return Way.none;
  return kind === Kind.data && (high & entry.copied) !== 0 ? Way.own : Way.move;
}

/** Room for a prefix of `range`. `size` is the disk's. Throws the codes of damaged tables and of allocation. */
export function placeSubclusters(view: View, metadata: Qcow2Metadata, range: GuestRange, size: number): Place {
  const { state, l1, tables } = view;
  const { clusterSize, l2Coverage } = state.layout;
  const index = Math.floor(range.start / l2Coverage);
  const tableOffset = l2OffsetAt(state, l1, index);
  if (tableOffset === 0) return freshPlace(view, metadata, range, size, Way.none);
  const table = tables.get(tableOffset);
  const i = Math.floor((range.start - index * l2Coverage) / clusterSize);
  const high = table[i * 4] ?? 0;
  const low = table[i * 4 + 1] ?? 0;
  const way = wayOf(state, high, low);
  if (way !== Way.own) return freshPlace(view, metadata, range, size, way);
  const cluster = alignDown(range.start, clusterSize);
  const offset = dataOffset(state, high, low, cluster, { tableOffset, index: i });
  metadata.checkData(offset, clusterSize);
  return ownPlace(state, metadata, range, size, { cluster, offset, allocated: table[i * 4 + 3] ?? 0 });
}

/** Subclusters of a cluster that has space of its own: over those that are there, into the room of those that are not. */
function ownPlace(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  range: GuestRange,
  size: number,
  at: { cluster: number; offset: number; allocated: number },
): Place {
  const { subclusterSize } = state.layout;
  const { cluster, offset, allocated } = at;
  const first = Math.floor((range.start - cluster) / subclusterSize);
  const wanted = Math.min(32, Math.ceil((range.start + range.length - cluster) / subclusterSize));
  const there = (sub: number): boolean => ((allocated >>> sub) & 1) !== 0;
  let last = first + 1;
  while (last < wanted && there(last) === there(first)) last++;
  const runStart = cluster + first * subclusterSize;
  const runEnd = cluster + last * subclusterSize;
  const shared = { storage: state.data, cipher: state.cipher ?? undefined };
  if (there(first)) {
    const length = Math.min(range.start + range.length, runEnd) - range.start;
    const covers = { start: range.start, length };
    return { ...shared, covers, offset: offset + (range.start - cluster), fresh: false, publish: () => {} };
  }
  const length = clip(state, runStart, runEnd - runStart, size);
  promiseRun(state, metadata, runStart, runEnd, offset, cluster);
  return {
    ...shared,
    covers: { start: runStart, length },
    offset: offset + (runStart - cluster),
    fresh: true,
    publish: () => publishRun(state, metadata, runStart, runEnd, offset, cluster),
  };
}

/** An external data file holds nothing beyond the disk. */
function clip(state: Qcow2State, start: number, length: number, size: number): number {
  return state.dataFile === null ? length : Math.min(length, size - start);
}

/** New space for clusters that have none (as far as subclusters are asked for), or for all of clusters that must move. */
function freshPlace(view: View, metadata: Qcow2Metadata, range: GuestRange, size: number, way: Way): Place {
  const { state } = view;
  const { clusterSize, subclusterSize } = state.layout;
  const cluster = alignDown(range.start, clusterSize);
  const most = Math.min(alignUp(range.start + range.length, clusterSize), cluster + placeLimit);
  let offset = cluster;
  let room = clusterSize;
  const promised = metadata.promises.offset(cluster);
  if (promised !== null) {
    offset = promised;
  } else {
    room = sameWay(view, metadata, cluster, most, way);
    if (state.dataFile === null) {
      metadata.relieve();
      metadata.tableForChange(Math.floor(cluster / state.layout.l2Coverage));
      const run = metadata.allocate(room / clusterSize);
      offset = run.first * clusterSize;
      room = run.count * clusterSize;
    }
  }
  const unit = way === Way.none ? subclusterSize : clusterSize;
  const start = alignDown(range.start, unit);
  const end = Math.min(alignUp(range.start + range.length, unit), cluster + room);
  if (way === Way.none) promiseRun(state, metadata, start, end, offset, cluster);
  return {
    covers: { start, length: clip(state, start, end - start, size) },
    storage: state.data,
    offset: offset + (start - cluster),
    fresh: true,
    cipher: state.cipher ?? undefined,
    publish: () => publishRun(state, metadata, start, end, offset, cluster),
  };
}

/** Other places for the rest of the same clusters may be asked for before this one is published: they must stay where they are. */
function promiseRun(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  start: number,
  end: number,
  offset: number,
  cluster: number,
): void {
  const { clusterSize } = state.layout;
  if (state.dataFile !== null) return;
  for (let at = alignDown(start, clusterSize); at < end; at += clusterSize)
    metadata.promises.make(at, offset + (at - cluster));
}

/** Bytes from `start`, at most to `end`, whose clusters are all to be written in the same way. */
function sameWay(view: View, metadata: Qcow2Metadata, start: number, end: number, way: Way): number {
  const { state, l1, tables } = view;
  const { clusterSize, l2Coverage, l2Entries } = state.layout;
  let at = start + clusterSize;
  while (at < end) {
    const index = Math.floor(at / l2Coverage);
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0) {
      if (way !== Way.none || metadata.promises.offset(at) !== null) return at - start;
      at += clusterSize;
      continue;
    }
    const table = tables.get(offset);
    for (let i = Math.floor((at - index * l2Coverage) / clusterSize); i < l2Entries && at < end; i++) {
      if (wayOf(state, table[i * 4] ?? 0, table[i * 4 + 1] ?? 0) !== way || metadata.promises.offset(at) !== null)
        return at - start;
      at += clusterSize;
    }
  }
  return end - start;
}

/**
 * The subclusters from `start` to `end` are stored from now on; host offset `offset` belongs to the cluster at `cluster`. A cluster
 * that pointed elsewhere gives that up; what it had is all within `start … end` then.
 */
function publishRun(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  start: number,
  end: number,
  offset: number,
  cluster: number,
): void {
  const { clusterSize, subclusterSize, l2Coverage } = state.layout;
  for (let at = start; at < end;) {
    const base = alignDown(at, clusterSize);
    const to = Math.min(end, base + clusterSize);
    const index = Math.floor(base / l2Coverage);
    const table = metadata.tableForChange(index);
    const i = Math.floor((base - index * l2Coverage) / clusterSize) * 4;
    const host = offset + (base - cluster);
    const bits = subclusterMask((at - base) / subclusterSize, Math.ceil((to - base) / subclusterSize));
    const oldHigh = table[i] ?? 0;
    const oldLow = table[i + 1] ?? 0;
    const packed = (oldHigh & entry.compressed) !== 0;
    const moved = packed || entryOffset(oldHigh, oldLow) !== host;
    const had = packed || (moved && kindOf(state, oldHigh, oldLow) === Kind.data);
    table[i] = (Math.floor(host / 0x1_0000_0000) | entry.copied) >>> 0;
    table[i + 1] = host % 0x1_0000_0000;
    table[i + 2] = had ? 0 : ((table[i + 2] ?? 0) & ~bits) >>> 0;
    table[i + 3] = had ? bits : ((table[i + 3] ?? 0) | bits) >>> 0;
    if (had) metadata.freeEntry(oldHigh, oldLow);
    metadata.promises.keep(base);
    at = to;
  }
}

/** Bits `from` to `to` (of 32), without `to`. */
export function subclusterMask(from: number, to: number): number {
  const upTo = to >= 32 ? 0xffff_ffff : 2 ** to - 1;
  return (upTo & ~(2 ** from - 1)) >>> 0;
}

// Clusters that read as zeroes without being stored, and clusters given back to the layer below.
import type { GuestRange } from '../../block/units.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import type { View } from './answers.ts';
import { dataOffset, Kind, kindOf } from './entries.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { entry } from './spec.ts';
import { subclusterMask } from './subclusters.ts';

/** L2 tables that one call makes or changes, at most. */
const tablesPerCall = 64;

/** The whole units of `range`, if it starts on one; the end of the disk ends one too. */
function wholeUnits(range: GuestRange, unit: number, size: number): { start: number; end: number } | null {
  const { start } = range;
  if (start % unit !== 0) return null;
  const stop = start + range.length;
  const end = stop === size ? stop : stop - (stop % unit);
  return end <= start ? null : { start, end };
}

function done(start: number, end: number): GuestRange | null {
  return end <= start ? null : { start, length: end - start };
}

/**
 * Makes a prefix of `range` read as zeroes (specification: bit 0 of a standard entry, the upper half of the subcluster bitmap).
 * Version 2 has no such mark: there only disks with nothing below can give the clusters back. Null: write zeroes.
 * `always`: mark it also where nothing lies below that would show.
 */
export function zeroRange(
  view: View,
  metadata: Qcow2Metadata,
  range: GuestRange,
  how: { readonly keepSpace: boolean; readonly size: number; readonly always?: boolean },
): GuestRange | null {
  const { state, l1 } = view;
  const { layout } = state;
  const bounds = wholeUnits(range, layout.subclusterSize, how.size);
  if (bounds === null) return null;
  const hasBelow = state.backingReference !== null;
  const always = how.always === true;
  if (state.version < 3)
    return hasBelow || how.keepSpace || always ? null : releaseRange(view, metadata, range, how.size);
  metadata.beforeGuestChange();
  const { l2Coverage } = layout;
  let at = bounds.start;
  let tables = 0;
  while (at < bounds.end) {
    const index = Math.floor(at / l2Coverage);
    const to = Math.min(bounds.end, (index + 1) * l2Coverage);
    const below = always || (hasBelow && (view.backing === null || at < view.backing.size));
    if (l2OffsetAt(state, l1, index) === 0 && !below) {
      at = to;
      continue;
    }
    if (tables++ === tablesPerCall) break;
    let reached = to;
    if (layout.extendedL2) reached = zeroSubclusters(view, metadata, index, at, to, how.keepSpace);
    else zeroClusters(view, metadata, index, at, to, how.keepSpace, below);
    at = reached;
    if (reached < to) break;
  }
  if (state.externalRaw) zeroData(view, bounds.start, at);
  return done(bounds.start, at);
}

/** A raw data file says by itself what the guest sees. */
function zeroData(view: View, start: number, end: number): void {
  const { data } = view.state;
  const inFile = Math.min(end, data.size);
  if (inFile > start) data.zeroAt(start, inFile - start);
}

function zeroClusters(
  view: View,
  metadata: Qcow2Metadata,
  index: number,
  start: number,
  end: number,
  keepSpace: boolean,
  hasBelow: boolean,
): void {
  const { state } = view;
  const { clusterSize, l2Coverage } = state.layout;
  const first = Math.floor((start - index * l2Coverage) / clusterSize);
  const last = Math.ceil((end - index * l2Coverage) / clusterSize);
  const present = currentTable(view, index);
  if (present !== null && !hasBelow && isEmpty(present, first * 2, last * 2)) return;
  const table = metadata.tableForChange(index);
  for (let i = first; i < last; i++) {
    const high = table[i * 2] ?? 0;
    const low = table[i * 2 + 1] ?? 0;
    const kind = kindOf(state, high, low);
    if (kind === Kind.zero || (kind === Kind.unallocated && !hasBelow)) continue;
    if (kind === Kind.zeroReserved && keepSpace) continue;
    // An external data file keeps the place of each cluster: there is nothing to gain by forgetting it.
    if ((kind === Kind.data || kind === Kind.zeroReserved) && (keepSpace || state.dataFile !== null)) {
      dataOffset(state, high, low, index * l2Coverage + i * clusterSize, { tableOffset: 0, index: i });
      table[i * 2 + 1] = (low | entry.zero) >>> 0;
      continue;
    }
    table[i * 2] = 0;
    table[i * 2 + 1] = entry.zero;
    if (kind !== Kind.unallocated) metadata.freeEntry(high, low);
  }
}

function currentTable(view: View, index: number): Uint32Array | null {
  const offset = l2OffsetAt(view.state, view.l1, index);
  return offset === 0 ? null : view.tables.get(offset);
}

function isEmpty(table: Uint32Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (table[i] !== 0) return false;
  return true;
}

function zeroSubclusters(
  view: View,
  metadata: Qcow2Metadata,
  index: number,
  start: number,
  end: number,
  keepSpace: boolean,
): number {
  return eachSubclusterRun(view, metadata, index, start, end, (table, i, bits, cluster) => {
    const high = table[i] ?? 0;
    const low = table[i + 1] ?? 0;
    if ((high & entry.compressed) !== 0) {
      if (bits !== 0xffff_ffff) return false;
      set(table, i, 0, 0, bits, 0);
      metadata.freeEntry(high, low);
      return true;
    }
    const zeroes = ((table[i + 2] ?? 0) | bits) >>> 0;
    const allocated = ((table[i + 3] ?? 0) & ~bits) >>> 0;
    const stays = keepSpace || view.state.dataFile !== null || metadata.promises.offset(cluster) !== null;
    if (zeroes === 0xffff_ffff && !stays) {
      set(table, i, 0, 0, zeroes, 0);
      metadata.freeEntry(high, low);
    } else {
      set(table, i, high, low, zeroes, allocated);
    }
    return true;
  });
}

function set(table: Uint32Array, at: number, high: number, low: number, zeroes: number, allocated: number): void {
  table[at] = high;
  table[at + 1] = low;
  table[at + 2] = zeroes;
  table[at + 3] = allocated;
}

/** Calls `change` with each entry (first half at `i`) between `start` and `end` and the bits of its subclusters; stops when it says false. */
function eachSubclusterRun(
  view: View,
  metadata: Qcow2Metadata,
  index: number,
  start: number,
  end: number,
  change: (table: Uint32Array, i: number, bits: number, cluster: number) => boolean,
): number {
  const { clusterSize, subclusterSize, l2Coverage } = view.state.layout;
  const table = metadata.tableForChange(index);
  let at = start;
  while (at < end) {
    const cluster = at - (at % clusterSize);
    const to = Math.min(end, cluster + clusterSize);
    const bits = subclusterMask((at - cluster) / subclusterSize, Math.ceil((to - cluster) / subclusterSize));
    const i = ((cluster - index * l2Coverage) / clusterSize) * 4;
    if (!change(table, i, bits, cluster)) return at;
    at = to;
  }
  return end;
}

/**
 * Gives a prefix of `range` back to the layer below, or to nothing. Null: the range starts within a unit, or within a compressed
 * cluster.
 */
export function releaseRange(view: View, metadata: Qcow2Metadata, range: GuestRange, size: number): GuestRange | null {
  const { state, l1 } = view;
  const { layout } = state;
  const bounds = wholeUnits(range, layout.subclusterSize, size);
  if (bounds === null) return null;
  metadata.beforeGuestChange();
  const { l2Coverage } = layout;
  let at = bounds.start;
  let tables = 0;
  while (at < bounds.end) {
    const index = Math.floor(at / l2Coverage);
    const to = Math.min(bounds.end, (index + 1) * l2Coverage);
    if (l2OffsetAt(state, l1, index) !== 0) {
      if (tables++ === tablesPerCall) break;
      if (!layout.extendedL2) releaseClusters(view, metadata, index, at, to);
      else {
        const reached = releaseSubclusters(view, metadata, index, at, to);
        if (reached < to) {
          at = reached;
          break;
        }
      }
    }
    at = to;
  }
  if (state.externalRaw) zeroData(view, bounds.start, at);
  return done(bounds.start, at);
}

function releaseClusters(view: View, metadata: Qcow2Metadata, index: number, start: number, end: number): void {
  const { state } = view;
  const { clusterSize, l2Coverage } = state.layout;
  const first = Math.floor((start - index * l2Coverage) / clusterSize);
  const last = Math.ceil((end - index * l2Coverage) / clusterSize);
  const present = currentTable(view, index);
  if (present === null || isEmpty(present, first * 2, last * 2)) return;
  const table = metadata.tableForChange(index);
  for (let i = first; i < last; i++) {
    const high = table[i * 2] ?? 0;
    const low = table[i * 2 + 1] ?? 0;
    if ((high | low) === 0) continue;
    table[i * 2] = 0;
    table[i * 2 + 1] = 0;
    if ((high & entry.compressed) !== 0 || entryOffset(high, low) !== 0) metadata.freeEntry(high, low);
  }
}

function releaseSubclusters(view: View, metadata: Qcow2Metadata, index: number, start: number, end: number): number {
  return eachSubclusterRun(view, metadata, index, start, end, (table, i, bits, cluster) => {
    const high = table[i] ?? 0;
    const low = table[i + 1] ?? 0;
    if ((high & entry.compressed) !== 0) {
      if (bits !== 0xffff_ffff) return false;
      set(table, i, 0, 0, 0, 0);
      metadata.freeEntry(high, low);
      return true;
    }
    const zeroes = ((table[i + 2] ?? 0) & ~bits) >>> 0;
    const allocated = ((table[i + 3] ?? 0) & ~bits) >>> 0;
    if (allocated === 0 && zeroes === 0 && metadata.promises.offset(cluster) === null) {
      set(table, i, 0, 0, 0, 0);
      metadata.freeEntry(high, low);
    } else {
      set(table, i, high, low, zeroes, allocated);
    }
    return true;
  });
}

// Giving space back in a qcow2 image: clusters that hold zeroes, leaked ones, and the last ones moved into free places.
import type { BlockNode, WritableNode } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import type { Job } from '../../job.ts';
import { compactedByHoles, type CompactDriver, type CompactPlan, type CompactStep } from '../compact-driver.ts';
import { Kind, kindOf } from './entries.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset, packedEntryHigh, packedLength, packedOffset } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { Qcow2Node } from './node.ts';
import { computeReferences } from './reference-count.ts';
import { snapshotTable } from './snapshots.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { Qcow2WritableNode } from './write-node.ts';

/** Clusters that move between two looks at the job. */
const batch = 64;

function ours(node: BlockNode): Qcow2Node {
  if (!(node instanceof Qcow2Node)) throw new Error(`${node.name} was not opened as qcow2`);
  return node;
}

function writable(node: BlockNode): Qcow2WritableNode {
  if (!(node instanceof Qcow2WritableNode)) throw new Error(`${node.name} was not opened as qcow2 for writing`);
  return node;
}

function planOf({ state }: Qcow2Node): CompactPlan {
  const rewrite = rewriteOf(state);
  if (state.external) return compactedByHoles(rewrite);
  return {
    way: 'moves',
    reason: null,
    unit: state.layout.clusterSize,
    hole: 0,
    keepsContent: state.bitmapsValid ? 'the image has bitmaps, which would not know of it' : null,
    rewrite,
  };
}

/** A new image has the disk only: what else an image may hold would be lost. */
function rewriteOf(state: Qcow2State): CompactPlan['rewrite'] {
  const { layout, header } = state;
  if (header.fields.nb_snapshots > 0) return { refused: 'it would lose its snapshots' };
  if (state.bitmapsValid) return { refused: 'it would lose its bitmaps' };
  if (state.encrypted) return { refused: 'it is encrypted' };
  if (state.external) return { refused: 'its data are in another file' };
  return {
    options: {
      cluster_size: layout.clusterSize,
      compat: state.version < 3 ? '0.10' : '1.1',
      ...(state.version < 3 ? {} : { refcount_bits: layout.refcountBits, lazy_refcounts: state.lazyRefcounts }),
      ...(layout.extendedL2 ? { extended_l2: true } : {}),
      ...(state.header.compressionType === 1 ? { compression_type: 'zstd' } : {}),
    },
  };
}

/** Gives up one cluster of the active disk that no snapshot shares. */
function give(node: Qcow2Node, unit: GuestRange, how: { below: boolean; dry: boolean }): boolean {
  const { state } = node;
  const { layout, l1 } = state;
  if (state.external || (how.below && state.version < 3)) return false;
  const index = Math.floor(unit.start / layout.l2Coverage);
  const offset = l2OffsetAt(state, l1, index);
  // A table that a snapshot shares would have to be copied first.
  if (offset === 0 || ((l1[index * 2] ?? 0) & entry.copied) === 0) return false;
  const halves = layout.l2EntrySize / 4;
  const i = ((unit.start - index * layout.l2Coverage) / layout.clusterSize) * halves;
  const present = state.tables.get(offset);
  const high = present[i] ?? 0;
  const low = present[i + 1] ?? 0;
  const kind = kindOf(state, high, low);
  const shared = kind === Kind.packed ? state.header.fields.nb_snapshots > 0 : (high & entry.copied) === 0;
  if (kind === Kind.unallocated || kind === Kind.zero || shared) return false;
  if (how.dry) return true;
  const { metadata } = writable(node);
  metadata.beforeChange();
  const table = metadata.tableForChange(index);
  table[i] = 0;
  table[i + 1] = how.below && !layout.extendedL2 ? entry.zero : 0;
  if (halves === 4) {
    table[i + 2] = how.below ? 0xffff_ffff : 0;
    table[i + 3] = 0;
  }
  metadata.freeEntry(high, low);
  metadata.relieve();
  return true;
}

/** Leaked clusters are counted down, empty L2 tables dropped, the last clusters moved down, the end cut. */
function* settle(node: Qcow2WritableNode, job: Job): Generator<CompactStep, void, void> {
  const { state, metadata } = node;
  if (state.external) return;
  metadata.beforeChange();
  dropEmptyTables(state, metadata);
  metadata.flush();
  const { counts } = computeReferences(state, snapshotTable(state), job);
  metadata.refcounts.adopt(counts);
  metadata.flush();
  yield* moveDown(node, job);
  metadata.trimEnd();
}

function dropEmptyTables(state: Qcow2State, metadata: Qcow2Metadata): void {
  const { l1, layout, tables } = state;
  for (let index = 0; index * 2 < l1.length; index++) {
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0 || ((l1[index * 2] ?? 0) & entry.copied) === 0) continue;
    if (tables.get(offset).some((half) => half !== 0)) continue;
    metadata.dropL1(index);
    metadata.free(offset / layout.clusterSize, 1);
  }
}

/** Clusters in use: where the file would end if all of them stood without gaps. */
function clustersInUse(state: Qcow2State, metadata: Qcow2Metadata): number {
  const { refcounts } = metadata;
  const clusters = Math.ceil(state.storage.size / state.layout.clusterSize);
  let used = 0;
  for (let cluster = 0; cluster < clusters; cluster++) if (refcounts.get(cluster) > 0) used++;
  return used;
}

/** What the active tables alone refer to, from the cluster on behind which nothing need stand. Snapshots' clusters stay where they are. */
function* moveDown(node: Qcow2WritableNode, job: Job): Generator<CompactStep, void, void> {
  const { state, metadata } = node;
  const { layout, l1 } = state;
  const { clusterSize } = layout;
  const end = clustersInUse(state, metadata) * clusterSize;
  const halves = layout.l2EntrySize / 4;
  const packedStay = state.header.fields.nb_snapshots > 0;
  let moved = 0;
  const total = l1.length / 2;
  for (let index = 0; index < total; index++) {
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0 || ((l1[index * 2] ?? 0) & entry.copied) === 0) continue;
    if (offset >= end) moveTable(metadata, index);
    for (let i = 0; i < layout.l2Entries; i++) {
      const table = state.tables.get(l2OffsetAt(state, l1, index));
      const high = table[i * halves] ?? 0;
      const low = table[i * halves + 1] ?? 0;
      const kind = kindOf(state, high, low);
      const guest = index * layout.l2Coverage + i * clusterSize;
      if (kind === Kind.packed) {
        if (packedStay || packedOffset(layout, high, low) + packedLength(layout, high, low) <= end) continue;
        movePacked(state, metadata, { index, at: i * halves, high, low });
      } else if ((high & entry.copied) !== 0 && entryOffset(high, low) >= end) {
        moveCluster(state, metadata, { index, at: i * halves, high, low }, guest);
      } else {
        continue;
      }
      metadata.relieve();
      if (++moved % batch === 0) {
        job.throwIfCancelled();
        yield { done: index, total };
      }
    }
  }
  metadata.flush();
}

/** An entry of the L2 table of L1 entry `index`, at half `at`. */
interface EntryAt {
  readonly index: number;
  readonly at: number;
  readonly high: number;
  readonly low: number;
}

/** A copy in a free cluster takes the place of the table. */
function moveTable(metadata: Qcow2Metadata, index: number): void {
  // A table that is not called its own is copied before it changes.
  metadata.setL1Copied(index, false);
  metadata.tableForChange(index);
}

function moveCluster(state: Qcow2State, metadata: Qcow2Metadata, from: EntryAt, guest: number): void {
  const { clusterSize } = state.layout;
  const old = entryOffset(from.high, from.low);
  const run = metadata.allocate(1);
  const to = run.first * clusterSize;
  if (to > old) {
    metadata.free(run.first, 1);
    return;
  }
  const bytes = new Uint8Array(clusterSize);
  state.storage.readAt(bytes.subarray(0, Math.min(clusterSize, state.storage.size - old)), old);
  state.cipher?.decrypt(bytes, guest, old);
  state.cipher?.encrypt(bytes, guest, to);
  state.storage.writeAt(bytes, to);
  const table = metadata.tableForChange(from.index);
  table[from.at] = ((from.high & ~0x00ff_ffff) | Math.floor(to / 0x1_0000_0000)) >>> 0;
  table[from.at + 1] = ((to % 0x1_0000_0000) | (from.low & 0x1ff)) >>> 0;
  metadata.free(old / clusterSize, 1);
}

/** The stored bytes and what is between them and the end of their last sector. */
function movePacked(state: Qcow2State, metadata: Qcow2Metadata, from: EntryAt): void {
  const { layout, storage } = state;
  const old = packedOffset(layout, from.high, from.low);
  const length = Math.min(packedLength(layout, from.high, from.low), layout.clusterSize, storage.size - old);
  const to = metadata.allocatePacked(length);
  const high = packedEntryHigh(layout, to, length);
  const low = to % 0x1_0000_0000;
  if (to > old) {
    metadata.freeEntry(high, low);
    return;
  }
  const bytes = new Uint8Array(length);
  storage.readAt(bytes, old);
  storage.writeAt(bytes, to);
  const table = metadata.tableForChange(from.index);
  table[from.at] = high;
  table[from.at + 1] = low;
  metadata.freeEntry(from.high, from.low);
}

export const compactQcow2: CompactDriver = {
  plan: (node) => planOf(ours(node)),
  begin(node: WritableNode, changesContent) {
    const { metadata } = writable(node);
    if (changesContent) metadata.beforeGuestChange();
    else metadata.beforeChange();
  },
  give: (node, unit, how) => give(ours(node), unit, how),
  settle: (node, job) => settle(writable(node), job),
};

// Another size of the active disk: the L1 table, what lies behind the end, space provided for beforehand, the file's tail.
import type { Preallocation } from '../../block/node.ts';
import { alignDown, alignUp, MiB } from '../../block/units.ts';
import { writeGuest } from '../../block/write.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { View } from './answers.ts';
import { Qcow2BitmapEditor } from './bitmap-editor.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset } from './layout.ts';
import { linkClusters } from './places.ts';
import { entry } from './spec.ts';
import { releaseRange } from './zero.ts';
import type { Qcow2WritableNode } from './write-node.ts';

/** Space for the new part is provided in steps of this many bytes. */
const stepLength = 64 * MiB;

/**
 * Grows or shrinks the disk to `size` bytes, whole sectors. What is added reads as zeroes, also where the layer below is longer and where
 * a resize was interrupted before. On the disk, what is added is complete before the header has the new size; what is taken away is
 * given up after it. Bitmaps stay, in the new length. Throws `qcow2/resize-sectors`, `qcow2/resize-snapshots` (version 2), `qcow2/l1-full`.
 */
export function resizeQcow2(node: Qcow2WritableNode, view: View, size: number, preallocation: Preallocation): void {
  const { state, metadata } = node;
  const before = node.size;
  const where = { file: node.name };
  if (size % 512 !== 0) throw new ImageError('qcow2/resize-sectors', { found: size }, where);
  if (state.version < 3 && state.header.fields.nb_snapshots > 0) {
    throw new ImageError('qcow2/resize-snapshots', {}, where);
  }
  if (size === before) return;
  const bitmaps = state.bitmapsValid ? new Qcow2BitmapEditor(metadata) : null;
  bitmaps?.fitTo(size);
  // From here on until they are committed, nobody believes the bitmaps.
  metadata.beforeGuestChange();
  if (size < before) metadata.willGiveSpaceBack();
  if (size < before) shrink(node, view, size, before);
  else grow(node, view, size, before, preallocation);
  bitmaps?.commit();
  if (size < before) metadata.trimEnd();
}

function grow(node: Qcow2WritableNode, view: View, size: number, before: number, preallocation: Preallocation): void {
  const { state, metadata } = node;
  const { clusterSize } = state.layout;
  const { data } = state;
  metadata.growL1(size);
  const end = alignUp(before, clusterSize);
  giveUp(node, view, end, alignUp(size, clusterSize));
  if (state.external) {
    if (data.size > before) data.truncate(before);
    if (data.size < size) data.truncate(size);
  }
  state.header.fields.size = size;
  try {
    clearTail(node, before, Math.min(end, size));
    if (preallocation !== 'off') provide(node, end, size, preallocation);
    hideBelow(node, Math.min(end, size), Math.min(size, node.backing?.size ?? 0));
    metadata.flush();
    metadata.setSize(size);
  } catch (error) {
    state.header.fields.size = before;
    throw error;
  }
}

/** What the last cluster of the old disk holds behind its end becomes part of the disk. */
function clearTail(node: Qcow2WritableNode, from: number, to: number): void {
  for (let at = from; at < to;) {
    const mapping = node.map({ start: at, length: to - at });
    const length = Math.min(mapping.length, to - at);
    const below = mapping.kind === 'below' && mapping.offset < mapping.node.size;
    if (mapping.kind === 'data' || mapping.kind === 'packed' || below) writeGuest(node, new Uint8Array(length), at);
    at += length;
  }
}

/** Clusters for all of the new part, which read as zeroes wherever they were. */
function provide(node: Qcow2WritableNode, from: number, size: number, how: Preallocation): void {
  const { state, metadata } = node;
  const { data } = state;
  const { clusterSize } = state.layout;
  for (let at = from; at < size;) {
    const wanted = Math.min(alignUp(size - at, clusterSize), stepLength);
    const run = state.external ? null : metadata.allocate(wanted / clusterSize);
    const offset = run === null ? at : run.first * clusterSize;
    const length = run === null ? wanted : run.count * clusterSize;
    const stored = Math.min(data.size, offset + length) - offset;
    if (stored > 0 && !state.external) data.zeroAt(offset, stored);
    const needed = state.external ? Math.min(length, size - at) : length;
    if (how === 'falloc' || how === 'full') data.provide(offset, needed, how);
    else if (data.size < offset + needed) data.truncate(offset + needed);
    linkClusters(state, metadata, at, length, offset);
    at += length;
  }
}

/** What a layer below has behind the old end was never part of this disk. */
function hideBelow(node: Qcow2WritableNode, from: number, to: number): void {
  const { clusterSize } = node.state.layout;
  for (let at = from; at < to;) {
    const done = node.zero({ start: at, length: Math.min(node.size, alignUp(to, clusterSize)) - at }, true);
    if (done !== null) at = done.start + done.length;
    else {
      const next = Math.min(alignDown(at, clusterSize) + clusterSize, node.size);
      writeGuest(node, new Uint8Array(next - at), at);
      at = next;
    }
  }
}

function shrink(node: Qcow2WritableNode, view: View, size: number, before: number): void {
  const { state, metadata } = node;
  const { clusterSize } = state.layout;
  metadata.flush();
  metadata.setSize(size);
  metadata.flush();
  giveUp(node, view, alignUp(size, clusterSize), alignUp(before, clusterSize));
  metadata.flush();
  if (state.external) state.data.truncate(size);
}

/** No entry of the active disk refers to anything from `from` to `to` (whole clusters) any more. */
function giveUp(node: Qcow2WritableNode, view: View, from: number, to: number): void {
  const { state, metadata } = node;
  const { l2Coverage, clusterSize } = state.layout;
  const end = Math.min(to, state.header.fields.l1_size * l2Coverage);
  const whole = alignUp(from, l2Coverage);
  for (let at = from; at < Math.min(whole, end);) {
    const stop = Math.min(whole, end);
    const done = releaseRange(view, metadata, { start: at, length: stop - at }, alignUp(stop, clusterSize));
    if (done === null) throw new Error(`nothing was released at ${at}`);
    at = done.start + done.length;
  }
  for (let index = whole / l2Coverage; index * l2Coverage < end; index++) {
    dropTable(node, index);
    metadata.relieve();
  }
}

/** All references that one entry of the active L1 table stands for; the table itself may belong to a snapshot too. */
function dropTable({ state, metadata }: Qcow2WritableNode, index: number): void {
  const { layout, l1, tables } = state;
  const offset = l2OffsetAt(state, l1, index);
  if (offset === 0) return;
  const table = tables.get(offset);
  const halves = layout.l2EntrySize / 4;
  metadata.dropL1(index);
  for (let i = 0; i < table.length; i += halves) {
    const high = table[i] ?? 0;
    const low = table[i + 1] ?? 0;
    if ((high & entry.compressed) !== 0 || entryOffset(high, low) !== 0) metadata.freeEntry(high, low);
  }
  metadata.free(offset / layout.clusterSize, 1);
}

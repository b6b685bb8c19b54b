// Another virtual size: the L1 table grows, at another place if there is no room; what a smaller disk no longer has is given up.
import { writeGuest } from '../../block/write.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { l1EntriesFor } from './layout.ts';
import { header, limit } from './spec.ts';
import { tableBytes } from './tables.ts';
import type { QcowWritableNode } from './write-node.ts';

/**
 * Sets the size in whole sectors. New space reads as zeroes, also where the layer below is longer. On the disk, what is added is complete
 * before the header has the new size; what is taken away is given up after it. Throws `qcow/size`, `qcow/too-large`, `storage/*`.
 */
export function resizeQcow(node: QcowWritableNode, size: number): void {
  const before = node.size;
  const after = alignUp(size, 512);
  if (size < 512) throw new ImageError('qcow/size', {}, { file: node.name, offset: 24, field: 'size' });
  node.flush();
  if (after < before) shrink(node, after, before);
  else if (after > before) grow(node, after, before);
}

function writeHeader({ state }: QcowWritableNode): void {
  state.storage.writeAt(header.serialise(state.fields), 0);
  state.storage.flush();
}

function shrink(node: QcowWritableNode, size: number, before: number): void {
  const { state } = node;
  state.fields.size = size;
  writeHeader(node);
  // The tables still know the old disk.
  state.fields.size = before;
  try {
    giveUp(node, alignUp(size, state.layout.clusterSize), before);
    node.flush();
  } finally {
    state.fields.size = size;
  }
  state.l1 = state.l1.slice(0, l1EntriesFor(state.layout, size) * 2);
  node.entries.l1Moved();
}

function grow(node: QcowWritableNode, size: number, before: number): void {
  const { state } = node;
  const { clusterSize } = state.layout;
  const entries = l1EntriesFor(state.layout, size);
  if (entries * 8 > limit.l1Bytes) throw state.fault('qcow/too-large', 'size', { found: size });
  if (entries * 2 > state.l1.length) {
    const l1 = new Uint32Array(entries * 2);
    l1.set(state.l1);
    const offset = node.appendTable(entries * 8);
    state.storage.writeAt(tableBytes(l1), offset);
    state.storage.flush();
    state.fields.l1_table_offset = offset;
    writeHeader(node);
    state.l1 = l1;
    node.entries.l1Moved();
  }
  state.fields.size = size;
  try {
    const edge = alignUp(before, clusterSize);
    // Where a shrink was interrupted, entries behind the old end are left.
    giveUp(node, edge, Math.min(size, alignUp(before, state.layout.l2Coverage)));
    if (edge > before) {
      const [high, low] = node.entries.get(Math.floor(before / clusterSize));
      if ((high | low) !== 0) writeZeroes(node, before, Math.min(edge, size));
    }
    writeZeroes(node, before, Math.min(node.backing?.size ?? 0, size));
    node.flush();
  } catch (error) {
    state.fields.size = before;
    throw error;
  }
  writeHeader(node);
}

/** Entries of whole clusters from `from` to `to` point nowhere any more. */
function giveUp(node: QcowWritableNode, from: number, to: number): void {
  const { clusterSize } = node.state.layout;
  for (let at = from; at < to;) {
    const run = node.map({ start: at, length: to - at });
    const length = Math.min(run.length, to - at);
    if (run.kind === 'data' || run.kind === 'packed') {
      for (let done = 0; done < length; done += clusterSize) node.entries.set((at + done) / clusterSize, 0, 0);
    }
    at += length;
  }
}

const zeroes = new Uint8Array(256 * 1024);

function writeZeroes(node: QcowWritableNode, start: number, end: number): void {
  for (let at = start; at < end; at += zeroes.length) {
    writeGuest(node, zeroes.subarray(0, Math.min(zeroes.length, end - at)), at);
  }
}

// Another virtual size: the L1 table grows, at another place if there is no room; what a smaller disk no longer has is given up.
import { writeGuest } from '../../block/write.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { l1EntriesFor } from './layout.ts';
import { header, limit } from './spec.ts';
import { tableBytes } from './tables.ts';
import type { QcowWritableNode } from './write-node.ts';

/**
 * Sets the size in whole sectors. New space reads as zeroes, also where the layer below is longer. Throws `qcow/size`,
 * `qcow/too-large`, `storage/*`.
 */
export function resizeQcow(node: QcowWritableNode, size: number): void {
  const { state } = node;
  const before = node.size;
  if (size < 512) throw new ImageError('qcow/size', {}, { file: node.name, offset: 24, field: 'size' });
  if (size < before) giveUp(node, size, before);
  node.flush();
  const entries = l1EntriesFor(state.layout, size);
  if (entries * 8 > limit.l1Bytes) throw state.fault('qcow/too-large', 'size', { found: size });
  const l1 = new Uint32Array(entries * 2);
  l1.set(state.l1.subarray(0, l1.length));
  if (l1.length > state.l1.length) {
    const offset = node.appendTable(entries * 8);
    state.storage.writeAt(tableBytes(l1), offset);
    state.storage.flush();
    state.fields.l1_table_offset = offset;
  }
  state.l1 = l1;
  node.entries.l1Moved();
  state.fields.size = alignUp(size, 512);
  state.storage.writeAt(header.serialise(state.fields), 0);
  state.storage.flush();
  const below = Math.min(node.backing?.size ?? 0, node.size);
  if (below > before) hideBelow(node, before, below);
}

/** What lay behind the new end must not come back when the disk grows again. */
function giveUp(node: QcowWritableNode, size: number, before: number): void {
  const { clusterSize } = node.state.layout;
  const edge = Math.min(before, alignUp(size, clusterSize));
  if (edge > size) {
    const [high, low] = node.entries.get(Math.floor(size / clusterSize));
    if ((high | low) !== 0) writeZeroes(node, size, edge);
  }
  for (let at = edge; at < before;) {
    const run = node.map({ start: at, length: before - at });
    const length = Math.min(run.length, before - at);
    if (run.kind === 'data' || run.kind === 'packed') {
      for (let done = 0; done < length; done += clusterSize) node.entries.set((at + done) / clusterSize, 0, 0);
    }
    at += length;
  }
}

function hideBelow(node: QcowWritableNode, start: number, end: number): void {
  writeZeroes(node, start, end);
  node.flush();
}

const zeroes = new Uint8Array(256 * 1024);

function writeZeroes(node: QcowWritableNode, start: number, end: number): void {
  for (let at = start; at < end; at += zeroes.length) {
    writeGuest(node, zeroes.subarray(0, Math.min(zeroes.length, end - at)), at);
  }
}

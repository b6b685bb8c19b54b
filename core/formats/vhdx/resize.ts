// Changing the virtual size in place, and giving the BAT another place when it must be longer.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { isPresent } from './block-table.ts';
import { batEntries, blockCount, chunkCount, type Geometry } from './layout.ts';
import { alignment, bitmapState, maxVirtualSize, payloadState } from './spec.ts';
import type { WritableVhdxNode } from './writer.ts';

const pieceLength = 1024 * 1024;

/** Grows or shrinks the disk to `size` bytes, rounded up to its sectors. Durable when it returns. Throws `vhdx/size-too-large`. */
export function resizeDisk(node: WritableVhdxNode, size: number): void {
  const before = node.geometry;
  const virtualSize = alignUp(size, before.logicalSectorSize);
  if (virtualSize > maxVirtualSize) throw new ImageError('vhdx/size-too-large', {}, { file: node.name });
  if (virtualSize === before.virtualSize) return;
  node.touch();
  node.flush();
  if (virtualSize > before.virtualSize) grow(node, before, virtualSize);
  else shrink(node, before, virtualSize);
}

function grow(node: WritableVhdxNode, before: Geometry, virtualSize: number): void {
  const after = { ...before, virtualSize };
  clearTail(node, before);
  provideBat(node, batEntries(after, node.locator !== null));
  const blocks = blockCount(after);
  const first = blockCount(before);
  clearEntries(node, first, blocks);
  if (node.isFixed && blocks > first) {
    const place = node.space.allocate((blocks - first) * before.blockSize, true);
    for (let block = first; block < blocks; block++) {
      node.table.set(node.table.payload(block), payloadState.fullyPresent, place + (block - first) * before.blockSize);
    }
  }
  node.edits.setVirtualSize(virtualSize);
  node.become({ size: virtualSize });
  hideBelow(node, before.virtualSize);
  node.flush();
}

/** What the last block holds behind the old end of the disk becomes zero; nobody could read it so far. */
function clearTail(node: WritableVhdxNode, before: Geometry): void {
  const used = before.virtualSize % before.blockSize;
  if (used === 0) return;
  const block = blockCount(before) - 1;
  const state = node.table.state(node.table.payload(block));
  if (!isPresent(state)) return;
  const place = node.placeOf(block);
  const end = place + before.blockSize;
  if (node.storage.size < end) node.storage.truncate(end);
  node.storage.zeroAt(place + used, before.blockSize - used);
  if (state !== payloadState.partiallyPresent) return;
  const { bitmap, first } = node.bitmapOf(block);
  const sector = before.logicalSectorSize;
  bitmap.fill(first + used / sector, (before.blockSize - used) / sector, true);
}

/** Entries that no block had so far may hold anything. */
function clearEntries(node: WritableVhdxNode, from: number, to: number): void {
  for (let block = from; block < to; block++) {
    const index = node.table.payload(block);
    if (node.table.state(index) !== payloadState.notPresent || node.table.place(index) !== 0) {
      node.table.set(index, payloadState.notPresent, 0);
    }
  }
}

/** Where the layer below is longer than the disk was, the new part reads as zeroes all the same. */
function hideBelow(node: WritableVhdxNode, from: number): void {
  if (node.locator === null) return;
  const end = Math.min(node.size, node.backing?.size ?? node.size);
  let at = from;
  while (at < end) {
    const block = Math.floor(at / node.geometry.blockSize);
    const length = Math.min(node.size, (block + 1) * node.geometry.blockSize) - at;
    const done = node.zero({ start: at, length });
    if (done === null) throw new Error(`the stretch ${at}+${length} could not be made zero`);
    at = done.start + done.length;
  }
}

function shrink(node: WritableVhdxNode, before: Geometry, virtualSize: number): void {
  const after = { ...before, virtualSize };
  for (let block = blockCount(after); block < blockCount(before); block++) {
    const index = node.table.payload(block);
    if (isPresent(node.table.state(index))) node.space.giveUp(node.table.place(index));
    node.table.set(index, payloadState.notPresent, 0);
  }
  for (let chunk = chunkCount(after); chunk < chunkCount(before); chunk++) {
    const index = node.table.bitmap(chunk);
    if (index < node.table.capacity) node.table.set(index, bitmapState.notPresent, 0);
  }
  node.edits.setVirtualSize(virtualSize);
  node.become({ size: virtualSize });
  node.flush('metadata-first');
}

/** The BAT has room for `entries`: if need be it moves behind everything else, and the region table follows it. */
export function provideBat(node: WritableVhdxNode, entries: number): void {
  const { table, storage } = node;
  if (entries <= table.capacity) return;
  const length = alignUp(entries * 8, alignment);
  const place = node.space.allocate(length, true);
  node.pages.forget(place, length);
  const piece = new Uint8Array(pieceLength);
  for (let done = 0; done < table.capacity * 8; done += pieceLength) {
    storage.readAt(piece, table.offset + done);
    storage.writeAt(piece, place + done);
  }
  table.offset = place;
  table.capacity = length / 8;
  node.edits.moveBat(place, length);
  node.flush();
}

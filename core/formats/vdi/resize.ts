// A new size in place: the block map with room for it, and no block left behind its end.
import { alignUp, MiB, type HostOffset } from '../../block/units.ts';
import { writeGuest } from '../../block/write.ts';
import { ImageError } from '../../errors/image-error.ts';
import { showVersion } from './header.ts';
import { freeBlock, imageType, largestMap, sectorSize, usualBlockSize, zeroBlock } from './spec.ts';
import { writeFree } from './map.ts';
import type { WritableVdiNode } from './writing.ts';

/**
 * Gives a disk the size, rounded up to sectors. Each step is on the disk before the next one relies on it; the header, which one write
 * changes, decides between the old size and the new one. Throws `vdi/too-large`, `vdi/old-version`, `storage/*`.
 */
export function resizeVdi(node: WritableVdiNode, size: number): void {
  const rounded = alignUp(size, sectorSize);
  const largest = largestMap * usualBlockSize;
  if (rounded > largest) {
    const detail = { found: `0x${rounded.toString(16)}`, allowed: `0x${largest.toString(16)}` };
    throw new ImageError('vdi/too-large', detail, { file: node.name });
  }
  if (node.header.major === 0) {
    const detail = { found: showVersion(node.header), what: 'resized' };
    throw new ImageError('vdi/old-version', detail, { file: node.name });
  }
  node.flush();
  if (rounded < node.size) shrink(node, rounded);
  else if (rounded > node.size) grow(node, rounded);
}

function grow(node: WritableVdiNode, size: number): void {
  const before = node.size;
  const blocks = Math.ceil(size / node.blockSize);
  const { offset_blocks, offset_data } = node.header.values;
  if (offset_blocks + 4 * blocks > offset_data) moveMap(node, blocks);
  else {
    if (blocks > node.blockMap.entries) node.blockMap.resize(blocks);
    node.storage.flush();
    node.patchHeader({ blocks_in_image: Math.max(blocks, node.header.values.blocks_in_image) });
    node.storage.flush();
  }
  node.size = size;
  try {
    forgetLeft(node, before, blocks);
    if (node.header.values.image_type === imageType.static) allocateAll(node);
    zeroExposed(node, before);
    node.flush();
    node.patchHeader({ disk_size: size });
    node.storage.flush();
  } catch (error) {
    node.size = before;
    throw error;
  }
}

/** Where a shrink was interrupted, the map still has blocks behind the end, and the last block its old bytes. */
function forgetLeft(node: WritableVdiNode, before: number, blocks: number): void {
  const { blockSize, blockMap } = node;
  const within = before % blockSize;
  const last = Math.floor(before / blockSize);
  const cut = within === 0 ? zeroBlock : blockMap.get(last);
  if (cut < zeroBlock) node.storage.zeroAt(node.placeOf(cut) + within, blockSize - within);
  for (let block = Math.ceil(before / blockSize); block < blocks; block++) {
    if (blockMap.get(block) !== freeBlock) blockMap.set(block, freeBlock);
  }
}

/** What the parent has behind the old end was never part of this disk. */
function zeroExposed(node: WritableVdiNode, before: number): void {
  const end = Math.min(node.backing?.size ?? 0, node.size);
  for (let at = before; at < end;) {
    const done = node.zero({ start: at, length: end - at });
    if (done !== null) at += done.length;
    else {
      const length = Math.min(end - at, node.blockSize - (at % node.blockSize));
      writeGuest(node, new Uint8Array(length), at);
      at += length;
    }
  }
}

/** A static disk has a place for every block. */
function allocateAll(node: WritableVdiNode): void {
  for (let at = 0; at < node.size;) {
    const place = node.reserve({ start: at, length: node.size - at });
    place.publish();
    at += place.covers.length;
  }
}

/**
 * The map grows into the places of the first blocks, which go to the end of the file first; then the header makes the data begin behind
 * the new map, and all numbers are smaller by the places that it took.
 */
function moveMap(node: WritableVdiNode, blocks: number): void {
  const { values } = node.header;
  const total = values.block_extra + values.block_size;
  const taken = Math.ceil((4 * blocks) / total);
  const old = node.blockMap.entries;
  let top = Math.max(node.top, taken);
  const moving: number[] = [];
  for (let block = 0; block < old; block++) if (node.blockMap.get(block) < taken) moving.push(block);
  for (const [index, block] of moving.entries()) copyPlace(node, node.blockMap.get(block), top + index);
  if (moving.length > 0) {
    node.storage.flush();
    node.patchHeader({ blocks_allocated: top + moving.length });
    node.storage.flush();
    for (const [index, block] of moving.entries()) node.blockMap.set(block, top + index);
    node.blockMap.write();
    node.storage.flush();
  }
  top += moving.length;
  const offset = values.offset_data;
  const end = offset + taken * total;
  if (node.storage.size < end) node.storage.truncate(end);
  writeMap(node, offset, taken, blocks);
  node.storage.flush();
  node.patchHeader({
    offset_blocks: offset,
    offset_data: end,
    blocks_in_image: blocks,
    blocks_allocated: top - taken,
  });
  node.storage.flush();
  node.blockMap.moved(offset, blocks);
  node.setTop(top - taken);
}

function copyPlace(node: WritableVdiNode, from: number, to: number): void {
  const { block_extra, block_size } = node.header.values;
  const total = block_extra + block_size;
  const source = node.placeOf(from) - block_extra;
  const target = node.placeOf(to) - block_extra;
  if (node.storage.size < target + total) node.storage.truncate(target + total);
  const piece = new Uint8Array(Math.min(total, MiB));
  for (let done = 0; done < total;) {
    const length = Math.min(piece.length, total - done, Math.max(0, node.storage.size - source - done));
    if (length === 0) break;
    node.storage.readAt(piece.subarray(0, length), source + done);
    node.storage.writeAt(piece.subarray(0, length), target + done);
    done += length;
  }
}

/** The map as it will be: the old entries with numbers smaller by `taken`, then free ones. */
function writeMap(node: WritableVdiNode, offset: HostOffset, taken: number, blocks: number): void {
  const old = node.blockMap.entries;
  const piece = new Uint8Array(Math.min(old * 4, MiB));
  const view = new DataView(piece.buffer);
  for (let done = 0; done < old;) {
    const count = Math.min(piece.length / 4, old - done);
    for (let i = 0; i < count; i++) {
      const entry = node.blockMap.get(done + i);
      view.setUint32(i * 4, entry < zeroBlock ? entry - taken : entry, true);
    }
    node.storage.writeAt(piece.subarray(0, count * 4), offset + done * 4);
    done += count;
  }
  writeFree(node.storage, offset + old * 4, blocks - old);
}

function shrink(node: WritableVdiNode, size: number): void {
  const { blockSize, blockMap } = node;
  const blocks = Math.ceil(size / blockSize);
  // From here on the disk is smaller, whatever its map still has behind the end.
  node.storage.flush();
  node.patchHeader({ disk_size: size });
  node.size = size;
  node.storage.flush();
  const within = size % blockSize;
  const cut = within === 0 ? zeroBlock : blockMap.get(blocks - 1);
  if (cut < zeroBlock) node.storage.zeroAt(node.placeOf(cut) + within, blockSize - within);
  // Nobody must find the places of the blocks behind the end in use twice.
  writeFree(node.storage, blockMap.offset + blocks * 4, blockMap.entries - blocks);
  blockMap.resize(blocks);
  node.storage.flush();
  const places = closeGaps(node, blocks);
  node.patchHeader({ blocks_in_image: blocks, blocks_allocated: places });
  node.storage.flush();
  node.setTop(places);
  const end = node.header.values.offset_data + places * (node.header.values.block_extra + blockSize);
  if (end < node.storage.size) node.storage.truncate(end);
}

/** Moves blocks from the end of the file into places that no block has any more, so that all numbers are below their count. */
function closeGaps(node: WritableVdiNode, blocks: number): number {
  const { blockMap } = node;
  let count = 0;
  for (let block = 0; block < blocks; block++) if (blockMap.get(block) < zeroBlock) count++;
  const used = new Uint8Array(Math.ceil(count / 8));
  const beyond: number[] = [];
  for (let block = 0; block < blocks; block++) {
    const entry = blockMap.get(block);
    if (entry >= zeroBlock) continue;
    if (entry < count) used[entry >> 3] = (used[entry >> 3] ?? 0) | (1 << (entry & 7));
    else beyond.push(block);
  }
  const moves: { block: number; to: number }[] = [];
  let place = 0;
  for (const block of beyond) {
    while (place < count && ((used[place >> 3] ?? 0) & (1 << (place & 7))) !== 0) place++;
    moves.push({ block, to: place++ });
  }
  for (const { block, to } of moves) copyPlace(node, blockMap.get(block), to);
  if (moves.length === 0) return count;
  node.storage.flush();
  for (const { block, to } of moves) blockMap.set(block, to);
  blockMap.write();
  node.storage.flush();
  return count;
}

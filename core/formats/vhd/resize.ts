// A new size in place: the footer's fields for it, and the BAT of a dynamic disk.
import { alignUp } from '../../block/units.ts';
import { geometryFor, geometrySize, isExactMaker, largestGeometry, roundSize } from './geometry.ts';
import { patchedFooter } from './footer.ts';
import { blockCount, tableLength } from './layout.ts';
import { checksumOf, dynamicHeader, footer, sectorSize, unallocated, type Footer } from './spec.ts';
import type { WritableDynamicNode } from './writing.ts';

/** The size that a disk of this maker gets for the `size` asked, and the footer fields that say so. Throws `vhd/too-large`. */
export function newSize(values: Footer, size: number): { size: number; values: Partial<Footer> } {
  const exact = isExactMaker(values.creator_application);
  const rounded = roundSize(size, exact);
  const wasLargest = geometrySize(values) === geometrySize(largestGeometry);
  const geometry = exact && !wasLargest ? geometryFor(rounded.size / sectorSize) : rounded.geometry;
  return { size: rounded.size, values: { ...geometry, current_size: rounded.size } };
}

/**
 * Gives a dynamic or differencing disk the size as its maker's disks have it. On the disk, BAT and blocks are ready for the larger size
 * before the footers speak of it; what is taken away is given up after they do. Throws `vhd/too-large`, `vhd/full`, `storage/*`.
 */
export function resizeDynamic(node: WritableDynamicNode, size: number): void {
  const { values, size: rounded } = newSize(node.footer, size);
  const before = node.size;
  const blocks = blockCount(rounded, node.layout.blockSize);
  if (rounded === before) return;
  node.flush();
  if (rounded < before) {
    writeFooters(node, values);
    cutTable(node, rounded, blocks);
    node.size = rounded;
    node.giveBackEnd();
    node.flush();
    return;
  }
  if (blocks > node.table.entries) extendTable(node, blocks);
  node.size = rounded;
  try {
    hide(node, before, rounded);
    node.flush();
    writeFooters(node, values);
  } catch (error) {
    node.size = before;
    throw error;
  }
}

function writeFooters(node: WritableDynamicNode, values: Partial<Footer>): void {
  node.footerBytes = patchedFooter(node.footerBytes, values);
  node.footer = footer.parse(node.footerBytes);
  node.writeFooters();
  node.storage.flush();
}

/** What the last block or the parent has behind the old end was never part of this disk. */
function hide(node: WritableDynamicNode, before: number, size: number): void {
  const end = Math.min(size, Math.max(alignUp(before, node.layout.blockSize), node.backing?.size ?? 0));
  for (let at = before; at < end;) {
    const done = node.zero({ start: at, length: end - at });
    if (done === null) throw new Error(`sectors from ${at} on could not be zeroed`);
    at += done.length;
  }
}

function cutTable(node: WritableDynamicNode, size: number, blocks: number): void {
  const { blockSize, bitmapSize } = node.layout;
  const within = size % blockSize;
  const entry = within === 0 ? unallocated : node.table.get(blocks - 1);
  if (entry !== unallocated) {
    node.storage.zeroAt(node.roomOf(blocks - 1, entry) + bitmapSize + within, blockSize - within);
  }
  for (let block = blocks; block < node.table.entries; block++) {
    if (node.table.get(block) !== unallocated) node.table.set(block, unallocated);
  }
  node.flush();
  node.table.resize(blocks, node.table.offset);
  node.flush();
}

/** In place while the table's last sector has room, otherwise at the end of the file. */
function extendTable(node: WritableDynamicNode, blocks: number): void {
  const { table, header } = node;
  const room = table.offset % sectorSize === 0 ? tableLength(header.max_table_entries) / 4 : header.max_table_entries;
  const offset = blocks <= room ? table.offset : node.appendRoom(tableLength(blocks));
  table.resize(blocks, offset);
  node.flush();
  if (blocks <= header.max_table_entries) return;
  patchHeader(node, { max_table_entries: blocks, table_offset: offset });
  node.storage.flush();
}

/** Writes header fields with a fresh checksum; all that a resize changes stands in the first sector of the header. */
export function patchHeader(node: WritableDynamicNode, values: Parameters<typeof dynamicHeader.patch>[1]): void {
  const bytes = node.headerBytes.slice();
  dynamicHeader.patch(bytes, values);
  dynamicHeader.patch(bytes, { checksum: checksumOf(bytes, dynamicHeader.fields.checksum.offset) });
  node.storage.writeAt(bytes, node.headerOffset);
  node.headerBytes = bytes;
  node.header = dynamicHeader.parse(bytes);
}

// What of the file is in use: its structures in the order of the file.
import { alignUp, type HostOffset, type HostRange } from '../../block/units.ts';
import { roomAt, tableLength } from './layout.ts';
import type { DynamicNode } from './node.ts';
import { dynamicHeader, footer, sectorSize, unallocated } from './spec.ts';

/** Xen's map of blocks that are full stands behind the BAT and begins with this. */
const batmapCookie = 'tdbatmap';

/** A structure that is not a block. */
export interface FixedUse extends HostRange {
  readonly what: 'footer copy' | 'header' | 'table' | 'name' | 'batmap';
  readonly index: number;
}

/** The structures beside blocks and the footer at the end, by offset. Throws `storage/*`. */
export function structures(node: DynamicNode): FixedUse[] {
  const { offset } = node.table;
  // A header may promise more entries than the file has room for: only those that are there count.
  const table = Math.min(tableLength(node.header.max_table_entries), node.storage.size - offset);
  const found: FixedUse[] = [
    { what: 'footer copy', index: 0, start: 0, length: footer.size },
    { what: 'header', index: 0, start: node.headerOffset, length: dynamicHeader.size },
    { what: 'table', index: 0, start: offset, length: table },
  ];
  for (const { entry, index } of node.locators) {
    const { platform_data_offset: start, platform_data_length: length } = entry;
    if (length > 0 && start + length <= node.storage.size) found.push({ what: 'name', index, start, length });
  }
  const batmap = findBatmap(node);
  if (batmap !== null) found.push({ what: 'batmap', index: 0, ...batmap });
  return found.sort((a, b) => a.start - b.start);
}

/** Xen's batmap: its header and bits; null: none. */
export function findBatmap(node: DynamicNode): HostRange | null {
  const start = alignUp(node.table.offset + 4 * node.header.max_table_entries, sectorSize);
  if (start + sectorSize > node.storage.size) return null;
  const head = new Uint8Array(sectorSize);
  node.storage.readAt(head, start);
  for (let i = 0; i < batmapCookie.length; i++) if (head[i] !== batmapCookie.charCodeAt(i)) return null;
  const view = new DataView(head.buffer);
  const offset = view.getUint32(8) * 0x1_0000_0000 + view.getUint32(12);
  const end = offset + view.getUint32(16) * sectorSize;
  const inFile = offset >= start && end <= node.storage.size;
  return { start, length: inFile ? end - start : sectorSize };
}

/** The first sector behind all structures and blocks: where the footer could stand. */
export function endOfUse(node: DynamicNode): HostOffset {
  let end = 0;
  for (const { start, length } of structures(node)) end = Math.max(end, start + length);
  const { table, layout } = node;
  let last = -1;
  for (let block = 0; block < table.entries; block++) {
    const entry = table.get(block);
    if (entry !== unallocated && entry > last) last = entry;
  }
  if (last >= 0) end = Math.max(end, roomAt(last) + layout.roomSize);
  return alignUp(end, sectorSize);
}

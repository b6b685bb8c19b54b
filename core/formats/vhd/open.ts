// Opening a VHD: the footer, the header of a dynamic disk, the BAT, the parent.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { restOf, UnreadableNode, type Damage } from '../../block/unreadable.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenRequest } from '../driver.ts';
import { onlyForRepair } from '../repair-only.ts';
import { FixedNode, WritableFixedNode } from './fixed.ts';
import { chooseFooter, findFooters, type FoundFooter, type Footers } from './footer.ts';
import { diskSize, type SizeRule } from './geometry.ts';
import { blockCount, layoutOf, roomAt, type Layout } from './layout.ts';
import { readLocators } from './locators.ts';
import { DynamicNode, type DynamicParts, type VhdNode, type VhdParts } from './node.ts';
import { claimOf, openParent, requireParent, type ParentClaim } from './parent.ts';
import {
  checksumOf,
  diskType,
  dynamicHeader,
  sectorSize,
  unallocated,
  type DynamicHeader,
  type Footer,
} from './spec.ts';
import { BlockTable, largestTable } from './table.ts';
import { endOfUse, findBatmap } from './use.ts';
import { WritableDynamicNode } from './writing.ts';

/**
 * Opens a VHD; owns `storage`. Runtime setting `force_size_calc` (`chs`, `current_size`) as qemu's. Throws `vhd/*`, `storage/*`, `gate/*`,
 * `request/invalid-option`, `request/invalid-value`.
 */
export function openVhd(storage: Storage, request: OpenRequest): VhdNode {
  try {
    const rule = sizeRule(request.runtime);
    const footers = findFooters(storage);
    const footer = chooseFooter(footers, storage, request.forRepair);
    const { size, from } = diskSize(footer.values, rule, storage.name);
    const parts: VhdParts = { storage, footer, size, sizeFrom: from };
    if (footer.values.disk_type === diskType.fixed) return openFixed(parts, request);
    return openDynamic(parts, footers, request);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function sizeRule(runtime: Readonly<Record<string, string>>): SizeRule {
  let rule: SizeRule = 'maker';
  for (const [name, value] of Object.entries(runtime)) {
    if (name !== 'force_size_calc') throw new ImageError('request/invalid-option', { name });
    if (value !== 'chs' && value !== 'current_size') {
      throw new ImageError('request/invalid-value', { reason: `Invalid size calculation mode: '${value}'`, name });
    }
    rule = value;
  }
  return rule;
}

function openFixed(parts: VhdParts, request: OpenRequest): FixedNode {
  const { storage, footer, size } = parts;
  if (size > footer.offset && !request.forRepair) {
    throw new ImageError(
      'vhd/fixed-short',
      { size, found: footer.offset },
      { file: storage.name, field: 'current_size' },
    );
  }
  // Of a disk that was cut short the rest is not known, if it is only looked at.
  const held = { ...parts, size: request.lenient === 'open' ? size : Math.min(size, footer.offset) };
  if (request.writable) return new WritableFixedNode(held);
  const node = new FixedNode(held);
  if (request.lenient !== 'open' || size <= footer.offset) return node;
  const where = { file: storage.name, field: 'current_size' };
  const beyond = new ImageError('vhd/fixed-short', { size, found: footer.offset }, where);
  node.damage = { known: footer.offset, beyond, reach: () => 1 };
  return node;
}

function openDynamic(parts: VhdParts, footers: Footers, request: OpenRequest): DynamicNode {
  const { storage, footer, size } = parts;
  const { headerOffset, headerBytes, header } = readHeader(storage, footer, request.forRepair);
  const layout = readLayout(header, headerOffset, storage);
  const table = readTable(header, headerOffset, layout, size, storage, request.lenient === 'open');
  if (!request.forRepair) requireRooms(table, layout, storage);
  const differencing = footer.values.disk_type === diskType.differencing;
  const locators = readLocators(headerBytes, storage);
  const claim = differencing ? claimOf(header, headerBytes, locators, footer.values) : null;
  const backing = claim !== null && request.withBacking ? parentOf(claim, storage.name, request) : null;
  if (claim !== null && !request.withBacking && !request.writable && !request.forRepair) {
    requireParent(claim, storage.name, request.gate);
  }
  const { gate } = request;
  const all: DynamicParts = { ...parts, headerOffset, headerBytes, header, layout, table, locators, backing, gate };
  try {
    const node = new DynamicNode(all);
    if (request.lenient !== undefined) node.damage = damageOf(all);
    if (!request.writable) return node;
    if (request.forRepair) return onlyForRepair(node, node.storage);
    const { end, missing } = firstFree(node, footers);
    return new WritableDynamicNode(all, end, missing, findBatmap(node) !== null);
  } catch (error) {
    backing?.close();
    throw error;
  }
}

function parentOf(claim: ParentClaim, from: string, { gate, lenient }: OpenRequest): BlockNode {
  try {
    return openParent(claim, from, gate);
  } catch (error) {
    // A parent without a name leads to no question that could be answered with a stand-in.
    if (lenient !== 'open' || claim.paths.length > 0 || !(error instanceof ImageError)) throw error;
    return new UnreadableNode(claim.identity.uniqueId, error);
  }
}

/** Where rooms may begin: behind everything that is in use or that somebody put before the footer. */
function firstFree(node: DynamicNode, footers: Footers): { end: number; missing: boolean } {
  const used = endOfUse(node);
  const { end } = footers;
  const { size } = node.storage;
  if (end === null) return { end: Math.max(used, upToSector(size)), missing: true };
  const free = Math.max(used, end.offset % sectorSize === 0 ? end.offset : upToSector(size));
  return { end: free, missing: free !== end.offset || !end.checksumHolds };
}

function upToSector(offset: number): number {
  return Math.ceil(offset / sectorSize) * sectorSize;
}

function readHeader(
  storage: Storage,
  footer: FoundFooter & { values: Footer },
  tolerant: boolean,
): { headerOffset: number; headerBytes: Uint8Array; header: DynamicHeader } {
  const offset = footer.values.data_offset;
  if (offset + BigInt(dynamicHeader.size) > BigInt(storage.size)) {
    const detail = { found: `0x${offset.toString(16)}`, allowed: storage.size };
    throw new ImageError('vhd/header-place', detail, {
      file: storage.name,
      offset: footer.offset,
      field: 'data_offset',
    });
  }
  const headerOffset = Number(offset);
  const headerBytes = new Uint8Array(dynamicHeader.size);
  storage.readAt(headerBytes, headerOffset);
  const where = { file: storage.name, offset: headerOffset };
  const header = dynamicHeader.parse(headerBytes, where);
  const computed = checksumOf(headerBytes, dynamicHeader.fields.checksum.offset);
  if (computed !== header.checksum && !tolerant) {
    const detail = { found: hex(header.checksum), allowed: hex(computed) };
    throw new ImageError('vhd/header-checksum', detail, { ...where, field: 'checksum' });
  }
  return { headerOffset, headerBytes, header };
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

function readLayout(header: DynamicHeader, headerOffset: number, storage: Storage): Layout {
  const { block_size } = header;
  if (block_size < sectorSize || (block_size & (block_size - 1)) !== 0) {
    const where = { file: storage.name, offset: headerOffset, field: 'block_size' };
    throw new ImageError('vhd/block-size', { found: block_size }, where);
  }
  return layoutOf(block_size >>> 0);
}

function readTable(
  header: DynamicHeader,
  headerOffset: number,
  layout: Layout,
  size: number,
  storage: Storage,
  tolerant: boolean,
): BlockTable {
  const where = { file: storage.name, offset: headerOffset, field: 'max_table_entries' };
  const entries = blockCount(size, layout.blockSize);
  if (entries > header.max_table_entries) {
    throw new ImageError('vhd/table-small', { found: header.max_table_entries, allowed: entries }, where);
  }
  if (entries > largestTable) throw new ImageError('vhd/table-large', { found: entries, allowed: largestTable }, where);
  if (header.table_offset + entries * 4 > storage.size && !tolerant) {
    throw tableFault(header.table_offset, headerOffset, storage);
  }
  return BlockTable.read(storage, header.table_offset, entries);
}

function tableFault(found: number, headerOffset: number, storage: Storage): ImageError {
  const where = { file: storage.name, offset: headerOffset, field: 'table_offset' };
  return new ImageError('vhd/table-place', { found, allowed: storage.size }, where);
}

/** What is known of a disk whose table or blocks may not lie in the file. */
function damageOf({ table, layout, headerOffset, storage }: DynamicParts): Damage {
  return {
    known: table.inFile * layout.blockSize,
    beyond: table.inFile < table.entries ? tableFault(table.offset, headerOffset, storage) : null,
    reach: (start) => restOf(layout.blockSize, start),
  };
}

/** Throws `vhd/truncated` when a block lies outside of the file. */
function requireRooms(table: BlockTable, layout: Layout, storage: Storage): void {
  const last = Math.floor((storage.size - layout.roomSize) / sectorSize);
  for (let block = 0; block < table.entries; block++) {
    const entry = table.get(block);
    if (entry === unallocated || entry <= last) continue;
    const where = { file: storage.name, offset: table.offset + 4 * block, field: `BAT[${block}]` };
    throw new ImageError('vhd/truncated', { found: roomAt(entry), allowed: storage.size }, where);
  }
}

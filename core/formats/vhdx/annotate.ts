// The hex view's words: fields of the structures on the screen, one line per table entry.
import type { Annotation } from '../../bytes/struct.ts';
import type { Storage } from '../../block/storage.ts';
import { KiB, type HostRange } from '../../block/units.ts';
import { blockCount } from './layout.ts';
import { descriptorArea, type LogEntry } from './log.ts';
import type { VhdxNode } from './node.ts';
import {
  batEntry,
  dataDescriptor,
  dataSector,
  descriptorLength,
  fileParameters,
  items,
  logEntryHeader,
  logicalSectorSize,
  logSectorLength,
  metadataTableEntry,
  metadataTableHeader,
  metadataTableLength,
  parentLocatorEntry,
  parentLocatorHeader,
  physicalSectorSize,
  virtualDiskId,
  virtualDiskSize,
  zeroDescriptor,
} from './spec.ts';

/** Bytes that one answer looks at, however large the window. */
const maxWindow = 64 * KiB;

interface Annotated {
  readonly size: number;
  annotate(bytes: Uint8Array, at: number): Annotation[];
}

function clip(window: HostRange): { start: number; end: number } {
  return { start: window.start, end: window.start + Math.min(window.length, maxWindow) };
}

function overlaps(window: HostRange, start: number, length: number): boolean {
  const { start: from, end } = clip(window);
  return start < end && start + length > from;
}

/** The fields of the structure at `at` that lie in the window. */
export function annotateStructure(file: Storage, structure: Annotated, at: number, window: HostRange): Annotation[] {
  if (!overlaps(window, at, structure.size) || at >= file.size) return [];
  const bytes = new Uint8Array(Math.min(structure.size, file.size - at));
  file.readAt(bytes, at);
  const { start, end } = clip(window);
  return structure.annotate(bytes, at).filter((one) => one.start < end && one.start + one.length > start);
}

/** A head and the entries behind it. */
export function annotateTable(
  file: Storage,
  table: { head: Annotated; entry: Annotated; count: number },
  at: number,
  window: HostRange,
): Annotation[] {
  const found = annotateStructure(file, table.head, at, window);
  const { start, end } = clip(window);
  const first = at + table.head.size;
  const from = Math.max(0, Math.floor((start - first) / table.entry.size));
  const to = Math.min(table.count, Math.ceil((end - first) / table.entry.size));
  for (let index = from; index < to; index++) {
    found.push(...annotateStructure(file, table.entry, first + index * table.entry.size, window));
  }
  return found;
}

const stateNames: Record<number, string> = {
  0: 'not present',
  1: 'undefined',
  2: 'zero',
  3: 'unmapped',
  5: 'unmapped (draft of the format)',
  6: 'fully present',
  7: 'partially present',
};

/** One line per entry of the BAT. */
export function annotateBat(node: VhdxNode, window: HostRange): Annotation[] {
  const { table, geometry } = node;
  const { start, end } = clip(window);
  const first = Math.max(0, Math.floor((start - table.offset) / batEntry.size));
  const last = Math.min(table.capacity, Math.ceil((end - table.offset) / batEntry.size));
  const found: Annotation[] = [];
  for (let index = first; index < last; index++) {
    const chunk = Math.floor(index / (table.ratio + 1));
    const isBitmap = index % (table.ratio + 1) === table.ratio;
    const block = index - chunk;
    const state = table.state(index);
    const place = table.place(index);
    const beyond = !isBitmap && block >= blockCount(geometry);
    const known = stateNames[state] !== undefined;
    found.push({
      start: table.offset + index * batEntry.size,
      length: batEntry.size,
      structure: batEntry.name,
      field: isBitmap ? `sector bitmap of chunk ${chunk}` : `block ${block}`,
      value: `${stateNames[state] ?? `state ${state}`}${place === 0 ? '' : `, at ${place}`}`,
      meaning: beyond
        ? 'behind the end of the disk'
        : isBitmap
          ? 'where the bitmap of this chunk lies'
          : `guest bytes from ${block * geometry.blockSize}`,
      fault: known ? null : 'a state that the format does not have',
      path: `BAT[${index}]`,
      section: 'MS-VHDX 2.5.1',
      ...(place === 0 ? {} : { target: { offset: place } }),
    });
  }
  return found;
}

const itemStructures: Record<string, Annotated> = {
  [items.fileParameters]: fileParameters,
  [items.virtualDiskSize]: virtualDiskSize,
  [items.virtualDiskId]: virtualDiskId,
  [items.logicalSectorSize]: logicalSectorSize,
  [items.physicalSectorSize]: physicalSectorSize,
};

/** The metadata table and the items behind it. */
export function annotateMetadata(node: VhdxNode, window: HostRange): Annotation[] {
  const { file, table, metadata } = node.image;
  const { offset } = table.metadata;
  const shape = { head: metadataTableHeader, entry: metadataTableEntry, count: metadata.items.length };
  const found = overlaps(window, offset, metadataTableLength) ? annotateTable(file, shape, offset, window) : [];
  for (const item of metadata.items) {
    if (item.length === 0) continue;
    const at = offset + item.offset;
    const structure = itemStructures[item.id];
    if (structure !== undefined) {
      found.push(...annotateStructure(file, structure, at, window));
    } else if (item.id === items.parentLocator) {
      const locator = { head: parentLocatorHeader, entry: parentLocatorEntry, count: node.locator?.pairs.size ?? 0 };
      found.push(...annotateTable(file, locator, at, window), ...annotatePairs(node, at, item.length, window));
    } else if (overlaps(window, at, item.length)) {
      found.push(plain(at, item.length, item.name, 'content', `${item.length} bytes`, 'an item that is not read here'));
    }
  }
  return found;
}

/** Keys and values of the parent locator, behind its table. */
function annotatePairs(node: VhdxNode, at: number, length: number, window: HostRange): Annotation[] {
  const pairs = node.locator?.pairs ?? new Map<string, string>();
  const start = at + parentLocatorHeader.size + pairs.size * parentLocatorEntry.size;
  const rest = at + length - start;
  if (rest <= 0 || !overlaps(window, start, rest)) return [];
  const value = [...pairs].map(([key, text]) => `${key} = ${text}`).join('; ');
  return [plain(start, rest, 'Parent Locator', 'Keys and values', value, 'UTF-16LE; the table says where each begins')];
}

/** Header, descriptors and data sectors of an entry of the log; it may go around the end of the log. */
export function annotateLog(node: VhdxNode, entry: LogEntry, window: HostRange): Annotation[] {
  const { file, section } = node.image;
  const { LogOffset, LogLength } = section.header;
  const area = descriptorArea(entry.header.DescriptorCount);
  const found: Annotation[] = [];
  const { start, end } = clip(window);
  for (let sector = start - (start % logSectorLength); sector < end; sector += logSectorLength) {
    const within = (sector - LogOffset - entry.at + LogLength) % LogLength;
    if (within >= entry.header.EntryLength) continue;
    if (within >= area) {
      found.push(...annotateStructure(file, dataSector, sector, window));
      continue;
    }
    if (within === 0) found.push(...annotateStructure(file, logEntryHeader, sector, window));
    for (let at = within === 0 ? logEntryHeader.size : 0; at < logSectorLength; at += descriptorLength) {
      const index = (within + at - logEntryHeader.size) / descriptorLength;
      if (index >= entry.header.DescriptorCount) break;
      const signature = new Uint8Array(4);
      file.readAt(signature, sector + at);
      const isZero = signature[0] === 0x7a;
      found.push(...annotateStructure(file, isZero ? zeroDescriptor : dataDescriptor, sector + at, window));
    }
  }
  return found;
}

const bitmapLine = 64;

/** One line per 64 bytes of a sector bitmap: which guest bytes they speak of, and how many sectors are here. */
export function annotateBitmap(node: VhdxNode, chunk: number, at: number, window: HostRange): Annotation[] {
  const { file } = node.image;
  const { logicalSectorSize: sector, blockSize } = node.geometry;
  const { start, end } = clip(window);
  const found: Annotation[] = [];
  const bytes = new Uint8Array(bitmapLine);
  for (
    let line = Math.max(at, start - (start % bitmapLine));
    line + bitmapLine <= Math.min(end, file.size);
    line += bitmapLine
  ) {
    file.readAt(bytes, line);
    let set = 0;
    for (const byte of bytes) for (let rest = byte; rest !== 0; rest &= rest - 1) set++;
    const guest = chunk * node.table.ratio * blockSize + (line - at) * 8 * sector;
    const meaning = `guest bytes from ${guest}: the sectors that this image has`;
    found.push(plain(line, bitmapLine, 'Sector Bitmap', 'bits', `${set} of ${bitmapLine * 8} set`, meaning));
  }
  return found;
}

/** What guest bytes the block on the screen holds. */
export function annotatePayload(node: VhdxNode, block: number, at: number, window: HostRange): Annotation[] {
  const { start, end } = clip(window);
  const from = Math.max(at, start);
  if (end <= from) return [];
  const guest = block * node.geometry.blockSize + (from - at);
  return [plain(from, end - from, 'Payload Block', `block ${block}`, `guest bytes from ${guest}`, "the guest's data")];
}

function plain(
  start: number,
  length: number,
  structure: string,
  field: string,
  value: string,
  meaning: string,
): Annotation {
  return { start, length, structure, field, value, meaning, fault: null };
}

// What each stretch of a VHD file is for.
import type { Annotation } from '../../bytes/struct.ts';
import type { Storage } from '../../block/storage.ts';
import type { HostOffset, HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import { hasSector, sectorRun } from './bitmap.ts';
import { placedBlocks } from './blocks.ts';
import { findFooters, type FoundFooter } from './footer.ts';
import { roomAt } from './layout.ts';
import { DynamicNode, type VhdNode } from './node.ts';
import { dynamicHeader, firstLocator, footer, parentLocator, sectorSize, unallocated } from './spec.ts';
import { structures, type FixedUse } from './use.ts';

type Use = Omit<Region, 'start' | 'length'> & HostRange;

const noAnnotations = (): Annotation[] => [];

/** The regions of the image's file, in order, without gap or overlap. Throws `storage/*`. */
export function* vhdRegions(node: VhdNode, role: string): Generator<Region, void, void> {
  if (role !== 'file') return;
  const { size } = node.storage;
  let at = 0;
  for (const use of uses(node)) {
    const start = Math.max(at, use.start);
    const end = Math.min(size, use.start + use.length);
    if (end <= start) continue;
    if (start > at) yield lost(at, start - at);
    yield { ...use, start, length: end - start, annotate: (window) => within(use.annotate(window), start, end) };
    at = end;
  }
  if (at < size) yield lost(at, size - at);
}

/** What damage puts on top of each other is cut like the regions are. */
function within(notes: readonly Annotation[], start: HostOffset, end: HostOffset): Annotation[] {
  return notes.flatMap((note) => {
    const from = Math.max(start, note.start);
    const to = Math.min(end, note.start + note.length);
    return from < to ? [{ ...note, start: from, length: to - from }] : [];
  });
}

function lost(start: HostOffset, length: number): Region {
  return { start, length, label: 'unused', kind: 'lost', annotate: noAnnotations };
}

/** Everything in use by its start; what overlaps is cut by the caller. */
function* uses(node: VhdNode): Generator<Use, void, void> {
  const { end } = findFooters(node.storage);
  if (!(node instanceof DynamicNode)) {
    yield { start: 0, length: node.size, label: 'guest disk', kind: 'data', annotate: noAnnotations };
    if (end !== null) yield footerUse(end);
    return;
  }
  const fixed = structures(node);
  const blocks = placedBlocks(node);
  let next = blocks.next();
  for (const use of fixed) {
    while (next.done !== true && next.value.room < use.start) {
      yield* blockUses(node, next.value.block, next.value.room);
      next = blocks.next();
    }
    yield structureUse(node, use);
  }
  while (next.done !== true) {
    yield* blockUses(node, next.value.block, next.value.room);
    next = blocks.next();
  }
  if (end !== null) yield footerUse(end);
}

function footerUse(found: FoundFooter): Use {
  const { offset, length } = found;
  const bytes = found.bytes.subarray(0, length);
  return {
    start: offset,
    length,
    label: 'footer',
    kind: 'header',
    annotate: cut(() => footer.annotate(bytes, offset)),
  };
}

/** Only the annotations that touch the window. */
function cut(all: () => Annotation[]): (window: HostRange) => Annotation[] {
  return ({ start, length }) =>
    all().filter((annotation) => annotation.start < start + length && annotation.start + annotation.length > start);
}

function take(storage: Storage, start: HostOffset, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, storage.size - start)));
  storage.readAt(bytes, start);
  return bytes;
}

function structureUse(node: DynamicNode, use: FixedUse): Use {
  const { start, length, index } = use;
  const { storage } = node;
  switch (use.what) {
    case 'footer copy': {
      const annotate = cut(() => footer.annotate(take(storage, start, length), start));
      return { start, length, label: 'footer copy', kind: 'header', annotate };
    }
    case 'header':
      return { start, length, label: 'dynamic disk header', kind: 'header', annotate: cut(() => headerNotes(node)) };
    case 'table':
      return { start, length, label: 'BAT', kind: 'table', annotate: (window) => tableNotes(node, window) };
    case 'name': {
      const name = node.locators.find((locator) => locator.index === index);
      const annotation: Annotation = {
        start,
        length,
        structure: 'parent locator',
        field: name?.entry.platform_code ?? '',
        value: name?.name ?? '',
        meaning: 'a name of the parent',
        fault: null,
        path: `locator[${index}].name`,
        section: 'VHD 1.0: Parent Locator Entries',
      };
      return { start, length, label: `parent name ${index + 1}`, kind: 'header', annotate: cut(() => [annotation]) };
    }
    case 'batmap':
      return { start, length, label: 'batmap of Xen', kind: 'table', annotate: noAnnotations };
  }
}

function headerNotes(node: DynamicNode): Annotation[] {
  const { headerOffset, headerBytes } = node;
  const notes = dynamicHeader.annotate(headerBytes, headerOffset);
  const isLocator = ({ field }: Annotation): boolean => field.startsWith('parent_locator_entry_');
  const locators = notes.filter(isLocator).flatMap((note, index) => {
    const at = firstLocator + index * parentLocator.size;
    return parentLocator
      .annotate(headerBytes.subarray(at, at + parentLocator.size), headerOffset + at)
      .map((part) => ({ ...part, structure: note.field, path: `locator[${index}].${part.field}` }));
  });
  return [...notes.filter((note) => !isLocator(note)), ...locators].sort((a, b) => a.start - b.start);
}

function tableNotes(node: DynamicNode, window: HostRange): Annotation[] {
  const { table } = node;
  const first = Math.max(0, Math.floor((window.start - table.offset) / 4));
  const end = Math.min(table.entries, Math.ceil((window.start + window.length - table.offset) / 4));
  const notes: Annotation[] = [];
  for (let block = first; block < end; block++) {
    const entry = table.get(block);
    const outside = entry !== unallocated && roomAt(entry) + node.layout.roomSize > node.storage.size;
    notes.push({
      start: table.offset + 4 * block,
      length: 4,
      structure: 'BAT',
      field: `BAT[${block}]`,
      value: entry === unallocated ? 'not allocated' : `sector ${entry} (offset 0x${roomAt(entry).toString(16)})`,
      meaning: `where block ${block} stands`,
      fault: outside ? 'lies outside of the file' : null,
      path: `BAT[${block}]`,
      section: 'VHD 1.0: Block Allocation Table and Data Blocks',
      ...(entry === unallocated || outside ? {} : { target: { offset: roomAt(entry) } }),
    });
  }
  return notes;
}

function* blockUses(node: DynamicNode, block: number, room: HostOffset): Generator<Use, void, void> {
  const { bitmapSize, blockSize } = node.layout;
  yield {
    start: room,
    length: bitmapSize,
    label: `block ${block} bitmap`,
    kind: 'table',
    annotate: cut(() => [bitmapNote(node, block, room)]),
  };
  yield { start: room + bitmapSize, length: blockSize, label: `block ${block}`, kind: 'data', annotate: noAnnotations };
}

function bitmapNote(node: DynamicNode, block: number, room: HostOffset): Annotation {
  const { bitmapSize, sectorsPerBlock, blockSize } = node.layout;
  const bits = take(node.storage, room, bitmapSize);
  let present = 0;
  for (let sector = 0; sector < sectorsPerBlock;) {
    const run = sectorRun(bits, sector, sectorsPerBlock);
    if (hasSector(bits, sector)) present += run;
    sector += run;
  }
  return {
    start: room,
    length: bitmapSize,
    structure: `block ${block}`,
    field: 'bitmap',
    value: `${present} of ${blockSize / sectorSize} sectors`,
    meaning: 'one bit per sector: it is in this file',
    fault: null,
    path: `block[${block}].bitmap`,
    section: 'VHD 1.0: Block Allocation Table and Data Blocks',
  };
}

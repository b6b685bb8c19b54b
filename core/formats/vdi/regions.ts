// What each stretch of a VDI file is for.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostOffset, HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import { headerEnd } from './header.ts';
import type { VdiNode } from './node.ts';
import { freeBlock, header0, header1, headerOffset, logicalGeometry, preHeader, zeroBlock } from './spec.ts';

const noAnnotations = (): Annotation[] => [];

/** The regions of the image's file, in order, without gap or overlap. Throws `storage/*`. */
export function* vdiRegions(node: VdiNode, role: string): Generator<Region, void, void> {
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

function lost(start: HostOffset, length: number): Region {
  return { start, length, label: 'unused', kind: 'lost', annotate: noAnnotations };
}

/** What damage puts on top of each other is cut like the regions are. */
function within(notes: readonly Annotation[], start: HostOffset, end: HostOffset): Annotation[] {
  return notes.flatMap((note) => {
    const from = Math.max(start, note.start);
    const to = Math.min(end, note.start + note.length);
    return from < to ? [{ ...note, start: from, length: to - from }] : [];
  });
}

function* uses(node: VdiNode): Generator<Region, void, void> {
  const { blockMap, storage } = node;
  yield {
    start: 0,
    length: headerEnd(node.header),
    label: 'header',
    kind: 'header',
    annotate: cut(() => headNotes(node)),
  };
  const length = 4 * node.header.values.blocks_in_image;
  const annotate = (window: HostRange): Annotation[] => mapNotes(node, window);
  yield { start: blockMap.offset, length, label: 'block map', kind: 'table', annotate };
  const { block_extra, block_size } = node.header.values;
  for (const block of inFileOrder(node)) {
    const start = node.placeOf(blockMap.get(block));
    if (start >= storage.size) continue;
    if (block_extra > 0) {
      const label = `block ${block} extra data`;
      yield { start: start - block_extra, length: block_extra, label, kind: 'lost', annotate: noAnnotations };
    }
    yield { start, length: block_size, label: `block ${block}`, kind: 'data', annotate: noAnnotations };
  }
}

/** The stored blocks by their place. */
function inFileOrder(node: VdiNode): Uint32Array {
  const { blockMap } = node;
  let count = 0;
  let last = -1;
  let isSorted = true;
  for (let block = 0; block < blockMap.entries; block++) {
    const entry = blockMap.get(block);
    if (entry >= zeroBlock) continue;
    if (entry < last) isSorted = false;
    last = entry;
    count++;
  }
  const order = new Uint32Array(count);
  for (let block = 0, at = 0; block < blockMap.entries; block++)
    if (blockMap.get(block) < zeroBlock) order[at++] = block;
  return isSorted ? order : order.sort((a, b) => blockMap.get(a) - blockMap.get(b) || a - b);
}

/** Only the annotations that touch the window. */
function cut(all: () => Annotation[]): (window: HostRange) => Annotation[] {
  return ({ start, length }) =>
    all().filter((annotation) => annotation.start < start + length && annotation.start + annotation.length > start);
}

function headNotes(node: VdiNode): Annotation[] {
  const { head, header } = node;
  const rest = head.subarray(headerOffset);
  const notes = preHeader.annotate(head, 0);
  if (header.major === 0) return [...notes, ...header0.annotate(rest, headerOffset)];
  const more = logicalGeometry.annotate(rest.subarray(header1.size), headerOffset + header1.size);
  return [...notes, ...header1.annotate(rest, headerOffset), ...more];
}

function mapNotes(node: VdiNode, window: HostRange): Annotation[] {
  const { blockMap } = node;
  const first = Math.max(0, Math.floor((window.start - blockMap.offset) / 4));
  const end = Math.min(blockMap.entries, Math.ceil((window.start + window.length - blockMap.offset) / 4));
  const notes: Annotation[] = [];
  for (let block = first; block < end; block++) {
    const entry = blockMap.get(block);
    const outside = entry < zeroBlock && node.placeOf(entry) >= node.storage.size;
    notes.push({
      start: blockMap.offset + 4 * block,
      length: 4,
      structure: 'block map',
      field: `block map[${block}]`,
      value: showEntry(node, entry),
      meaning: `where block ${block} stands`,
      fault: outside ? 'lies outside of the file' : null,
      path: `map[${block}]`,
      section: 'VDI: block map',
      ...(entry >= zeroBlock || outside ? {} : { target: { offset: node.placeOf(entry) } }),
    });
  }
  return notes;
}

function showEntry(node: VdiNode, entry: number): string {
  if (entry === freeBlock) return 'free';
  if (entry === zeroBlock) return 'zero';
  return `place ${entry} (offset 0x${node.placeOf(entry).toString(16)})`;
}

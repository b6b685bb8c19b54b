// What each stretch of a file of a VMDK image is for: every byte once, in order.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import type { SparseExtent } from './sparse.ts';
import { GrainUse } from './grain-use.ts';
import type { VmdkNode } from './node.ts';
import { readDirectory } from './open-sparse.ts';
import { cowdHeader, hostedHeader, sectorSize, seSparseHeader, seSparseVolatile } from './spec.ts';
import { streamParts } from './stream-parts.ts';
import { directoryPart, headerPart, tableParts, type Part } from './region-parts.ts';

/** The regions of the file with this role. */
export function* vmdkRegions(node: VmdkNode, role: string): Generator<Region, void, void> {
  const storage = node.files.find((file) => file.role === role)?.storage;
  if (storage === undefined) return;
  const parts: Part[] = [];
  const { place } = node;
  if (place.storage === storage) {
    const end = place.room === null ? storage.size : place.offset + place.room;
    parts.push({ start: place.offset, end, label: 'descriptor', kind: 'header', annotate: descriptorLines(node) });
    if (place.room !== null && !node.embedded) parts.push(headerPart(storage, hostedHeader, 0));
  }
  let data: Iterable<Part> = [];
  let dataStart = 0;
  for (const extent of node.extents) {
    if (extent.storage !== storage) continue;
    if (extent.kind === 'flat') {
      const { base, size } = extent;
      parts.push({ start: base, end: Math.min(storage.size, base + size), label: 'guest data', kind: 'data' });
    } else if (extent.kind === 'sparse') {
      parts.push(...metadataParts(extent));
      dataStart = extent.form.id === 'hosted' ? extent.form.header.overHead * sectorSize : 0;
      data = extent.markers ? streamParts(extent) : grainParts(extent);
    }
  }
  parts.sort((a, b) => a.start - b.start);
  const slackEnd = Math.max(dataStart, place.storage === storage && place.room === null ? storage.size : 0);
  yield* cover(storage.size, inOrder(parts, data), slackEnd);
}

/** Two ordered lists as one. */
function* inOrder(parts: readonly Part[], data: Iterable<Part>): Generator<Part, void, void> {
  let at = 0;
  for (const part of data) {
    for (let next = parts[at]; next !== undefined && next.start <= part.start; next = parts[++at]) yield next;
    yield part;
  }
  for (let next = parts[at]; next !== undefined; next = parts[++at]) yield next;
}

/** Names the gaps; where parts overlap (a damaged image) the first one has the bytes. */
function* cover(size: number, parts: Iterable<Part>, slackEnd: number): Generator<Region, void, void> {
  let at = 0;
  const gap = (end: number): Region => {
    const label = end <= slackEnd ? 'padding' : 'not referenced';
    return { start: at, length: end - at, label, kind: 'lost', annotate: () => [] };
  };
  for (const part of parts) {
    const { start, end, label, kind } = part;
    const from = Math.max(at, Math.min(start, size));
    const to = Math.min(end, size);
    if (to <= from) continue;
    if (from > at) yield gap(from);
    yield { start: from, length: to - from, label, kind, annotate: (window) => part.annotate?.(window) ?? [] };
    at = to;
  }
  if (at < size) yield gap(size);
}

const descriptorRow = {
  structure: 'Descriptor',
  meaning: 'a line of the descriptor',
  fault: null,
  section: 'VMDK 5.0: The Descriptor File',
} as const;

/** One line of the descriptor after the other. */
function descriptorLines(node: VmdkNode): (window: HostRange) => Annotation[] {
  return (window) => {
    const rows: Annotation[] = [];
    let start = node.place.offset;
    for (const line of node.descriptor.text.split('\n')) {
      const length = line.length + 1;
      if (start >= window.start + window.length) break;
      if (start + length > window.start && line.trim() !== '') {
        const text = line.trim();
        const equals = text.indexOf('=');
        const name = equals > 0 && !text.startsWith('#') ? text.slice(0, equals).trim() : 'line';
        const value = equals > 0 ? text.slice(equals + 1).trim() : text;
        rows.push({ ...descriptorRow, start, length, field: name, value, path: `descriptor.${name}` });
      }
      start += length;
    }
    return rows;
  };
}

/** Headers, directories and tables of a sparse extent. (Those of a stream with markers are found in its walk.) */
function metadataParts(extent: SparseExtent): Part[] {
  const { storage, form, directory, redundantOffset, entriesPerTable } = extent;
  const parts: Part[] = [];
  const count = directory.entries.length;
  const tableBytes = entriesPerTable * extent.tables.source.entryBytes;
  if (form.id === 'hosted') {
    parts.push(headerPart(storage, hostedHeader, 0));
    if (form.atEnd) return parts;
    parts.push(directoryPart(extent, directory.offset, 'grain directory', count, 4));
    parts.push(...tableParts(extent, (table) => extent.tables.source.offsetOf(table), 'grain tables', tableBytes));
    if (redundantOffset !== null) {
      parts.push(directoryPart(extent, redundantOffset, 'redundant grain directory', count, 4));
      const { entries } = readDirectory(storage, redundantOffset, count);
      const offsetOf = (table: number): number => (entries[table] ?? 0) * sectorSize;
      parts.push(...tableParts(extent, offsetOf, 'redundant grain tables', tableBytes));
    }
    return parts;
  }
  if (form.id === 'cowd') {
    parts.push(headerPart(storage, cowdHeader, 0));
    parts.push(directoryPart(extent, directory.offset, 'grain directory', form.header.numGDEntries, 4));
  } else {
    parts.push(...seSparseParts(extent, form.header));
    parts.push(
      directoryPart(extent, directory.offset, 'grain directory', (form.header.grain_dir_size * sectorSize) / 8, 8),
    );
  }
  parts.push(...tableParts(extent, (table) => extent.tables.source.offsetOf(table), 'grain tables', tableBytes));
  return parts;
}

function seSparseParts(extent: SparseExtent, header: Record<string, unknown>): Part[] {
  const { storage } = extent;
  const sectors = (name: string): number => Number(header[name]) * sectorSize;
  const stretch = (what: string, label: string, kind: Region['kind']): Part => {
    const start = sectors(`${what}_offset`);
    return { start, end: start + sectors(`${what}_size`), label, kind };
  };
  return [
    headerPart(storage, seSparseHeader, 0),
    headerPart(storage, seSparseVolatile, sectors('volatile_header_offset'), 'volatile header'),
    stretch('journal_header', 'journal header', 'log'),
    stretch('journal', 'journal', 'log'),
    stretch('free_bitmap', 'free bitmap', 'table'),
    stretch('backmap', 'back map', 'table'),
  ];
}

/** Grains of a plain extent: neighbours in the file are one part. */
function* grainParts(extent: SparseExtent): Generator<Part, void, void> {
  const use = takenGrains(extent);
  for (const { start, end } of use.stretches()) yield { start, end, label: 'grains', kind: 'data' };
}

function takenGrains(extent: SparseExtent): GrainUse {
  const sectors = extent.grainSize / sectorSize;
  const phase = extent.form.id === 'hosted' ? extent.form.header.overHead : 0;
  const use = new GrainUse(extent.storage, sectors, phase);
  for (let table = 0; table < extent.directory.entries.length; table++) {
    if (extent.tables.source.offsetOf(table) === 0) continue;
    for (const entry of extent.tables.readable(table)) {
      if (extent.isPlace(entry) && entry * sectorSize < extent.storage.size) use.take(entry, sectors);
    }
  }
  return use;
}

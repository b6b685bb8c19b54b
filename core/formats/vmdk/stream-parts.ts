// A walk over a stream with markers, from its first marker to its last: for the regions of the file.
import { alignUp, type HostOffset } from '../../block/units.ts';
import type { Annotation } from '../../bytes/struct.ts';
import { directoryPart, headerPart, tablePart, type Part } from './region-parts.ts';
import type { SparseExtent } from './sparse.ts';
import { grainMarkerLength, hostedHeader, marker, markerType, sectorSize } from './spec.ts';

/** Grains per region at most: their markers are read again to annotate them. */
const grainsPerPart = 1024;

interface FoundMarker {
  readonly val: number;
  readonly size: number;
  readonly type: number;
}

/** The marker at `offset`; null where there cannot be one. */
function markerAt(extent: SparseExtent, offset: HostOffset): FoundMarker | null {
  const { storage } = extent;
  if (offset + marker.size > storage.size) return null;
  const bytes = new Uint8Array(marker.size);
  storage.readAt(bytes, offset);
  const view = new DataView(bytes.buffer);
  // A number of sectors that large is no marker.
  if (view.getUint32(4, true) > 0xffff) return null;
  const found = marker.parseLoosely(bytes);
  if (found.size > 0) {
    const plausible = found.size <= 2 * extent.grainSize && found.val * sectorSize < extent.size;
    return plausible ? found : null;
  }
  return found.type <= markerType.footer ? found : null;
}

/** Grains, tables, directory and footer in the order of the file. It ends where no marker follows. */
export function* streamParts(extent: SparseExtent): Generator<Part, void, void> {
  if (extent.form.id !== 'hosted') return;
  const tableBytes = alignUp(extent.entriesPerTable * 4, sectorSize);
  const tableAt = new Map<HostOffset, number>();
  extent.directory.entries.forEach((sector, table) => {
    if (sector > 0) tableAt.set(sector * sectorSize, table);
  });
  let at = extent.form.header.overHead * sectorSize;
  let grains: { start: HostOffset; count: number } | null = null;
  const closeGrains = (): Part | null => {
    const part = grains === null ? null : grainsPart(extent, grains.start, at);
    grains = null;
    return part;
  };
  for (;;) {
    const found = markerAt(extent, at);
    const isGrain = found !== null && found.size > 0;
    if (grains !== null && (!isGrain || (grains as { count: number }).count >= grainsPerPart)) {
      const part = closeGrains();
      if (part !== null) yield part;
    }
    if (found === null) return;
    if (isGrain) {
      if (grains === null) grains = { start: at, count: 0 };
      (grains as { count: number }).count++;
      at += alignUp(grainMarkerLength + found.size, sectorSize);
      continue;
    }
    // The rest of the marker's sector belongs to it.
    yield { ...headerPart(extent.storage, marker, at, 'marker'), end: at + sectorSize };
    at += sectorSize;
    switch (found.type) {
      case markerType.grainTable: {
        const first = tableAt.get(at);
        const part = { start: at, end: at + tableBytes };
        yield first === undefined
          ? { ...part, label: 'grain table (not referenced)', kind: 'lost' }
          : tablePart(extent, { ...part, first }, 'grain table');
        at = part.end;
        break;
      }
      case markerType.grainDirectory: {
        const end = at + alignUp(extent.directory.entries.length * 4, sectorSize);
        yield { ...directoryPart(extent, at, 'grain directory', extent.directory.entries.length, 4), end };
        at = end;
        break;
      }
      case markerType.footer:
        yield headerPart(extent.storage, hostedHeader, at, 'footer');
        at += sectorSize;
        break;
      default:
        return;
    }
  }
}

/** Compressed grains one behind the other, each with its marker. */
function grainsPart(extent: SparseExtent, start: HostOffset, end: HostOffset): Part {
  return {
    start,
    end,
    label: 'compressed grains',
    kind: 'data',
    annotate(window) {
      const rows: Annotation[] = [];
      let at = start;
      while (at < end && at < window.start + window.length) {
        const found = markerAt(extent, at);
        if (found === null || found.size === 0) break;
        const length = alignUp(grainMarkerLength + found.size, sectorSize);
        if (at + length > window.start) {
          const section = 'VMDK 5.0: Compressed grain';
          const row = { structure: 'Compressed grain', fault: null, section };
          const packed = { codec: 'zlib' as const, length: found.size };
          rows.push(
            {
              ...row,
              start: at,
              length: 8,
              field: 'val',
              value: `sector ${found.val}`,
              meaning: 'place on the disk',
              path: `grain[${(found.val * sectorSize) / extent.grainSize}].lba`,
              target: { view: 'guest', offset: found.val * sectorSize },
            },
            {
              ...row,
              start: at + 8,
              length: 4,
              field: 'size',
              value: String(found.size),
              meaning: 'bytes of the stream',
              path: `grain[${(found.val * sectorSize) / extent.grainSize}].size`,
              target: { offset: at + grainMarkerLength, packed },
            },
          );
        }
        at += length;
      }
      const stop = window.start + window.length;
      return rows.filter((row) => row.start < stop && row.start + row.length > window.start);
    },
  };
}

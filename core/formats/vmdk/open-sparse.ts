// Opening a sparse extent: header, footer, directory; everything is held against the file before memory is taken.
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { ExtentFacts } from './extent.ts';
import { GrainTables, type TableCache, type TableSource } from './grain-tables.ts';
import { tablesFor } from './layout.ts';
import { SparseExtent, type Directory, type Reserved, type SparseKind } from './sparse.ts';
import {
  compressDeflate,
  cowdHeader,
  cowdTableEntries,
  directoryLimit,
  gdAtEnd,
  grainSectorsLimit,
  hostedFlag,
  hostedHeader,
  hostedTableEntries,
  marker,
  markerType,
  sectorSize,
  type HostedHeader,
} from './spec.ts';

/** What opening an extent needs besides its file. */
export interface SparseRequest {
  readonly facts: Omit<ExtentFacts, 'size'>;
  readonly storage: Storage;
  readonly cache: TableCache;
  /** Tells the extents of one cache apart. */
  readonly id: number;
  readonly writable: boolean;
  /** A directory that does not lie within the file is no reason to refuse the extent; its tables cannot be read then. */
  readonly tolerant?: boolean | undefined;
}

const fieldFaults = {
  capacity: 'vmdk/directory-size',
  grainSize: 'vmdk/grain-size',
  overHead: 'vmdk/truncated',
} as const;

/** The header at `offset`, without limits but for the magic. Throws `bytes/truncated`, `vmdk/magic`, and for numbers beyond 2^53. */
export function readHostedHeader(storage: Storage, offset: HostOffset = 0): HostedHeader {
  const where = { file: storage.name, offset };
  const bytes = new Uint8Array(Math.max(0, Math.min(hostedHeader.size, storage.size - offset)));
  storage.readAt(bytes, offset);
  try {
    return hostedHeader.parse(bytes, where);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'storage/too-large') throw error;
    const code = fieldFaults[error.where.field as keyof typeof fieldFaults] as
      (typeof fieldFaults)[keyof typeof fieldFaults] | undefined;
    if (code === undefined) throw error;
    throw new ImageError(code, { expected: `${error.facts.found} sectors, in` }, error.where, error);
  }
}

/** A sector read as a marker of metadata: its type; null: it is none. */
function metadataType(storage: Storage, offset: HostOffset): number | null {
  const bytes = new Uint8Array(marker.size);
  if (offset < 0 || offset + marker.size > storage.size) return null;
  storage.readAt(bytes, offset);
  // The value does not matter here, and may be anything.
  const { size, type } = marker.parseLoosely(bytes.fill(0, 0, 8));
  return size === 0 ? type : null;
}

/** How far from the end a footer is looked for: some programs pad a stream that they copy. */
const footerWindow = 64 * 1024;

/** Offset of the footer of a stream: the header before the end-of-stream marker. Throws `vmdk/footer`. */
function findFooter(storage: Storage): HostOffset {
  const last = alignUp(storage.size, sectorSize) - 3 * sectorSize;
  for (let at = last; at >= Math.max(sectorSize, last - footerWindow); at -= sectorSize) {
    const type = metadataType(storage, at);
    if (type === markerType.footer && metadataType(storage, at + 2 * sectorSize) === markerType.endOfStream) {
      return at + sectorSize;
    }
    // Only what reads as end of stream may stand behind it.
    if (at < last && metadataType(storage, at + 2 * sectorSize) !== markerType.endOfStream) break;
  }
  throw new ImageError('vmdk/footer', {}, { file: storage.name, offset: Math.max(0, last) });
}

/**
 * Opens a hosted sparse extent or a stream, `header` being what stands at offset 0. Throws `vmdk/*` with QEMU's sentences.
 */
export function openHosted(request: SparseRequest, first: HostedHeader): SparseExtent {
  const { storage } = request;
  const atEnd = first.gdOffset === gdAtEnd;
  const headerOffset = atEnd ? findFooter(storage) : 0;
  const header = atEnd ? footerHeader(storage, headerOffset) : first;
  const where = (field: string): Where => ({
    file: storage.name,
    offset: headerOffset + (hostedHeader.fields[field as keyof typeof hostedHeader.fields]?.offset ?? 0),
    field,
  });
  const compressed = header.compressAlgorithm === compressDeflate;
  if (header.compressAlgorithm > compressDeflate) {
    throw new ImageError('vmdk/compression', { algorithm: header.compressAlgorithm }, where('compressAlgorithm'));
  }
  if (header.version > 3) throw new ImageError('vmdk/version', { version: header.version }, where('version'));
  if (header.version === 3 && request.writable && !compressed) {
    throw new ImageError('vmdk/version-read-only', {}, where('version'));
  }
  const entries = header.numGTEsPerGT;
  if (entries > hostedTableEntries) throw new ImageError('vmdk/table-size', {}, where('numGTEsPerGT'));
  if (entries === 0 || header.grainSize === 0) throw new ImageError('vmdk/directory-entry', {}, where('numGTEsPerGT'));
  if (Math.ceil(storage.size / sectorSize) < header.overHead && request.tolerant !== true) {
    throw new ImageError('vmdk/truncated', { expected: header.overHead * sectorSize }, where('overHead'));
  }
  const shape = shapeOf(header.capacity, header.grainSize, entries, where);
  const { flags, rgdOffset } = header;
  const redundant = (flags & hostedFlag.redundantTable) !== 0 && rgdOffset > 0 ? rgdOffset * sectorSize : null;
  const directory = readDirectory(storage, header.gdOffset * sectorSize, shape.tables, request.tolerant);
  const reserved: Reserved[] = [{ start: 0, end: sectorSize, what: 'header' }];
  const add = (start: HostOffset, length: number, what: string): void => {
    if (length > 0) reserved.push({ start, end: start + length, what });
  };
  if (first.descriptorOffset > 0) {
    add(first.descriptorOffset * sectorSize, first.descriptorSize * sectorSize, 'descriptor');
  }
  add(directory.offset, shape.tables * 4, 'grain directory');
  if (redundant !== null) add(redundant, shape.tables * 4, 'redundant grain directory');
  return build(request, {
    ...shape,
    directory,
    redundantOffset: redundant,
    reserved,
    entriesPerTable: entries,
    compressed,
    markers: (flags & hostedFlag.markers) !== 0,
    zeroedGrains: (flags & hostedFlag.zeroedGrains) !== 0,
    form: { id: 'hosted', header, headerOffset, atEnd },
  });
}

function footerHeader(storage: Storage, offset: HostOffset): HostedHeader {
  try {
    const header = readHostedHeader(storage, offset);
    if (header.gdOffset !== gdAtEnd) return header;
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'vmdk/magic') throw error;
  }
  throw new ImageError('vmdk/footer', {}, { file: storage.name, offset });
}

/** Opens an ESX server sparse extent. Throws `vmdk/*`. */
export function openCowd(request: SparseRequest): SparseExtent {
  const { storage } = request;
  const bytes = new Uint8Array(Math.min(cowdHeader.size, storage.size));
  storage.readAt(bytes, 0);
  const header = cowdHeader.parse(bytes, { file: storage.name, offset: 0 });
  const where = (field: string): Where => ({
    file: storage.name,
    offset: cowdHeader.fields[field as keyof typeof cowdHeader.fields]?.offset ?? 0,
    field,
  });
  if (header.grainSize === 0) throw new ImageError('vmdk/grain-size', {}, where('grainSize'));
  const shape = shapeOf(header.numSectors, header.grainSize, cowdTableEntries, where);
  if (header.numGDEntries < shape.tables) {
    const detail = { found: header.numGDEntries, needed: shape.tables };
    throw new ImageError('vmdk/directory-short', detail, where('numGDEntries'));
  }
  const directory = readDirectory(storage, header.gdOffset * sectorSize, shape.tables, request.tolerant);
  return build(request, {
    ...shape,
    directory,
    redundantOffset: null,
    reserved: [
      { start: 0, end: cowdHeader.size, what: 'header' },
      { start: directory.offset, end: directory.offset + shape.tables * 4, what: 'grain directory' },
    ],
    entriesPerTable: cowdTableEntries,
    compressed: false,
    markers: false,
    zeroedGrains: false,
    form: { id: 'cowd', header },
  });
}

interface Shape {
  readonly size: number;
  readonly grainSize: number;
  readonly tables: number;
}

/** Size, grain and tables in bytes, within bounds. `capacity` and `grain` in sectors. */
export function shapeOf(capacity: number, grain: number, entries: number, where: (field: string) => Where): Shape {
  if (grain > grainSectorsLimit) throw new ImageError('vmdk/grain-size', {}, where('grainSize'));
  const size = capacity * sectorSize;
  if (!Number.isSafeInteger(size)) throw new ImageError('vmdk/directory-size', {}, where('capacity'));
  const grainSize = grain * sectorSize;
  const tables = tablesFor(size, grainSize, entries);
  if (tables > directoryLimit) throw new ImageError('vmdk/directory-size', {}, where('capacity'));
  return { size, grainSize, tables };
}

/** Reads a grain directory of 32-bit entries, with `tolerant` as far as the file has it. Throws `vmdk/directory-outside`. */
export function readDirectory(storage: Storage, offset: HostOffset, tables: number, tolerant = false): Directory {
  const length = tables * 4;
  let beyond: Directory['beyond'];
  if (tables > 0 && (offset < sectorSize || offset + length > storage.size)) {
    const fault = new ImageError(
      'vmdk/directory-outside',
      { length, size: storage.size },
      { file: storage.name, offset },
    );
    if (!tolerant) throw fault;
    beyond = { from: offset < sectorSize ? 0 : Math.floor(Math.max(0, storage.size - offset) / 4), fault };
  }
  const bytes = new Uint8Array(length);
  const there = beyond === undefined ? length : beyond.from * 4;
  if (there > 0) storage.readAt(bytes.subarray(0, there), offset);
  const view = new DataView(bytes.buffer);
  const entries = new Uint32Array(tables);
  for (let i = 0; i < tables; i++) entries[i] = view.getUint32(4 * i, true);
  return { offset, entries, beyond };
}

interface Built extends Shape {
  readonly directory: Directory;
  readonly redundantOffset: HostOffset | null;
  readonly reserved: readonly Reserved[];
  readonly entriesPerTable: number;
  readonly compressed: boolean;
  readonly markers: boolean;
  readonly zeroedGrains: boolean;
  readonly form: SparseKind;
}

function build(request: SparseRequest, built: Built): SparseExtent {
  const { storage } = request;
  const { directory, entriesPerTable, tables: count } = built;
  const source = directorySource(storage, directory, entriesPerTable, count, built.reserved);
  const tables = new GrainTables(source, request.cache, request.id);
  return new SparseExtent({ ...request.facts, ...built, storage, tables });
}

/** The tables that a directory of 32-bit sector numbers points to. */
export function directorySource(
  storage: Storage,
  directory: Directory,
  entriesPerTable: number,
  tables: number,
  reserved: readonly Reserved[],
): TableSource {
  return {
    storage,
    tables,
    entriesPerTable,
    entryBytes: 4,
    offsetOf: (table) => (directory.entries[table] ?? 0) * sectorSize,
    entryOffsetOf: (table) => directory.offset + 4 * table,
    faultOf: (table) =>
      directory.beyond !== undefined && table >= directory.beyond.from ? directory.beyond.fault : null,
    overlap: (start, end) => overlapOf(reserved, start, end),
  };
}

/** What of `reserved` a stretch of the file meets; null: nothing. */
export function overlapOf(reserved: readonly Reserved[], start: HostOffset, end: HostOffset): string | null {
  return reserved.find((part) => start < part.end && end > part.start)?.what ?? null;
}

// seSparse extents of ESXi 5.1 and later: read only. The format is not published; values other than those seen are refused.
import { ImageError, type Where } from '../../errors/image-error.ts';
import { GrainTables, type Entries } from './grain-tables.ts';
import { overlapOf, shapeOf, type SparseRequest } from './open-sparse.ts';
import { SparseExtent, type Reserved } from './sparse.ts';
import {
  sectorSize,
  seSparseHeader,
  seSparseMagic,
  seSparseVersion,
  seSparseVolatile,
  seSparseVolatileMagic,
  zeroedEntry,
  type SeSparseHeader,
} from './spec.ts';

const hex64 = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;

/** Grain size and size of a table that are known, in sectors. */
const grainSectors = 8;
const tableSectors = 64;
const entriesPerTable = (tableSectors * sectorSize) / 8;
const tableBytes = tableSectors * sectorSize;

/** An entry of the directory that cannot be right: it stands for a table far outside of the file. */
const badTable = 0xffffffff;

/** Opens a seSparse extent. Throws `vmdk/sesparse` with QEMU's sentences, `vmdk/sesparse-write`, `vmdk/directory-*`. */
export function openSeSparse(request: SparseRequest): SparseExtent {
  const { storage } = request;
  const where: Where = { file: storage.name, offset: 0 };
  if (request.writable) throw new ImageError('vmdk/sesparse-write', {}, where);
  const bytes = new Uint8Array(Math.min(seSparseHeader.size, storage.size));
  storage.readAt(bytes, 0);
  const header = seSparseHeader.parse(bytes, where);
  checkHeader(header, where);
  const volatileOffset = header.volatile_header_offset * sectorSize;
  checkVolatile(request, volatileOffset);
  const at = (field: string): Where => ({
    ...where,
    offset: seSparseHeader.fields[field as keyof typeof seSparseHeader.fields]?.offset ?? 0,
    field,
  });
  const shape = shapeOf(header.capacity, grainSectors, entriesPerTable, at);
  const found = (header.grain_dir_size * sectorSize) / 8;
  if (found < shape.tables) {
    throw new ImageError('vmdk/directory-short', { found, needed: shape.tables }, at('grain_dir_size'));
  }
  const directoryOffset = header.grain_dir_offset * sectorSize;
  const entries = readSeDirectory(request, directoryOffset, shape.tables);
  const tablesOffset = header.grain_tables_offset * sectorSize;
  const reserved: Reserved[] = [
    { start: 0, end: sectorSize, what: 'header' },
    { start: volatileOffset, end: volatileOffset + sectorSize, what: 'volatile header' },
    { start: directoryOffset, end: directoryOffset + shape.tables * 8, what: 'grain directory' },
  ];
  const grains = header.grains_offset;
  const tables = new GrainTables(
    {
      storage,
      tables: shape.tables,
      entriesPerTable,
      entryBytes: 8,
      offsetOf(table) {
        const entry = entries[table] ?? 0;
        if (entry === 0) return 0;
        return entry === badTable ? Number.MAX_SAFE_INTEGER : tablesOffset + (entry - 1) * tableBytes;
      },
      entryOffsetOf: (table) => directoryOffset + 8 * table,
      overlap: (start, end) => overlapOf(reserved, start, end),
      decode: (stored, into) => decodeTable(stored, into, grains),
    },
    request.cache,
    request.id,
  );
  return new SparseExtent({
    ...request.facts,
    ...shape,
    storage,
    entriesPerTable,
    compressed: false,
    markers: false,
    zeroedGrains: true,
    form: { id: 'sesparse', header },
    reserved,
    tables,
    directory: { offset: directoryOffset, entries },
    redundantOffset: null,
  });
}

function refuse(reason: string, where: Where, field: keyof typeof seSparseHeader.fields): never {
  const offset = (where.offset ?? 0) + seSparseHeader.fields[field].offset;
  throw new ImageError('vmdk/sesparse', { reason }, { ...where, offset, field });
}

function checkHeader(header: SeSparseHeader, where: Where): void {
  if (header.magic !== seSparseMagic) refuse(`Bad const header magic: ${hex64(header.magic)}`, where, 'magic');
  if (header.version !== seSparseVersion) refuse(`Unsupported version: ${hex64(header.version)}`, where, 'version');
  if (header.grain_size !== grainSectors) refuse(`Unsupported grain size: ${header.grain_size}`, where, 'grain_size');
  if (header.grain_table_size !== tableSectors) {
    refuse(`Unsupported grain table size: ${header.grain_table_size}`, where, 'grain_table_size');
  }
  if (header.flags !== 0n) refuse(`Unsupported flags: ${hex64(header.flags)}`, where, 'flags');
  const reservedBits = [header.reserved1, header.reserved2, header.reserved3, header.reserved4];
  if (reservedBits.some((bits) => bits !== 0n)) {
    refuse(`Unsupported reserved bits: ${reservedBits.map(hex64).join(' ')}`, where, 'reserved1');
  }
  if (header.pad.some((byte) => byte !== 0)) refuse('Unsupported non-zero const header padding', where, 'pad');
}

function checkVolatile(request: SparseRequest, offset: number): void {
  const { storage } = request;
  const where: Where = { file: storage.name, offset };
  const bytes = new Uint8Array(Math.max(0, Math.min(seSparseVolatile.size, storage.size - offset)));
  storage.readAt(bytes, Math.min(offset, storage.size));
  const header = seSparseVolatile.parse(bytes, where);
  const fail = (reason: string, field: keyof typeof seSparseVolatile.fields): never => {
    throw new ImageError(
      'vmdk/sesparse',
      { reason },
      { ...where, offset: offset + seSparseVolatile.fields[field].offset, field },
    );
  };
  if (header.magic !== seSparseVolatileMagic) fail(`Bad volatile header magic: ${hex64(header.magic)}`, 'magic');
  if (header.replay_journal !== 0n) fail('Image is dirty, Replaying journal not supported', 'replay_journal');
  if (header.pad.some((byte) => byte !== 0)) fail('Unsupported non-zero volatile header padding', 'pad');
}

/** 64-bit entries: 0, or 0x10000000 in the upper half and the number of the table in the lower. Gives numbers plus one. */
function readSeDirectory(request: SparseRequest, offset: number, tables: number): Uint32Array {
  const { storage } = request;
  const length = tables * 8;
  if (offset < sectorSize || offset + length > storage.size) {
    throw new ImageError('vmdk/directory-outside', { length, size: storage.size }, { file: storage.name, offset });
  }
  const entries = new Uint32Array(tables);
  const piece = new Uint8Array(Math.min(length, 64 * 1024));
  for (let done = 0; done < length; done += piece.length) {
    const bytes = piece.subarray(0, Math.min(piece.length, length - done));
    storage.readAt(bytes, offset + done);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < bytes.length; i += 8) {
      const low = view.getUint32(i, true);
      const high = view.getUint32(i + 4, true);
      const none = low === 0 && high === 0;
      entries[(done + i) / 8] = none ? 0 : high === 0x10000000 && low < badTable - 1 ? low + 1 : badTable;
    }
  }
  return entries;
}

/** The upper four bits say: 0 not allocated, 1 unmapped, 2 zeroed, 3 allocated; the number of the grain is stored rotated by 12 bits. */
function decodeTable(stored: Uint8Array, into: Entries, grainsSector: number): void {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length);
  for (let i = 0; i < into.length; i++) {
    const low = view.getUint32(8 * i, true);
    const high = view.getUint32(8 * i + 4, true);
    const grain = (low + (high & 0xffff) * 2 ** 32) * 4096 + ((high >>> 16) & 0xfff);
    const kind = high >>> 28;
    if (kind === 0 && low === 0 && high === 0) into[i] = 0;
    else if (kind === 1 || kind === 2) into[i] = zeroedEntry;
    else if (kind === 3 && grain < 2 ** 40) into[i] = grainsSector + grain * grainSectors;
    else {
      const entry = hex64((BigInt(high) << 32n) | BigInt(low));
      throw new ImageError('vmdk/table-entry', { entry }, { field: `GTE ${i}` });
    }
  }
}

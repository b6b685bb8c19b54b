// Growing and shrinking the last extent in place: new tables at the end of the file first, then the header that knows of them.
import type { Storage } from '../../block/storage.ts';
import { alignUp, GiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { FlatWriter, type ExtentWriter } from './extent-writer.ts';
import type { FlatExtent } from './extent.ts';
import { tablesFor } from './layout.ts';
import type { WritableVmdkNode } from './node.ts';
import { directorySource, readDirectory } from './open-sparse.ts';
import { SparseWriter } from './sparse-writer.ts';
import type { Directory, SparseExtent, SparseKind } from './sparse.ts';
import { directoryLimit, hostedHeader, sectorSize, sparseFileLimit } from './spec.ts';

function refuse(node: WritableVmdkNode, reason: string): never {
  throw new ImageError('vmdk/resize', { reason }, { file: node.name });
}

/**
 * Gives the last extent of `node` the size `size` (bytes, whole sectors); everything is in the file already. What is added reads as
 * zeroes. Returns the extent's new writer; the descriptor is the caller's. Throws `vmdk/resize`, `vmdk/full`.
 */
export function resizeExtent(node: WritableVmdkNode, size: number): ExtentWriter {
  const extent = node.extents.at(-1);
  if (extent === undefined || extent.kind === 'zero' || extent.access !== 'RW') {
    return refuse(node, 'The last extent of the image cannot be resized');
  }
  if (size <= 0) refuse(node, 'The new size ends before the last extent of the image begins');
  const split = /^(two|2)Gb/i.test(node.createType);
  if (split && size > 2 * GiB) {
    refuse(node, `An image of the subformat ${node.createType} grows within its last file only, to 2 GiB`);
  }
  if (size > extent.size && node.backing !== null && node.backing.size > node.size) {
    refuse(node, 'The parent is larger than this delta: its old content would show in what is added');
  }
  if (extent.kind === 'flat') return resizeFlat(node, extent, size);
  if (extent.compressed || extent.form.id !== 'hosted') {
    refuse(node, `Images of the subformat ${node.createType} cannot be resized`);
  }
  if (size < extent.size) shrinkSparse(extent, size);
  else growSparse(extent, extent.form, size);
  return new SparseWriter(extent);
}

function resizeFlat(node: WritableVmdkNode, extent: FlatExtent, size: number): ExtentWriter {
  const { storage } = extent;
  const shared = node.extents.some((other) => other !== extent && other.storage === storage);
  if (shared || extent.base + extent.size < storage.size) {
    refuse(node, 'The extent file holds more than this extent');
  }
  storage.truncate(extent.base + size);
  storage.flush();
  extent.size = size;
  return new FlatWriter(extent);
}

/** Grains behind the new end lose their entries, then the header its size, then the file what nothing points to at its end. */
function shrinkSparse(extent: SparseExtent, size: number): void {
  const { grainSize } = extent;
  const writer = new SparseWriter(extent);
  const from = alignUp(size, grainSize);
  if (from < extent.size) writer.release(from, extent.size - from);
  writer.settle(true);
  setTables(extent, size, extent.directory, extent.redundantOffset);
  writeHeader(extent);
  cutEnd(extent);
}

/** Cuts the file of an extent behind the last thing that anything points to; what waited to be written is in it. Its new writer. */
export function cutEnd(extent: SparseExtent): ExtentWriter {
  const { storage, grainSize } = extent;
  const end = alignUp(usedEnd(extent), grainSize);
  if (end < storage.size) storage.truncate(end);
  storage.flush();
  return new SparseWriter(extent);
}

/** Behind the last thing in the file that anything points to. */
function usedEnd(extent: SparseExtent): number {
  const { directory, entriesPerTable, storage, form } = extent;
  const tableLength = alignUp(entriesPerTable * 4, sectorSize);
  let end = form.id === 'hosted' ? form.header.overHead * sectorSize : storage.size;
  for (const part of extent.reserved) end = Math.max(end, part.end);
  const directories = [directory.entries];
  if (extent.redundantOffset !== null) {
    directories.push(readDirectory(storage, extent.redundantOffset, directory.entries.length).entries);
  }
  for (const entries of directories) {
    for (const sector of entries) end = Math.max(end, sector * sectorSize + tableLength);
  }
  for (let table = 0; table < directory.entries.length; table++) {
    const entries = extent.tables.get(table) ?? [];
    for (const entry of entries) {
      if (extent.isPlace(entry)) end = Math.max(end, entry * sectorSize + extent.grainSize);
    }
  }
  return Math.min(end, storage.size);
}

function growSparse(extent: SparseExtent, form: Extract<SparseKind, { id: 'hosted' }>, size: number): void {
  const { storage, entriesPerTable, directory, grainSize } = extent;
  zeroLastGrain(extent);
  const before = directory.entries.length;
  const tables = tablesFor(size, grainSize, entriesPerTable);
  if (tables > directoryLimit)
    throw new ImageError('vmdk/directory-size', {}, { file: storage.name, field: 'capacity' });
  const tableLength = alignUp(entriesPerTable * 4, sectorSize);
  let end = alignUp(storage.size, grainSize);
  const take = (length: number): number => {
    const offset = end;
    end += length;
    if (end > sparseFileLimit) throw new ImageError('vmdk/full', {}, { file: storage.name, offset });
    return offset;
  };
  /** The directory with an empty table for each new entry; it moves to the end where its sectors are full. */
  const extend = (old: Directory): Directory => {
    const entries = new Uint32Array(tables);
    entries.set(old.entries);
    for (let i = before; i < tables; i++) entries[i] = take(tableLength) / sectorSize;
    const room = alignUp(before * 4, sectorSize);
    return { offset: tables * 4 <= room ? old.offset : take(alignUp(tables * 4, sectorSize)), entries };
  };
  const grown = tables > before;
  const primary = grown ? extend(directory) : directory;
  const oldRedundant = extent.redundantOffset === null ? null : readDirectory(storage, extent.redundantOffset, before);
  const redundant = grown && oldRedundant !== null ? extend(oldRedundant) : oldRedundant;
  storage.truncate(alignUp(end, grainSize));
  if (grown) {
    writeEntries(storage, primary);
    if (redundant !== null) writeEntries(storage, redundant);
  }
  storage.flush();
  form.header = {
    ...form.header,
    gdOffset: primary.offset / sectorSize,
    ...(redundant === null ? {} : { rgdOffset: redundant.offset / sectorSize }),
  };
  setTables(extent, size, primary, redundant?.offset ?? null);
  writeHeader(extent);
  storage.flush();
}

/** What lies behind the disk's end in its last grain becomes part of the disk. */
function zeroLastGrain(extent: SparseExtent): void {
  const { grainSize, storage, size } = extent;
  const used = size % grainSize;
  if (used === 0) return;
  const answer = extent.map(size - used, used);
  if (answer.kind !== 'data') return;
  const from = answer.offset + used;
  const length = Math.min(grainSize - used, storage.size - from);
  if (length > 0) storage.zeroAt(from, length);
}

/** All entries; those of the old disk are what they were, so that a power cut between two sectors is harmless. */
function writeEntries(storage: Storage, directory: Directory): void {
  const bytes = new Uint8Array(directory.entries.length * 4);
  const view = new DataView(bytes.buffer);
  directory.entries.forEach((entry, i) => view.setUint32(4 * i, entry, true));
  storage.writeAt(bytes, directory.offset);
}

function setTables(extent: SparseExtent, size: number, directory: Directory, redundantOffset: number | null): void {
  const { storage, entriesPerTable, grainSize } = extent;
  const tables = tablesFor(size, grainSize, entriesPerTable);
  const cut: Directory = { offset: directory.offset, entries: directory.entries.slice(0, tables) };
  const reserved = extent.reserved.filter(({ what }) => !what.endsWith('grain directory'));
  reserved.push({ start: cut.offset, end: cut.offset + tables * 4, what: 'grain directory' });
  if (redundantOffset !== null) {
    reserved.push({ start: redundantOffset, end: redundantOffset + tables * 4, what: 'redundant grain directory' });
  }
  extent.tables = extent.tables.replaced(directorySource(storage, cut, entriesPerTable, tables, reserved));
  extent.directory = cut;
  extent.redundantOffset = redundantOffset;
  extent.reserved = reserved;
  extent.size = size;
}

function writeHeader(extent: SparseExtent): void {
  const { form, storage, size } = extent;
  if (form.id !== 'hosted') return;
  form.header = { ...form.header, capacity: size / sectorSize };
  storage.writeAt(hostedHeader.serialise(form.header), form.headerOffset);
}

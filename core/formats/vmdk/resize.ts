// Growing and shrinking the last extent in place: new tables at the end of the file first, then the header that knows of them.
import type { Preallocation } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { FlatWriter, type ExtentWriter } from './extent-writer.ts';
import type { Extent, FlatExtent } from './extent.ts';
import { tablesFor } from './layout.ts';
import type { WritableVmdkNode } from './node.ts';
import { directorySource, readDirectory } from './open-sparse.ts';
import { SparseWriter } from './sparse-writer.ts';
import type { Directory, SparseExtent, SparseKind } from './sparse.ts';
import { directoryLimit, hostedHeader, sectorSize, sparseFileLimit } from './spec.ts';

function refuse(node: WritableVmdkNode, reason: string): never {
  throw new ImageError('vmdk/resize', { reason }, { file: node.name });
}

/** A resize of one extent: what is done before the image knows of the new size, and after. */
export interface ExtentResize {
  /** Its writer from now on. */
  writer: ExtentWriter;
  /** The size becomes true on the disk, as far as the extent's own file says it. */
  commit(): void;
  /** What is left to do; gives the writer. */
  finish(): ExtentWriter;
}

/**
 * Prepares the size `size` (bytes, whole sectors) for the last extent of `node`; everything is in the file already. A larger extent is
 * ready to be written in all its length; what is added reads as zeroes. Throws `vmdk/resize`, `vmdk/full`.
 */
export function resizeExtent(
  node: WritableVmdkNode,
  extent: Extent | undefined,
  size: number,
  how: Preallocation,
): ExtentResize {
  if (extent === undefined || extent.kind === 'zero' || extent.access !== 'RW') {
    return refuse(node, 'The last extent of the image cannot be resized');
  }
  if (extent.kind === 'flat') return resizeFlat(node, extent, size, how);
  if (extent.compressed || extent.form.id !== 'hosted') {
    refuse(node, `Images of the subformat ${node.createType} cannot be resized`);
  }
  return size < extent.size ? shrinkSparse(extent, size) : growSparse(extent, extent.form, size);
}

function resizeFlat(node: WritableVmdkNode, extent: FlatExtent, size: number, how: Preallocation): ExtentResize {
  const { storage, base } = extent;
  const before = extent.size;
  const shared = node.extents.some((other) => other !== extent && other.storage === storage);
  if (shared || base + before < storage.size) refuse(node, 'The extent file holds more than this extent');
  if (size > before) {
    storage.truncate(base + size);
    if (how === 'falloc' || how === 'full') storage.provide(base + before, size - before, how);
    storage.flush();
  }
  extent.size = size;
  return {
    writer: new FlatWriter(extent),
    commit: () => {},
    finish() {
      if (size < before) {
        storage.truncate(base + size);
        storage.flush();
      }
      return new FlatWriter(extent);
    },
  };
}

/** The header gets its size, then grains behind the new end lose their entries, then the file what nothing points to at its end. */
function shrinkSparse(extent: SparseExtent, size: number): ExtentResize {
  const { grainSize } = extent;
  return {
    writer: new SparseWriter(extent),
    commit() {
      writeHeader(extent, size);
      extent.storage.flush();
    },
    finish() {
      const writer = new SparseWriter(extent);
      const from = alignUp(size, grainSize);
      if (from < extent.size) writer.release(from, extent.size - from);
      writer.settle(true);
      setTables(extent, size, extent.directory, extent.redundantOffset);
      return cutEnd(extent);
    },
  };
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

function growSparse(extent: SparseExtent, form: Extract<SparseKind, { id: 'hosted' }>, size: number): ExtentResize {
  const { storage, entriesPerTable, directory, grainSize } = extent;
  const smaller = extent.size;
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
  // The directories stand where they are needed; the disk is as large as it was.
  writeHeader(extent, smaller);
  storage.flush();
  setTables(extent, size, primary, redundant?.offset ?? null);
  forgetLeft(extent, smaller, before);
  return {
    writer: new SparseWriter(extent),
    commit() {
      writeHeader(extent, size);
      storage.flush();
    },
    finish: () => new SparseWriter(extent),
  };
}

/** Where a shrink was interrupted, tables still have grains behind the old end. */
function forgetLeft(extent: SparseExtent, before: number, tables: number): void {
  const { grainSize, entriesPerTable } = extent;
  const end = Math.min(extent.size, tables * entriesPerTable * grainSize);
  const writer = new SparseWriter(extent);
  let left = false;
  for (let at = alignUp(before, grainSize); at < end; at += grainSize) {
    if (extent.entryOf(at / grainSize) === 0) continue;
    writer.release(at, Math.min(grainSize, extent.size - at));
    left = true;
  }
  if (left) writer.settle(true);
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

function writeHeader(extent: SparseExtent, size: number): void {
  const { form, storage } = extent;
  if (form.id !== 'hosted') return;
  form.header = { ...form.header, capacity: size / sectorSize };
  storage.writeAt(hostedHeader.serialise(form.header), form.headerOffset);
}

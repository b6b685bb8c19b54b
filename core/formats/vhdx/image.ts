// What opening a VHDX reads: header section, log, region table, metadata, parent locator; and the log replayed, in memory or on disk.
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import { HeaderWriter, readHeaderSection, type HeaderSection } from './header.ts';
import { batEntries, type Geometry } from './layout.ts';
import { activeSequence, hasLog, replayOnDisk, type LogSequence } from './log.ts';
import { readMetadata, type Metadata } from './metadata.ts';
import { ReplayedStorage } from './overlay.ts';
import { parseParentLocator, type ParentLocator } from './parent-locator.ts';
import { readRegionTable, type RegionTable } from './region-table.ts';
import { items, zeroGuid } from './spec.ts';

/** A VHDX as read. */
export interface VhdxImage {
  /** The file itself. */
  readonly file: Storage;
  /** The file with its log replayed: what tables and blocks are read from. The file itself where there is nothing to replay. */
  readonly storage: Storage;
  /** `storage`, where it is not the file. */
  readonly replayed: ReplayedStorage | null;
  readonly section: HeaderSection;
  readonly table: RegionTable;
  readonly metadata: Metadata;
  readonly geometry: Geometry;
  readonly locator: ParentLocator | null;
  /** The log as it was found; null: there was nothing to replay. */
  readonly pending: LogSequence | null;
  /** The header named a log that has no valid entry. */
  readonly emptyLog: boolean;
  /** The log was replayed on the disk, or found to be empty, and cleared when this was opened. */
  readonly repaired: boolean;
}

/**
 * Reads `file`. Opened for writing, a log is replayed on the disk first and then cleared; otherwise in memory.
 * `tolerant`: a BAT that reaches beyond the end of the file is no reason to refuse it. Throws `vhdx/*`, `bytes/limit`, `storage/*`.
 */
export function readImage(file: Storage, writable: boolean, tolerant = false): VhdxImage {
  let section = readHeaderSection(file);
  const pending = activeSequence(file, section.header);
  const emptyLog = pending === null && hasLog(section.header);
  let replayed: ReplayedStorage | null = null;
  if (pending !== null && !writable) replayed = new ReplayedStorage(file, section.header, pending);
  if (writable && hasLog(section.header)) {
    if (pending !== null) replayOnDisk(file, section.header, pending);
    new HeaderWriter(file, section).update({ ...HeaderWriter.freshGuids(false), LogGuid: zeroGuid });
    section = readHeaderSection(file);
  }
  const storage = replayed ?? file;
  const table = readRegionTable(storage, section.header, tolerant);
  const metadata = readMetadata(storage, table.metadata);
  const geometry: Geometry = metadata;
  const entries = batEntries(geometry, metadata.hasParent);
  if (entries * 8 > table.bat.length) {
    const where = { file: file.name, offset: table.bat.offset };
    throw new ImageError('vhdx/bat-short', { length: table.bat.length, entries }, where);
  }
  return {
    file,
    storage,
    replayed,
    section,
    table,
    metadata,
    geometry,
    locator: metadata.hasParent ? readLocator(file, table, metadata) : null,
    pending,
    emptyLog,
    repaired: writable && (pending !== null || emptyLog),
  };
}

function readLocator(file: Storage, table: RegionTable, metadata: Metadata): ParentLocator {
  const item = metadata.items.find((candidate) => candidate.id === items.parentLocator);
  const where = { file: file.name, offset: table.metadata.offset + (item?.offset ?? 0) };
  if (metadata.parentLocator === null) throw new ImageError('vhdx/item-missing', { name: 'Parent Locator' }, where);
  return parseParentLocator(metadata.parentLocator, where);
}

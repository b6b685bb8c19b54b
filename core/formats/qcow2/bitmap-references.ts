// The clusters that dirty bitmaps take: their directory, their tables, their data.
import { alignUp } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { Finding } from '../driver.ts';
import { corruption } from './findings.ts';
import { findExtension } from './header.ts';
import { entryOffset } from './layout.ts';
import { bitmapDirectoryEntry, bitmapFlag, bitmapsExtension, extensionType, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';
import { loadTable } from './tables.ts';

/** One bitmap as the directory has it. */
export interface BitmapPlace {
  /** Where its entry stands. */
  readonly offset: number;
  readonly length: number;
  readonly name: string;
  readonly tableOffset: number;
  readonly tableEntries: number;
}

export interface BitmapDirectory {
  readonly offset: number;
  readonly length: number;
  readonly bitmaps: readonly BitmapPlace[];
  /** Why it cannot be believed, in the words of QEMU; null: it can. `bitmaps` then has what stands before the fault. */
  readonly fault: string | null;
}

/** Bytes of bitmap data that QEMU loads for one bitmap. */
const mostBitmapBytes = 0x2000_0000;
const granularityBits = { min: 9, max: 31 } as const;

/** Entries of a bitmap table that are read at once. */
const tablePiece = 128 * 1024;

/**
 * The bitmap directory, or null: there is none that counts (no extension, or its autoclear bit is not set). Specification:
 * "Bitmaps", limits of QEMU. Throws `storage/*`.
 */
export function readBitmapDirectory(state: Qcow2State): BitmapDirectory | null {
  const extension = findExtension(state.header, extensionType.bitmaps);
  if (extension === null || !state.bitmapsValid) return null;
  const where: Where = { file: state.storage.name, offset: extension.offset };
  const head = bitmapsExtension.parse(extension.data, where);
  const { bitmap_directory_offset: offset, bitmap_directory_size: length, nb_bitmaps: count } = head;
  const bitmaps: BitmapPlace[] = [];
  const result = (fault: string | null): BitmapDirectory => ({ offset, length, bitmaps, fault });
  if (length === 0) return result('Requested bitmap directory size is zero');
  if (length > limit.bitmapDirectoryBytes) return result('Requested bitmap directory size is too big');
  const bytes = new Uint8Array(length);
  readPadded(state.storage, bytes, offset);
  let at = 0;
  while (at < length) {
    if (at + bitmapDirectoryEntry.size > length) return result('Broken bitmap directory');
    if (bitmaps.length === count) return result('More bitmaps found than specified in header extension');
    const row = bitmapDirectoryEntry.parseLoosely(bytes.subarray(at), { ...where, offset: offset + at });
    const nameAt = at + bitmapDirectoryEntry.size + row.extra_data_size;
    const end = alignUp(nameAt + row.name_size, 8);
    if (end > length) return result('Broken bitmap directory');
    if (row.extra_data_size !== 0) return result('Bitmap extra data is not supported');
    const name = Buffer.from(bytes.subarray(nameAt, nameAt + row.name_size)).toString('utf8');
    if (!isAllowed(state, row)) return result(`Bitmap '${name}' doesn't satisfy the constraints`);
    const { bitmap_table_offset: tableOffset, bitmap_table_size: tableEntries } = row;
    bitmaps.push({ offset: offset + at, length: end - at, name, tableOffset, tableEntries });
    at = end;
  }
  return result(bitmaps.length === count ? null : 'Less bitmaps found than specified in header extension');
}

type DirectoryRow = ReturnType<typeof bitmapDirectoryEntry.parseLoosely>;

function isAllowed(state: Qcow2State, row: DirectoryRow): boolean {
  const { clusterSize } = state.layout;
  const stored = row.bitmap_table_size * clusterSize;
  return (
    row.bitmap_table_size > 0 &&
    row.bitmap_table_size <= limit.bitmapTableEntries &&
    row.bitmap_table_offset !== 0 &&
    row.bitmap_table_offset % clusterSize === 0 &&
    row.granularity_bits >= granularityBits.min &&
    row.granularity_bits <= granularityBits.max &&
    (row.flags & ~(bitmapFlag.inUse | bitmapFlag.auto)) === 0 &&
    row.name_size <= 1023 &&
    row.type === 1 &&
    stored <= mostBitmapBytes &&
    ((row.flags & bitmapFlag.inUse) !== 0 || state.size <= stored * 8 * 2 ** row.granularity_bits)
  );
}

/** An entry of a bitmap table: reserved bits, a bit for "all ones" beside an offset, an offset inside a cluster. */
export function isSoundEntry(high: number, low: number, clusterSize: number): boolean {
  if ((high & 0xff00_0000) !== 0 || (low & 0x1fe) !== 0) return false;
  const offset = entryOffset(high, low);
  return offset === 0 || ((low & 1) === 0 && offset % clusterSize === 0);
}

/** The clusters with data of one bitmap, in the order of its table; `null` where an entry is damaged. Throws `storage/*`. */
export function* bitmapClusters(state: Qcow2State, bitmap: BitmapPlace): Generator<number | null, void, void> {
  const { storage, layout } = state;
  for (let done = 0; done < bitmap.tableEntries; done += tablePiece) {
    const at = bitmap.tableOffset + done * 8;
    if (at >= storage.size) return;
    const count = Math.min(tablePiece, bitmap.tableEntries - done);
    const piece = loadTable(storage, at, count, 'Bitmap table', 'zero');
    for (let index = 0; index < count; index++) {
      const high = piece[2 * index] ?? 0;
      const low = piece[2 * index + 1] ?? 0;
      const offset = entryOffset(high, low);
      if (!isSoundEntry(high, low, layout.clusterSize)) yield null;
      else if (offset !== 0) yield offset;
    }
  }
}

/**
 * References of the bitmaps, in the order of qemu-img's check, which ends at the first damage: then this throws
 * `qcow2/check-failed`, after the finding.
 */
export function* bitmapReferences(
  state: Qcow2State,
  region: (offset: number, length: number) => Iterable<Finding>,
): Generator<Finding, void, void> {
  const directory = readBitmapDirectory(state);
  if (directory === null) return;
  const where: Where = { file: state.storage.name, offset: directory.offset, field: 'bitmap directory' };
  yield* region(directory.offset, directory.length);
  if (directory.fault !== null) {
    yield corruption('bitmap-directory', `ERROR bitmap directory: ${directory.fault}`, where);
    throw new ImageError('qcow2/check-failed', { reason: 'Invalid argument' }, where);
  }
  for (const bitmap of directory.bitmaps) {
    yield* region(bitmap.tableOffset, bitmap.tableEntries * 8);
    const place: Where = { ...where, offset: bitmap.tableOffset, field: 'bitmap table' };
    for (const offset of bitmapClusters(state, bitmap)) {
      if (offset === null) {
        yield corruption('bitmap-table', `ERROR bitmap '${bitmap.name}': its table has a damaged entry`, place);
        throw new ImageError('qcow2/check-failed', { reason: 'Invalid argument' }, place);
      }
      yield* region(offset, state.layout.clusterSize);
    }
  }
}

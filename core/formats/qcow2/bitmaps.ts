// The bitmaps that an image keeps: their directory.
import { ImageError } from '../../errors/image-error.ts';
import { alignUp } from '../../block/units.ts';
import { findExtension } from './header.ts';
import { bitmapDirectoryEntry, bitmapFlag, bitmapsExtension, extensionType, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** One bitmap as the directory describes it. Offsets and granularity in bytes. */
export interface BitmapEntry {
  readonly name: string;
  readonly inUse: boolean;
  readonly auto: boolean;
  readonly granularity: number;
  readonly tableOffset: number;
  /** Entries of its table. */
  readonly tableSize: number;
}

/** The bitmaps directory: where it stands and how long it is; null: the image has no bitmaps that may be believed. */
export function bitmapDirectory(state: Qcow2State): { offset: number; length: number; count: number } | null {
  const extension = findExtension(state.header, extensionType.bitmaps);
  if (extension === null || !state.bitmapsValid) return null;
  const fields = bitmapsExtension.parse(extension.data, { file: state.storage.name, offset: extension.offset });
  return { offset: fields.bitmap_directory_offset, length: fields.bitmap_directory_size, count: fields.nb_bitmaps };
}

/** The bitmaps (specification: "Bitmap directory"). Throws `qcow2/bitmap-directory`, `qcow2/table-beyond-file`. */
export function readBitmaps(state: Qcow2State): BitmapEntry[] {
  const place = bitmapDirectory(state);
  if (place === null) return [];
  const { storage } = state;
  const where = { file: storage.name, offset: place.offset, field: 'bitmap directory' };
  if (place.length > limit.bitmapDirectoryBytes || place.offset + place.length > storage.size) {
    const detail = { table: 'Bitmap directory', length: place.length, offset: place.offset, size: storage.size };
    throw new ImageError('qcow2/table-beyond-file', detail, where);
  }
  const bytes = new Uint8Array(place.length);
  storage.readAt(bytes, place.offset);
  const bitmaps: BitmapEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    const rest = bytes.subarray(at);
    const here = { ...where, offset: place.offset + at };
    if (rest.length < bitmapDirectoryEntry.size) throw new ImageError('qcow2/bitmap-directory', {}, here);
    const row = bitmapDirectoryEntry.parse(rest, here);
    const nameAt = bitmapDirectoryEntry.size + row.extra_data_size;
    const length = alignUp(nameAt + row.name_size, 8);
    if (length > rest.length || row.granularity_bits > 31) throw new ImageError('qcow2/bitmap-directory', {}, here);
    bitmaps.push({
      name: Buffer.from(rest.subarray(nameAt, nameAt + row.name_size)).toString('utf8'),
      inUse: (row.flags & bitmapFlag.inUse) !== 0,
      auto: (row.flags & bitmapFlag.auto) !== 0,
      granularity: 2 ** row.granularity_bits,
      tableOffset: row.bitmap_table_offset,
      tableSize: row.bitmap_table_size,
    });
    at += length;
  }
  if (bitmaps.length !== place.count) throw new ImageError('qcow2/bitmap-directory', {}, where);
  return bitmaps;
}

/** The bitmaps that were closed properly; null: version 2 has none. Throws what `readBitmaps` throws. */
export function usableBitmaps(state: Qcow2State): BitmapEntry[] | null {
  return state.version < 3 ? null : readBitmaps(state).filter(({ inUse }) => !inUse);
}

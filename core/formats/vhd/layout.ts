// Address arithmetic of dynamic and differencing disks: blocks, their sector bitmaps, the BAT.
import { alignUp, type HostOffset } from '../../block/units.ts';
import { sectorSize } from './spec.ts';

export interface Layout {
  /** Guest bytes per block. */
  readonly blockSize: number;
  /** Bytes of the bitmap before each block's data, in whole sectors. */
  readonly bitmapSize: number;
  /** Bytes that a block takes in the file: bitmap and data. */
  readonly roomSize: number;
  readonly sectorsPerBlock: number;
}

/** The layout for a block size (a power of two, one sector at least). */
export function layoutOf(blockSize: number): Layout {
  const sectorsPerBlock = blockSize / sectorSize;
  const bitmapSize = alignUp(Math.ceil(sectorsPerBlock / 8), sectorSize);
  return { blockSize, bitmapSize, roomSize: bitmapSize + blockSize, sectorsPerBlock };
}

/** Blocks of a disk of `size` bytes. */
export function blockCount(size: number, blockSize: number): number {
  return Math.ceil(size / blockSize);
}

/** Bytes of a BAT with so many entries, in whole sectors. */
export function tableLength(entries: number): number {
  return alignUp(entries * 4, sectorSize);
}

/** Where a BAT entry leads: the block's bitmap; its data follow. Entries count sectors. */
export function roomAt(entry: number): HostOffset {
  return entry * sectorSize;
}

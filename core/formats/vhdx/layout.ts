// Where things are in a VHDX: arithmetic of blocks, chunks and BAT entries, and the places a new file gives its pieces.
import { alignUp, GiB, MiB, TiB } from '../../block/units.ts';
import { headerSectionLength, sectorsPerChunk } from './spec.ts';

export interface Geometry {
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly logicalSectorSize: number;
}

/** Payload blocks per sector bitmap block (2.4). */
export function chunkRatio(geometry: Pick<Geometry, 'blockSize' | 'logicalSectorSize'>): number {
  return (sectorsPerChunk * geometry.logicalSectorSize) / geometry.blockSize;
}

/** Payload blocks of the disk. */
export function blockCount(geometry: Geometry): number {
  return Math.ceil(geometry.virtualSize / geometry.blockSize);
}

/** Chunks of the disk, each with one sector bitmap block. */
export function chunkCount(geometry: Geometry): number {
  return Math.ceil(blockCount(geometry) / chunkRatio(geometry));
}

/** Entries of the BAT (2.5): up to the last payload block, or with a parent up to the last bitmap block. */
export function batEntries(geometry: Geometry, hasParent: boolean): number {
  const blocks = blockCount(geometry);
  const ratio = chunkRatio(geometry);
  if (hasParent) return chunkCount(geometry) * (ratio + 1);
  return blocks === 0 ? 0 : blocks + Math.floor((blocks - 1) / ratio);
}

/** Index in the BAT of payload block `block`: the bitmap entry of each chunk stands behind its payload entries. */
export function payloadIndex(block: number, ratio: number): number {
  return block + Math.floor(block / ratio);
}

/** Index in the BAT of the bitmap block of `chunk`. */
export function bitmapIndex(chunk: number, ratio: number): number {
  return (chunk + 1) * ratio + chunk;
}

/** Block size for a disk where none is asked for: what qemu-img takes. */
export function usualBlockSize(virtualSize: number): number {
  if (virtualSize > 32 * TiB) return 64 * MiB;
  if (virtualSize > 100 * GiB) return 32 * MiB;
  if (virtualSize > GiB) return 16 * MiB;
  return 8 * MiB;
}

/** Places of the pieces in a new file, in bytes; all but the payload stand in this order. */
export interface FileLayout {
  readonly logOffset: number;
  readonly logLength: number;
  readonly batOffset: number;
  readonly batLength: number;
  readonly metadataOffset: number;
  readonly metadataLength: number;
  readonly payloadOffset: number;
}

/** The layout of a new file. The BAT has room for a parent to be given later. */
export function newLayout(geometry: Geometry, logLength: number): FileLayout {
  const logOffset = headerSectionLength;
  const batOffset = logOffset + logLength;
  const batLength = Math.max(minBatLength(geometry), alignUp(batEntries(geometry, true) * 8, MiB));
  const metadataOffset = batOffset + batLength;
  const metadataLength = MiB;
  const payloadOffset = metadataOffset + metadataLength;
  return { logOffset, logLength, batOffset, batLength, metadataOffset, metadataLength, payloadOffset };
}

/** At least 1 MiB. For a disk of no bytes QEMU counts 2^32 - 1 blocks and wants a BAT to match; it stays a hole. */
function minBatLength(geometry: Geometry): number {
  if (geometry.virtualSize > 0) return MiB;
  return alignUp(Math.floor((2 ** 32 - 1) / chunkRatio(geometry)) * 8, MiB);
}

// Address arithmetic of qcow2: pure functions of numbers.
import { alignUp } from '../../block/units.ts';

/** What follows from cluster_bits, refcount_order and the extended L2 bit. Sizes in bytes. */
export interface Layout {
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** 8, or 16 with extended L2 entries. */
  readonly l2EntrySize: number;
  /** Entries of one L2 table (a cluster). */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  readonly subclusters: number;
  readonly subclusterSize: number;
  readonly refcountOrder: number;
  readonly refcountBits: number;
  /** The highest refcount that can be kept, or 2^53-1. */
  readonly refcountMax: number;
  /** Entries of one refcount block (a cluster). */
  readonly refcountBlockEntries: number;
  /** Bits of the host offset of a compressed cluster that lie in the high half, and the mask of its sector count. */
  readonly packedHighBits: number;
  readonly packedSectorMask: number;
}

/** Throws nothing: the arguments have met their limits (9…21, 0…6). */
export function layoutFor(clusterBits: number, refcountOrder: number, extendedL2: boolean): Layout {
  const clusterSize = 2 ** clusterBits;
  const l2EntrySize = extendedL2 ? 16 : 8;
  const l2Entries = clusterSize / l2EntrySize;
  const subclusters = extendedL2 ? 32 : 1;
  const refcountBits = 2 ** refcountOrder;
  return {
    clusterBits,
    clusterSize,
    extendedL2,
    l2EntrySize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    subclusters,
    subclusterSize: clusterSize / subclusters,
    refcountOrder,
    refcountBits,
    refcountMax: refcountBits >= 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    packedHighBits: 62 - (clusterBits - 8) - 32,
    packedSectorMask: 2 ** (clusterBits - 8) - 1,
  };
}

/** Entries that the L1 table of a disk of `size` bytes needs. */
export function l1EntriesFor(layout: Layout, size: number): number {
  return Math.ceil(size / layout.l2Coverage);
}

/** Clusters that `length` bytes take. */
export function clustersFor(layout: Layout, length: number): number {
  return Math.ceil(length / layout.clusterSize);
}

/** The offset in an L1 entry, a standard L2 entry, a bitmap table entry: bits 9…55. */
export function entryOffset(high: number, low: number): number {
  return (high & 0x00ff_ffff) * 0x1_0000_0000 + ((low & 0xffff_fe00) >>> 0);
}

/** The two halves together as a number; exact up to 2^53. */
export function join(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

/** Where a compressed cluster starts. The result may be beyond 2^53 in a damaged image. */
export function packedOffset(layout: Layout, high: number, low: number): number {
  return (high & (2 ** layout.packedHighBits - 1)) * 0x1_0000_0000 + (low >>> 0);
}

/** How many bytes a compressed cluster takes at most: to the end of its last sector. */
export function packedLength(layout: Layout, high: number, low: number): number {
  const sectors = ((high >>> layout.packedHighBits) & layout.packedSectorMask) + 1;
  return sectors * 512 - (low & 511);
}

/** The high half of the L2 entry of a compressed cluster; the low half is the offset's. `length` bytes are stored at `offset`. */
export function packedEntryHigh(layout: Layout, offset: number, length: number): number {
  const sectors = Math.floor((offset + length - 1) / 512) - Math.floor(offset / 512);
  return (0x4000_0000 + sectors * 2 ** layout.packedHighBits + Math.floor(offset / 0x1_0000_0000)) >>> 0;
}

/** Refcount number `index` of a refcount block; a 64-bit one beyond 2^53 comes back as a number beyond it. */
export function getRefcount(block: Uint8Array, order: number, index: number): number {
  switch (order) {
    case 0:
      return ((block[index >> 3] ?? 0) >> (index & 7)) & 1;
    case 1:
      return ((block[index >> 2] ?? 0) >> ((index & 3) * 2)) & 3;
    case 2:
      return ((block[index >> 1] ?? 0) >> ((index & 1) * 4)) & 15;
    case 3:
      return block[index] ?? 0;
    case 4:
      return ((block[index * 2] ?? 0) << 8) | (block[index * 2 + 1] ?? 0);
    case 5:
      return bigEndian32(block, index * 4);
    default:
      return bigEndian32(block, index * 8) * 0x1_0000_0000 + bigEndian32(block, index * 8 + 4);
  }
}

/** Sets refcount number `index` of a refcount block; `value` fits. */
export function setRefcount(block: Uint8Array, order: number, index: number, value: number): void {
  switch (order) {
    case 0:
    case 1:
    case 2: {
      const width = 1 << order;
      const perByte = 8 / width;
      const at = Math.floor(index / perByte);
      const shift = (index % perByte) * width;
      const mask = ((1 << width) - 1) << shift;
      block[at] = ((block[at] ?? 0) & ~mask) | (value << shift);
      return;
    }
    case 3:
      block[index] = value;
      return;
    case 4:
      block[index * 2] = value >> 8;
      block[index * 2 + 1] = value & 0xff;
      return;
    case 5:
      putBigEndian32(block, index * 4, value);
      return;
    default:
      putBigEndian32(block, index * 8, Math.floor(value / 0x1_0000_0000));
      putBigEndian32(block, index * 8 + 4, value >>> 0);
  }
}

function bigEndian32(block: Uint8Array, at: number): number {
  const high = ((block[at] ?? 0) << 8) | (block[at + 1] ?? 0);
  return high * 0x1_0000 + (((block[at + 2] ?? 0) << 8) | (block[at + 3] ?? 0));
}

function putBigEndian32(block: Uint8Array, at: number, value: number): void {
  block[at] = value >>> 24;
  block[at + 1] = (value >>> 16) & 0xff;
  block[at + 2] = (value >>> 8) & 0xff;
  block[at + 3] = value & 0xff;
}

/**
 * Clusters that the refcount structures take when they count `clusters` others and themselves.
 */
export function refcountFootprint(layout: Layout, clusters: number): { tableClusters: number; blockClusters: number } {
  const { clusterSize, refcountBlockEntries } = layout;
  let tableClusters = 0;
  let blockClusters = 0;
  for (;;) {
    const total = clusters + tableClusters + blockClusters;
    const blocks = Math.ceil(total / refcountBlockEntries);
    const table = alignUp(blocks * 8, clusterSize) / clusterSize;
    if (blocks === blockClusters && table === tableClusters) return { tableClusters, blockClusters };
    blockClusters = blocks;
    tableClusters = table;
  }
}

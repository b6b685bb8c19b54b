// Address arithmetic of qcow: pure functions of numbers.

/** What follows from cluster_bits and l2_bits. Sizes in bytes. */
export interface Layout {
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly l2Entries: number;
  /** Bytes of an L2 table. */
  readonly l2Size: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
}

export function layoutFor(clusterBits: number, l2Bits: number): Layout {
  const clusterSize = 2 ** clusterBits;
  const l2Entries = 2 ** l2Bits;
  return { clusterBits, clusterSize, l2Entries, l2Size: l2Entries * 8, l2Coverage: l2Entries * clusterSize };
}

/** The clusters that QEMU chooses: small ones over a layer below, so that little is copied up. */
export function usualLayout(hasBacking: boolean): { readonly cluster_bits: number; readonly l2_bits: number } {
  return hasBacking ? { cluster_bits: 9, l2_bits: 12 } : { cluster_bits: 12, l2_bits: 9 };
}

/** Entries that the L1 table of a disk of `size` bytes has. */
export function l1EntriesFor(layout: Layout, size: number): number {
  return Math.ceil(size / layout.l2Coverage);
}

/** The two halves of an entry as a number; exact up to 2^53. */
export function join(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

/** Where a compressed cluster starts: the entry's lower 63 - cluster_bits bits. May be beyond 2^53 in a damaged image. */
export function packedOffset({ clusterBits }: Layout, high: number, low: number): number {
  return join(high & (2 ** (31 - clusterBits) - 1), low);
}

/** Bytes of a compressed cluster: the bits between that and the top one. */
export function packedLength({ clusterBits, clusterSize }: Layout, high: number): number {
  return (high >>> (31 - clusterBits)) & (clusterSize - 1);
}

/** The high half of the entry of a compressed cluster of `length` bytes at `offset`; the low half is the offset's. */
export function packedHigh({ clusterBits }: Layout, offset: number, length: number): number {
  return (0x8000_0000 + length * 2 ** (31 - clusterBits) + Math.floor(offset / 0x1_0000_0000)) >>> 0;
}

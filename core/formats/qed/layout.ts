// Address arithmetic of qed: pure functions of numbers.

/** What follows from cluster_size, table_size and header_size. Sizes in bytes. */
export interface Layout {
  readonly clusterSize: number;
  /** Of the L1 table and of every L2 table. */
  readonly tableBytes: number;
  readonly tableEntries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  readonly headerBytes: number;
}

export function layoutFor(clusterSize: number, tableSize: number, headerSize: number): Layout {
  const tableBytes = tableSize * clusterSize;
  const tableEntries = tableBytes / 8;
  return {
    clusterSize,
    tableBytes,
    tableEntries,
    l2Coverage: tableEntries * clusterSize,
    headerBytes: headerSize * clusterSize,
  };
}

/** A cluster may stand at `offset` of a file of `fileSize` bytes: aligned, behind the header, whole. */
export function isClusterOffset(layout: Layout, offset: number, fileSize: number): boolean {
  return offset % layout.clusterSize === 0 && offset >= layout.headerBytes && offset + layout.clusterSize <= fileSize;
}

/** A table may stand at `offset`: its first and its last cluster may. */
export function isTableOffset(layout: Layout, offset: number, fileSize: number): boolean {
  const last = offset + layout.tableBytes - layout.clusterSize;
  return isClusterOffset(layout, offset, fileSize) && isClusterOffset(layout, last, fileSize);
}

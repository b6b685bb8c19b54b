// What a VHDX says of itself.
import type { FactTree, ImageFacts } from '../driver.ts';
import type { VhdxNode } from './node.ts';
import { parentName } from './parent-locator.ts';

/** Facts of an open VHDX; identities stand under `further`. */
export function vhdxFacts(node: VhdxNode): ImageFacts {
  const { locator } = node;
  return {
    clusterSize: node.geometry.blockSize,
    encrypted: false,
    dirty: node.image.pending !== null && !node.image.repaired,
    backing: locator === null ? null : { path: parentName(locator), format: 'vhdx' },
    specific: null,
    snapshots: [],
    further: furtherFacts(node),
  };
}

function furtherFacts(node: VhdxNode): FactTree {
  const { section, metadata, pending } = node.image;
  const { header } = section;
  const { locator } = node;
  return {
    subformat: locator !== null ? 'differencing' : metadata.leaveBlocksAllocated ? 'fixed' : 'dynamic',
    creator: section.creator,
    'block-size': node.geometry.blockSize,
    'logical-sector-size': node.geometry.logicalSectorSize,
    'physical-sector-size': metadata.physicalSectorSize,
    'virtual-disk-id': metadata.virtualDiskId,
    'data-write-guid': node.dataWriteGuid,
    'file-write-guid': header.FileWriteGuid,
    log: {
      length: header.LogLength,
      'entries-to-replay': pending === null || node.image.repaired ? 0 : pending.entries.length,
    },
    ...(locator === null
      ? {}
      : { parent: { 'data-write-guid': locator.identities, ...Object.fromEntries(locator.pairs) } }),
  };
}

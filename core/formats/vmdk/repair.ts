// Repairing what can be put right without guessing: redundant tables that do not agree, sizes that only the descriptor has wrong.
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { RepairCounts } from '../driver.ts';
import { compareCopies, openRedundantTables } from './check-sparse.ts';
import { withExtentSize } from './descriptor.ts';
import type { WritableVmdkNode } from './node.ts';
import type { SparseExtent } from './sparse.ts';
import { wrongSizes } from './check.ts';
import { sectorSize } from './spec.ts';

/**
 * The grain tables that everybody reads are copied over redundant ones that differ (`leaks`: only over those that are merely behind);
 * with `all` the descriptor gets the sizes that sparse extents have. Ends with `flush`. Guest content does not change.
 */
export function repairVmdk(node: WritableVmdkNode, what: 'leaks' | 'all', job: Job): RepairCounts {
  let leaks = 0;
  let corruptions = 0;
  for (const extent of node.extents) {
    if (extent.kind !== 'sparse' || extent.access !== 'RW') continue;
    const copies = repairCopies(extent, what, job);
    leaks += copies.leaks;
    corruptions += copies.corruptions;
  }
  if (what === 'all') {
    for (const { extent } of wrongSizes(node)) {
      if (extent.kind !== 'sparse') continue;
      node.rewriteDescriptor(withExtentSize(node.descriptor.text, extent.line, extent.size));
      corruptions++;
    }
  }
  node.flush();
  for (const { storage } of node.files) storage.flush();
  return { leaks, corruptions };
}

function repairCopies(extent: SparseExtent, what: 'leaks' | 'all', job: Job): RepairCounts {
  const counts = { leaks: 0, corruptions: 0 };
  if (extent.redundantOffset === null) return counts;
  let redundant: ReturnType<typeof openRedundantTables>;
  try {
    redundant = openRedundantTables(extent, extent.redundantOffset);
  } catch (error) {
    // Without a directory there is no place to write to.
    if (!(error instanceof ImageError)) throw error;
    return counts;
  }
  for (let table = 0; table < extent.directory.entries.length; table++) {
    job.throwIfCancelled();
    if (extent.tables.faultOf(table) !== null || redundant.faultOf(table) !== null) continue;
    const [first, second] = [extent.tables.get(table), redundant.get(table)];
    if (first === null || second === null) continue;
    const { behind, contradicting } = compareCopies(first, second);
    if (behind === 0 && contradicting.length === 0) continue;
    if (contradicting.length > 0 && what === 'leaks') continue;
    const sector = redundant.source.offsetOf(table) / sectorSize;
    extent.storage.writeAt(extent.tables.bytesOf(table, 1), sector * sectorSize);
    counts.leaks += behind;
    counts.corruptions += contradicting.length;
  }
  return counts;
}

// Giving a disk another parent, its first, or none.
import type { BackingReference } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { resolveReference } from '../gate.ts';
import { batEntries, blockCount, chunkCount } from './layout.ts';
import { identityOf } from './parent.ts';
import { parseParentLocator, recordedPaths, serialiseParentLocator } from './parent-locator.ts';
import { provideBat } from './resize.ts';
import { bitmapState, payloadState } from './spec.ts';
import type { WritableVhdxNode } from './writer.ts';

/**
 * Records `reference` as the parent, with the identity that it has now. What the disk reads through this node stays with the parent it
 * was opened with. Throws `vhdx/fixed-parent`, `vhdx/parent-format`, `gate/*`.
 */
export function changeParent(node: WritableVhdxNode, reference: BackingReference): void {
  if (node.isFixed) throw new ImageError('vhdx/fixed-parent', {}, { file: node.name });
  if (reference.format !== null && reference.format !== 'vhdx') {
    const detail = { name: reference.path, format: reference.format };
    throw new ImageError('vhdx/parent-format', detail, { file: node.name });
  }
  const parent = node.gate.openImage({ from: node.name, path: reference.path, format: reference.format });
  let identity: string;
  try {
    identity = identityOf(parent, node.name);
  } finally {
    if (parent !== node.backing) parent.close();
  }
  node.touch();
  node.flush();
  provideBat(node, batEntries(node.geometry, true));
  const paths = recordedPaths(node.name, resolveReference(node.name, reference.path));
  const item = serialiseParentLocator(identity, paths);
  node.edits.setLocator(item);
  node.become({ locator: parseParentLocator(item, { file: node.name }) });
  node.flush();
}

/** The disk stands alone: what it does not hold reads as zeroes from now on. */
export function removeParent(node: WritableVhdxNode): void {
  if (node.locator === null) return;
  node.touch();
  node.flush();
  const { blockSize, logicalSectorSize: sector, virtualSize } = node.geometry;
  for (let block = 0; block < blockCount(node.geometry); block++) {
    const index = node.table.payload(block);
    if (node.table.state(index) !== payloadState.partiallyPresent) continue;
    const place = node.placeOf(block);
    const { bitmap, first } = node.bitmapOf(block);
    const sectors = Math.min(blockSize, virtualSize - block * blockSize) / sector;
    for (let at = 0; at < sectors;) {
      const run = bitmap.run(first + at, sectors - at);
      if (!run.set) node.storage.zeroAt(place + at * sector, run.length * sector);
      at += run.length;
    }
    node.table.set(index, payloadState.fullyPresent, place);
  }
  // No block needs a bitmap any more: on the disk too, before the bitmaps go.
  node.flush();
  for (let chunk = 0; chunk < chunkCount(node.geometry); chunk++) {
    const index = node.table.bitmap(chunk);
    if (index < node.table.capacity) node.table.set(index, bitmapState.notPresent, 0);
  }
  node.edits.setLocator(null);
  node.become({ locator: null });
  node.flush();
}

// Another parent for a VDI, or none: its two UUIDs in the header.
import path from 'node:path';
import type { BackingReference } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { resolveReference } from '../gate.ts';
import { identityIn, showVersion } from './header.ts';
import { headerOf } from './parent.ts';
import { imageType, nullUuid } from './spec.ts';
import type { WritableVdiNode } from './writing.ts';

/**
 * The new parent is opened through the gate for its identity. Without one, free blocks read as zeroes. A disk that gets a parent shows the
 * parent's bytes in its free blocks. Throws `vdi/parent-format`, `vdi/parent-place`, `vdi/old-version`, `gate/*`, `storage/*`.
 */
export function relink(node: WritableVdiNode, reference: BackingReference | null): void {
  const { header } = node;
  if (reference === null) {
    if (!node.differencing) return;
    const none = { image_type: imageType.dynamic, uuid_linkage: nullUuid, uuid_parent_modify: nullUuid };
    settle(node, none);
    node.parentPath = null;
    return;
  }
  if (header.major === 0) {
    const detail = { found: showVersion(header), what: 'given a parent' };
    throw new ImageError('vdi/old-version', detail, { file: node.name });
  }
  requirePlace(node.name, reference.path);
  const parent = node.gate.openImage({ from: node.name, path: reference.path, format: reference.format });
  try {
    const found = headerOf(parent);
    if (found === null) {
      throw new ImageError('vdi/parent-format', { name: reference.path, found: parent.format }, { file: node.name });
    }
    const { uuid, modification } = identityIn(found);
    settle(node, { image_type: imageType.differencing, uuid_linkage: uuid, uuid_parent_modify: modification });
    node.parentPath = reference.path;
  } finally {
    if (parent !== node.backing) parent.close();
  }
}

/** What the blocks hold is on the disk before the header says what the others show. */
function settle(node: WritableVdiNode, values: Parameters<WritableVdiNode['patchHeader']>[0]): void {
  node.flush();
  node.patchHeader(values);
  node.storage.flush();
}

/** A parent is found in the image's folder, or above a folder called Snapshots. Throws `vdi/parent-place`. */
export function requirePlace(image: string, reference: string): void {
  const folder = path.dirname(path.resolve(image));
  const place = path.dirname(path.resolve(resolveReference(image, reference)));
  const above = path.basename(folder) === 'Snapshots' ? path.dirname(folder) : null;
  if (place === folder || place === above) return;
  throw new ImageError('vdi/parent-place', { name: reference }, { file: image });
}

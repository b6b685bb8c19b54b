// Another parent for a disk, or none: the header's fields, the names, and the type in the footers.
import path from 'node:path';
import type { BackingReference } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { resolveReference } from '../gate.ts';
import { patchedFooter } from './footer.ts';
import { footerOf, identityIn, type VhdIdentity } from './identity.ts';
import { enterNames, namesBytes, namesLength, readLocators, storedNames } from './locators.ts';
import { patchHeader } from './resize.ts';
import { diskType, dynamicHeader, firstLocator, footer, locatorCount, parentLocator } from './spec.ts';
import type { WritableDynamicNode } from './writing.ts';

const noParent = '00000000-0000-0000-0000-000000000000';

/**
 * The new parent is opened through the gate for its identity. Without one, what the disk did not hold itself becomes zeroes. A dynamic
 * disk that gets a parent shows the parent's bytes where it holds none. Throws `vhd/parent-format`, `gate/*`, `storage/*`.
 */
export function relink(node: WritableDynamicNode, reference: BackingReference | null): void {
  if (reference === null) {
    if (node.differencing) detach(node);
    return;
  }
  const parent = node.gate.openImage({ from: node.name, path: reference.path, format: reference.format });
  const isOwn = parent === node.backing;
  try {
    const values = footerOf(parent);
    if (values === null) {
      throw new ImageError('vhd/parent-format', { name: reference.path, found: parent.format }, { file: node.name });
    }
    attach(node, reference.path, identityIn(values));
  } finally {
    if (!isOwn) parent.close();
  }
}

function attach(node: WritableDynamicNode, reference: string, parent: VhdIdentity): void {
  const absolute = path.resolve(resolveReference(node.name, reference));
  const names = storedNames(path.dirname(path.resolve(node.name)), absolute);
  if (!node.differencing) node.fillBitmaps(false);
  const offset = node.appendRoom(namesLength(names));
  node.storage.writeAt(namesBytes(names), offset);
  node.flush();
  enterNames(node.headerBytes, names, offset);
  const { uniqueId, timeStamp } = parent;
  patchHeader(node, { parent_unique_id: uniqueId, parent_time_stamp: timeStamp });
  setType(node, diskType.differencing);
}

function detach(node: WritableDynamicNode): void {
  node.fillBitmaps(true);
  node.flush();
  setType(node, diskType.dynamic);
  node.headerBytes.fill(0, firstLocator, firstLocator + locatorCount * parentLocator.size);
  const { width } = dynamicHeader.fields.parent_unicode_name.type;
  const cleared = { parent_unique_id: noParent, parent_time_stamp: 0, parent_unicode_name: new Uint8Array(width) };
  patchHeader(node, cleared);
  node.locators = [];
  node.storage.flush();
}

function setType(node: WritableDynamicNode, type: number): void {
  node.storage.flush();
  node.footerBytes = patchedFooter(node.footerBytes, { disk_type: type });
  node.footer = footer.parse(node.footerBytes);
  node.writeFooters();
  node.storage.flush();
  node.locators = readLocators(node.headerBytes, node.storage);
}

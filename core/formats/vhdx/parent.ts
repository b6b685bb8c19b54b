// The layer below a differencing disk: looked for at the recorded paths, taken only with the identity that the locator names.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import type { OpenGate } from '../driver.ts';
import { parentName, parentPaths, type ParentLocator } from './parent-locator.ts';

/** DataWriteGuid of open images by their file. Nodes may be lent out in another shape; their file stays the same. */
const identities = new WeakMap<Storage, () => string>();

/** Makes the identity of an open VHDX known to those that are based on it. */
export function registerIdentity(file: Storage, identity: () => string): void {
  identities.set(file, identity);
}

/** DataWriteGuid of an open VHDX. Throws `vhdx/parent-format` for another format. */
export function identityOf(node: BlockNode, image: string): string {
  const file = node.files[0]?.storage;
  const identity = file === undefined ? undefined : identities.get(file);
  if (identity === undefined) {
    throw new ImageError('vhdx/parent-format', { name: node.name, format: node.format }, { file: image });
  }
  return identity();
}

/**
 * Opens the parent: each recorded path in turn, until one leads to a VHDX with the identity. Throws `vhdx/parent-changed` when what
 * was found is another, `vhdx/parent-missing` when nothing was, `gate/refused` when it may not be looked for.
 */
export function openParent(image: string, locator: ParentLocator, gate: OpenGate): BlockNode {
  const failures: ImageError[] = [];
  for (const path of parentPaths(locator)) {
    let node: BlockNode;
    try {
      node = gate.openImage({ from: image, path, format: 'vhdx' });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      if (error.code === 'gate/loop' || error.code === 'gate/depth') throw error;
      failures.push(error);
      continue;
    }
    if (isUnreadable(node)) return node;
    try {
      const found = identityOf(node, image);
      if (locator.identities.includes(found)) return node;
      const detail = { name: node.name, found, identity: locator.identities.join('} or {') };
      failures.unshift(new ImageError('vhdx/parent-changed', detail, { file: image, field: 'parent_linkage' }));
    } catch (error) {
      node.close();
      throw error;
    }
    node.close();
  }
  throw mostTelling(failures, image, locator);
}

function mostTelling(failures: readonly ImageError[], image: string, locator: ParentLocator): ImageError {
  const isMissing = (error: ImageError): boolean =>
    error.code === 'gate/scheme' || (error.cause instanceof ImageError && error.cause.detail.errno === 'ENOENT');
  const telling = failures.find((error) => !isMissing(error));
  if (telling !== undefined && telling.code !== 'gate/backing') return telling;
  const detail = {
    identity: locator.identities.join('} or {'),
    name: parentName(locator),
    reason: telling === undefined ? '' : ` (${telling.message})`,
  };
  return new ImageError('vhdx/parent-missing', detail, { file: image, field: 'parent_linkage' }, telling);
}

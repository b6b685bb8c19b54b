// An image opened to be repaired: its tables may lead anywhere, so nobody writes guest data through it.
import type { BlockNode, WritableNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import { ImageError } from '../errors/image-error.ts';

/** `node` as one that is writable in name: its repair writes to `storage` itself, at once; every change of the guest's disk throws `check/repair-only`. */
export function onlyForRepair<Node extends BlockNode>(node: Node, storage: Storage): Node & WritableNode {
  const refuse = (): never => {
    throw new ImageError('check/repair-only', {}, { file: node.name });
  };
  return Object.assign(node, {
    reserve: refuse,
    zero: refuse,
    release: refuse,
    resize: refuse,
    setBacking: refuse,
    flush: () => storage.flush(),
    writeBack: () => {},
  });
}

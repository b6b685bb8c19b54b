// A layer of a chain that cannot be read: it stands where an image should be, and answers every question with the reason.
import type { ImageError } from '../errors/image-error.ts';
import type { BlockNode, ImageFile, Mapping } from './node.ts';
import type { GuestRange } from './units.ts';

/** Stands below an image that was opened leniently. Its size is not known: it has every byte that is asked for, and none can be read. */
export class UnreadableNode implements BlockNode {
  readonly format = 'raw';
  readonly name: string;
  readonly size = Number.MAX_SAFE_INTEGER;
  readonly granularity = 512;
  readonly backing = null;
  readonly files: readonly ImageFile[] = [];
  /** Why the layer cannot be read. */
  readonly reason: ImageError;

  constructor(name: string, reason: ImageError) {
    this.name = name;
    this.reason = reason;
  }

  map({ length }: GuestRange): Mapping {
    return { kind: 'unreadable', length, error: this.reason };
  }

  close(): void {}
}

/** True for the stand-in of a layer that cannot be read: it has no identity that could be held against anything. */
export function isUnreadable(node: BlockNode): node is UnreadableNode {
  return node instanceof UnreadableNode;
}

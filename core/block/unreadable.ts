// A layer of a chain that cannot be read: it stands where an image should be, and answers every question with the reason.
import { isImageError, type ImageError } from '../errors/image-error.ts';
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

/** What is known of the damage of an image that was opened leniently. Offsets and lengths in guest bytes. */
export interface Damage {
  /** Bytes from the start of the disk whose entries lie in the file; the rest cannot be known, for the reason `beyond`. */
  readonly known: number;
  readonly beyond: ImageError | null;
  /** Bytes from `start` on that `error`, which looking up `start` threw, is about. */
  reach(start: number, error: ImageError): number;
}

/** What `map` says of the start of `range`, or for how far nobody can say it, and why. */
export function mapDamaged(range: GuestRange, damage: Damage, map: (range: GuestRange) => Mapping): Mapping {
  const { start } = range;
  const { known, beyond } = damage;
  if (beyond !== null && start >= known) return { kind: 'unreadable', length: range.length, error: beyond };
  const length = beyond === null ? range.length : Math.min(range.length, known - start);
  try {
    return map({ start, length });
  } catch (error) {
    if (!isImageError(error)) throw error;
    return { kind: 'unreadable', length: Math.min(length, Math.max(1, damage.reach(start, error))), error };
  }
}

/** Bytes from `start` to the end of the unit of `unit` bytes that it lies in. */
export function restOf(unit: number, start: number): number {
  return unit - (start % unit);
}

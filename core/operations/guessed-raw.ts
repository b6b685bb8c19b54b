// A disk that is raw because nothing in it says otherwise: what is written must not make it look like an image of another format.
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { KiB } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';
import { probe } from '../formats/registry.ts';

/** What will be written: all of `source` at `start` of the target. */
export interface Written {
  readonly source: BlockNode;
  readonly start: number;
}

/**
 * The format that `target`, opened as raw by guess, would be taken for once `parts` are written over it; null: still raw. The guest decides
 * what is written, and whoever opens the target next would follow the names in it. `salvage`: what cannot be read will be zeroes. `''`: a
 * format that is not opened here, or more than one. Throws what reading throws.
 */
export function wouldBecome(target: BlockNode, parts: readonly Written[], salvage = false): string | null {
  const size = Math.max(target.size, ...parts.map(({ source, start }) => start + source.size));
  const bytesAt = (start: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    for (const { source, start: from } of [{ source: target, start: 0 }, ...parts]) {
      const first = Math.max(start, from);
      const end = Math.min(start + length, from + source.size);
      if (first >= end) continue;
      const into = bytes.subarray(first - start, end - start);
      try {
        readGuest(source, into, first - from);
      } catch (error) {
        if (!salvage || source === target || !(error instanceof ImageError)) throw error;
        into.fill(0);
      }
    }
    return bytes;
  };
  const head = bytesAt(0, Math.min(size, 64 * KiB));
  const tailLength = Math.min(size, KiB);
  const tail = bytesAt(size - tailLength, tailLength);
  try {
    const { id } = probe(head, tail, size);
    return id === 'raw' ? null : id;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return '';
  }
}

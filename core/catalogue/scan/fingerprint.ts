// A fingerprint of what a disk holds, from a few places of it: enough to know a moved disk again, never a proof that nothing changed.
import crypto from 'node:crypto';
import type { BlockNode } from '../../block/node.ts';
import { readGuest } from '../../block/read.ts';
import { alignDown, KiB, MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

const piece = 4 * KiB;
/** Places spread over the disk, besides its start, where partition tables and boot sectors stand. */
const spread = 24;

/**
 * SHA-256 over the size and some pieces of what the image itself stores, as hex; null for one that shows only zeroes there (an empty disk
 * is like any other) and for one that cannot be read. The same content in another format gives the same fingerprint.
 */
export function fingerprintOf(node: BlockNode): string | null {
  if (node.size < piece) return null;
  const hash = crypto.createHash('sha256').update(String(node.size));
  const bytes = new Uint8Array(piece);
  let empty = true;
  try {
    for (const start of places(node.size)) {
      readGuest(node, bytes, start);
      if (bytes.every((byte) => byte === 0)) continue;
      empty = false;
      hash.update(`@${start}`).update(bytes);
    }
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
  return empty ? null : hash.digest('hex');
}

function places(size: number): number[] {
  const last = alignDown(size - piece, 512);
  const starts = [0, 32 * KiB, 64 * KiB, MiB, MiB + 64 * KiB, 2 * MiB];
  for (let index = 1; index <= spread; index++) starts.push(alignDown((last / spread) * index, piece));
  return [...new Set(starts.filter((start) => start <= last))].sort((a, b) => a - b);
}

// Moving a stretch of a file to another place in it, holes as holes.
import { isZero } from './copy/zeroes.ts';
import type { Storage } from './storage.ts';
import { KiB, MiB, type HostOffset } from './units.ts';

const pieceLength = MiB;
const granule = 64 * KiB;

/**
 * Copies `length` bytes from `from` to `to`, which do not overlap; what lies behind the end of the file reads as zeroes. The file
 * reaches over the target afterwards. What was at the target is gone. Throws `storage/*`.
 */
export function copyWithin(storage: Storage, from: HostOffset, to: HostOffset, length: number): void {
  storage.zeroAt(to, length);
  const piece = Buffer.alloc(Math.min(pieceLength, length));
  for (let done = 0; done < length; done += piece.length) {
    const wanted = Math.min(piece.length, length - done, storage.size - from - done);
    if (wanted <= 0) return;
    storage.readAt(piece.subarray(0, wanted), from + done);
    for (let at = 0; at < wanted; at += granule) {
      const part = Math.min(granule, wanted - at);
      if (!isZero(piece, at, part)) storage.writeAt(piece.subarray(at, at + part), to + done + at);
    }
  }
}

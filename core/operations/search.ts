// Searching for a pattern in a disk or a file, forwards and backwards, in steps that can be left and taken up again.
import { MiB } from '../block/units.ts';
import type { Match, Pattern } from './find-pattern.ts';
import { storedBefore, zeroesFrom, type SparseBytes } from './known-zeroes.ts';

/** How far a search got. Matches do not overlap; `next`: where to go on, null: to the end (backwards: to the start). */
export interface Found {
  readonly matches: readonly Match[];
  readonly next: number | null;
  /** Bytes that could not be read and were passed over in this step. */
  readonly unread: number;
}

const piece = MiB;

/**
 * Matches that begin at `from` or later, at most `limit`. What is known to be zero is not read unless the pattern fits zeroes. Stops at
 * `until`, in milliseconds of this process.
 */
export function searchOn(bytes: SparseBytes, pattern: Pattern, from: number, limit: number, until: number): Found {
  const overlap = pattern.most - 1;
  const buffer = Buffer.allocUnsafe(piece + overlap);
  const matches: Match[] = [];
  let unread = 0;
  let at = from;
  while (at + pattern.least <= bytes.size) {
    const zeroes = pattern.fitsZeroes ? 0 : zeroesFrom(bytes, at);
    const ahead = zeroes > 0 ? null : bytes.extent(at, bytes.size);
    if (ahead?.kind === 'lost') {
      unread += ahead.length;
      at += ahead.length;
    } else if (zeroes > overlap) {
      at += zeroes - overlap;
    } else {
      const wanted = Math.min(buffer.length, bytes.size - at);
      const [lost] = bytes.read(buffer.subarray(0, wanted), at);
      // As far as it can be read in one piece; what follows the gap is searched next.
      const part = buffer.subarray(0, lost === undefined ? wanted : lost.start - at);
      if (lost !== undefined && part.length === 0) {
        unread += lost.length;
        at += lost.length;
      } else {
        // Of what follows, the start of a match may be here: it is looked at again, together with its end.
        const isWhole = lost === undefined;
        const reach = at + part.length === bytes.size || !isWhole ? part.length : part.length - overlap;
        const places = pattern.within(part);
        let next = 0;
        while (next < reach) {
          const found = places.first(next);
          if (found === null || found.start >= reach) break;
          matches.push({ start: at + found.start, length: found.length });
          next = found.start + found.length;
          if (matches.length === limit) return { matches, next: at + next, unread };
        }
        at += Math.max(reach, next);
      }
    }
    if (performance.now() > until) return { matches, next: at, unread };
  }
  return { matches, next: null, unread };
}

/** Matches that begin before `before`, the last one first; else as `searchOn`. */
export function searchBack(bytes: SparseBytes, pattern: Pattern, before: number, limit: number, until: number): Found {
  const overlap = pattern.most - 1;
  const buffer = Buffer.allocUnsafe(piece + overlap);
  const matches: Match[] = [];
  let unread = 0;
  let to = Math.min(before, bytes.size);
  while (to > 0) {
    const end = Math.min(bytes.size, to + overlap);
    const stored = pattern.fitsZeroes ? { start: 0, end } : storedBefore(bytes, end, until);
    to = Math.min(to, stored.end);
    if (stored.end > stored.start) {
      const start = Math.max(0, stored.start - overlap, to - piece);
      const part = buffer.subarray(0, Math.min(bytes.size, to + overlap) - start);
      if (bytes.read(part, start).length === 0) {
        const places = pattern.within(part);
        for (let last = to - start; last > 0;) {
          const found = places.last(last);
          if (found === null) break;
          matches.push({ start: start + found.start, length: found.length });
          last = found.start - pattern.least + 1;
          if (matches.length === limit) return { matches, next: start + found.start, unread };
        }
        to = start;
      } else {
        const found = backInPieces(bytes, pattern, start, to);
        matches.push(...found.matches);
        unread += found.unread;
        to = start;
        const cut = matches[limit - 1];
        if (cut !== undefined) return { matches: matches.slice(0, limit), next: cut.start, unread };
      }
    }
    if (performance.now() > until) break;
  }
  return { matches, next: to > 0 ? to : null, unread };
}

/** All matches that begin from `start` up to `to` where some of it cannot be read, the last one first. */
function backInPieces(bytes: SparseBytes, pattern: Pattern, start: number, to: number): Omit<Found, 'next'> {
  const { matches, unread } = searchOn(
    { ...bytes, size: Math.min(bytes.size, to + pattern.most - 1) },
    pattern,
    start,
    Infinity,
    Infinity,
  );
  return { matches: matches.filter((match) => match.start < to).toReversed(), unread };
}

// What of a disk or a file is known to read as zeroes without being read, looked up in both directions.
import type { BlockNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import { isUnread, readReadable, readStored, surveyOne } from '../block/survey.ts';
import { MiB } from '../block/units.ts';

/** Bytes that can be read at any place, and what is known of them. Offsets and lengths in bytes. */
export interface SparseBytes {
  readonly size: number;
  /** Fills `into`, which lies within; what cannot be read is zero, and told of in order. */
  read(into: Uint8Array, start: number): readonly { readonly start: number; readonly length: number }[];
  /** How far, from `at` (before the end) on and at most up to `end`, one answer goes: zeroes, bytes, or what cannot be read. */
  extent(at: number, end: number): { readonly kind: 'zero' | 'data' | 'lost'; readonly length: number };
}

/** The guest's disk. */
export function sparseDisk(node: BlockNode): SparseBytes {
  return {
    size: node.size,
    read: (into, start) => readReadable(node, into, start),
    extent(at, end) {
      const found = surveyOne(node, { start: at, length: end - at });
      if (isUnread(found)) return { kind: 'lost', length: found.length };
      return { kind: found.mapping.kind === 'zero' ? 'zero' : 'data', length: found.length };
    },
  };
}

/** A file: what the host keeps no bytes for. */
export function sparseFile(storage: Storage): SparseBytes {
  return {
    size: storage.size,
    read: (into, start) => readStored(storage, into, start),
    extent(at, end) {
      const { kind, length } = storage.extentAt(at, end - at);
      return { kind: kind === 'hole' ? 'zero' : 'data', length };
    },
  };
}

/** Answers that one call goes through before it hands back where it is. */
const mostAnswers = 4096;

/** Bytes from `at` on that are known to be zero, or the first of them if there are very many answers. */
export function zeroesFrom(bytes: SparseBytes, at: number): number {
  let end = at;
  for (let count = 0; end < bytes.size && count < mostAnswers; count++) {
    const { kind, length } = bytes.extent(end, bytes.size);
    if (kind !== 'zero') break;
    end += length;
  }
  return end - at;
}

/** The smallest window is always gone through: so many answers come from it at most. */
const smallestWindow = 16 * MiB;
const largestWindow = 2 ** 46;

/**
 * The last stretch before `end` that is not known to be zero. Nothing tells how far zeroes reach downwards, so windows are gone through
 * from their start, each twice as large as the one above it while they are empty. An empty stretch: it lasted until `until` (milliseconds
 * of this process), and what lies above is zero.
 */
export function storedBefore(bytes: SparseBytes, end: number, until: number): { start: number; end: number } {
  let window = smallestWindow;
  let to = Math.min(end, bytes.size);
  while (to > 0) {
    const from = Math.max(0, to - window);
    const last = lastStored(bytes, from, to, window > smallestWindow ? mostAnswers : Infinity);
    if (last === 'many') {
      window = Math.max(smallestWindow, window / 8);
      continue;
    }
    if (last !== null) return last;
    to = from;
    window = Math.min(largestWindow, window * 2);
    if (performance.now() > until) break;
  }
  return { start: to, end: to };
}

function lastStored(
  bytes: SparseBytes,
  from: number,
  to: number,
  most: number,
): { start: number; end: number } | null | 'many' {
  let last: { start: number; end: number } | null = null;
  let count = 0;
  for (let at = from; at < to; count++) {
    if (count === most) return 'many';
    const { kind, length } = bytes.extent(at, to);
    if (kind !== 'zero') last = { start: last !== null && last.end === at ? last.start : at, end: at + length };
    at += length;
  }
  return last;
}

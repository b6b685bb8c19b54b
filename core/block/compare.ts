// Are two stretches of guest disks the same? What both know to be zero, and what is one and the same, is not read.
import type { Job } from '../job.ts';
import type { BlockNode } from './node.ts';
import { readRun, resolveOne, type Run } from './read.ts';
import { type GuestOffset, MiB } from './units.ts';

/** A stretch of one disk and where its counterpart begins on the other. */
export interface Stretch {
  readonly start: GuestOffset;
  readonly otherStart: GuestOffset;
  readonly length: number;
}

const piece = MiB;

/**
 * The first offset, counted from the stretch's start, at which `a` and `b` differ; null when they do not. Both disks hold the
 * whole stretch. Throws what reading throws, and `request/cancelled`.
 */
export function firstDifference(a: BlockNode, b: BlockNode, stretch: Stretch, job: Job): number | null {
  const left = Buffer.allocUnsafe(piece);
  const right = Buffer.allocUnsafe(piece);
  let done = 0;
  while (done < stretch.length) {
    job.throwIfCancelled();
    const rest = stretch.length - done;
    const runA = resolveOne(a, { start: stretch.start + done, length: rest });
    const runB = resolveOne(b, { start: stretch.otherStart + done, length: Math.min(rest, runA.length) });
    const both = Math.min(runA.length, runB.length);
    const same = (runA.mapping.kind === 'zero' && runB.mapping.kind === 'zero') || isOnePlace(runA, runB);
    const length = same ? both : Math.min(both, piece);
    if (!same) {
      const at = differenceWithin(runA, runB, left.subarray(0, length), right.subarray(0, length));
      if (at !== null) return done + at;
    }
    done += length;
    job.progress({ phase: 'compare', done, total: stretch.length });
  }
  return null;
}

function isOnePlace(a: Run, b: Run): boolean {
  const one = a.mapping;
  const other = b.mapping;
  if (one.kind !== 'data' || other.kind !== 'data') return false;
  if (one.cipher !== undefined || other.cipher !== undefined || one.offset !== other.offset) return false;
  if (one.storage === other.storage) return true;
  return one.storage.identity !== null && one.storage.identity === other.storage.identity;
}

function differenceWithin(a: Run, b: Run, left: Buffer, right: Buffer): number | null {
  readRun(a, left);
  readRun(b, right);
  if (left.equals(right)) return null;
  // Halve until the first differing byte is found.
  let from = 0;
  let to = left.length;
  while (to - from > 1) {
    const middle = from + Math.floor((to - from) / 2);
    if (left.compare(right, from, middle, from, middle) !== 0) to = middle;
    else from = middle;
  }
  return from;
}

// Two disks compared a step at a time: where they differ, in steps of 512 bytes, and how much could not be read on either.
import type { BlockNode } from '../../block/node.ts';
import { isUnread, readReadable, surveyOne } from '../../block/survey.ts';
import { alignDown, alignUp, MiB } from '../../block/units.ts';
import { sparseDisk, storedBefore } from '../../operations/known-zeroes.ts';
import type { ComparedStep } from '../contract.ts';

/** Milliseconds that a step takes before it hands back where it is. */
const stepTime = 200;
const piece = MiB;
const sector = 512;

interface Stretch {
  readonly start: number;
  length: number;
}

/** The stretches before `from` in which the disks differ, the last one first; `next`: where to go on, null: at the start. */
export function compareBack(first: BlockNode, second: BlockNode, from: number, limit: number): ComparedStep {
  const until = performance.now() + stepTime;
  const pieces = new Pieces(first, second);
  const [one, two] = [sparseDisk(first), sparseDisk(second)];
  const differing: Stretch[] = [];
  let end = Math.min(from - (from % sector), pieces.size);
  while (end > 0) {
    const stored = [storedBefore(one, end, until), storedBefore(two, end, until)] as const;
    end = Math.min(end, alignUp(Math.max(...stored.map((found) => found.end)), sector));
    const starts = stored.filter((found) => found.end > found.start).map((found) => found.start);
    if (starts.length > 0) {
      // Where one of the two has nothing for a long way, the other one tells how far down it is worth to read.
      const start = Math.max(0, end - piece, alignDown(Math.min(...starts), sector));
      const within: Stretch[] = [];
      pieces.compare(start, end - start, within);
      differing.push(...within.toReversed());
      end = start;
    }
    if (differing.length >= limit || performance.now() > until) break;
  }
  const cut = differing[limit];
  const next = cut === undefined ? (end > 0 ? end : null) : cut.start + cut.length;
  return { differing: differing.slice(0, limit), next, unread: pieces.unread };
}

/** The stretches from `from` on in which the disks differ; `next`: where to go on, null: that was all. */
export function compareStep(one: BlockNode, two: BlockNode, from: number, limit: number): ComparedStep {
  const until = performance.now() + stepTime;
  const pieces = new Pieces(one, two);
  const { size } = pieces;
  const differing: Stretch[] = [];
  let at = from - (from % sector);
  while (at < size) {
    const known = pieces.skip(at, size);
    if (known > 0) {
      at += known;
    } else {
      const length = Math.min(piece, size - at);
      pieces.compare(at, length, differing);
      at += length;
    }
    if (differing.length >= limit || performance.now() > until) break;
  }
  return { differing: differing.slice(0, limit), next: nextOf(differing, limit, at, size), unread: pieces.unread };
}

/** Where to go on: behind the last stretch that is handed over, so that none is lost. */
function nextOf(differing: readonly Stretch[], limit: number, at: number, size: number): number | null {
  const cut = differing[limit];
  if (cut !== undefined) return cut.start;
  return at < size ? at : null;
}

/** Two disks, piece by piece. */
class Pieces {
  /** Bytes of the longer disk. */
  readonly size: number;
  /** Bytes that could not be compared: one of the disks cannot be read there. */
  unread = 0;
  readonly #one: BlockNode;
  readonly #two: BlockNode;
  readonly #buffers = [new Uint8Array(piece), new Uint8Array(piece)] as const;
  readonly #lost = new Uint8Array(piece / sector);

  constructor(one: BlockNode, two: BlockNode) {
    this.#one = one;
    this.#two = two;
    this.size = Math.max(one.size, two.size);
  }

  /** Bytes from `at`, which lies before `end`, that need not be read: both are zero, or one of them cannot be read. */
  skip(at: number, end: number): number {
    const one = ahead(this.#one, at, end);
    const two = ahead(this.#two, at, end);
    const lost = Math.max(one.lost, two.lost);
    this.unread += lost;
    return lost > 0 ? lost : Math.min(one.zero, two.zero);
  }

  /** Adds the stretches of `length` bytes from `start` (at most a piece) in which the disks differ. */
  compare(start: number, length: number, into: Stretch[]): void {
    const [a, b] = [this.#buffers[0].subarray(0, length), this.#buffers[1].subarray(0, length)];
    const lost = this.#lost.fill(0);
    this.#fill(this.#one, a, start);
    this.#fill(this.#two, b, start);
    if (lost.includes(1)) {
      for (let at = 0; at < length; at += sector) {
        if (lost[at / sector] === 1) this.unread += Math.min(sector, length - at);
      }
    } else if (Buffer.compare(a, b) === 0) return;
    for (let at = 0; at < length; at += sector) {
      const end = Math.min(length, at + sector);
      if (lost[at / sector] === 1 || Buffer.compare(a.subarray(at, end), b.subarray(at, end)) === 0) continue;
      const last = into.at(-1);
      if (last !== undefined && last.start + last.length === start + at) last.length += end - at;
      else into.push({ start: start + at, length: end - at });
    }
  }

  #fill(node: BlockNode, into: Uint8Array, at: number): void {
    const inside = Math.max(0, Math.min(into.length, node.size - at));
    into.fill(0, inside);
    if (inside === 0) return;
    for (const { start, length } of readReadable(node, into.subarray(0, inside), at)) {
      this.#lost.fill(1, Math.floor((start - at) / sector), Math.ceil((start + length - at) / sector));
    }
  }
}

/** Bytes from `at` that read as zeroes for certain, beyond the end of the disk all of them; or that cannot be read. */
function ahead(node: BlockNode, at: number, end: number): { zero: number; lost: number } {
  if (at >= node.size) return { zero: end - at, lost: 0 };
  const found = surveyOne(node, { start: at, length: Math.min(end, node.size) - at });
  if (isUnread(found)) return { zero: 0, lost: found.length };
  return { zero: found.mapping.kind === 'zero' ? found.length : 0, lost: 0 };
}

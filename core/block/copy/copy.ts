// The bulk plane: guest bytes from sources to a target with overlapped reads, zero detection, packing lanes and ordered writes.
import type { Fill, Job } from '../../job.ts';
import type { WritableNode } from '../node.ts';
import type { Run } from '../read.ts';
import { alignUp, MiB, type GuestRange } from '../units.ts';
import { fetchChunk } from './fetch.ts';
import { Lanes } from './lanes.ts';
import { offloadChunk } from './offload.ts';
import { Pace } from './pace.ts';
import { plan, type CopyPart, type Step } from './plan.ts';
import { Slots, type Slot } from './slots.ts';
import { placeChunk, prepareChunk, zeroTarget, type StoreCounts, type Stored, type StoreRules } from './store.ts';
import type { Span } from './zeroes.ts';

export interface CopyRequest {
  /** What to copy; the parts follow each other from the target's start. */
  readonly parts: readonly CopyPart[];
  readonly target: WritableNode;
  /** What is not written reads as zeroes already (a new image without a layer below). */
  readonly targetIsZero: boolean;
  /** The same from this guest offset on (behind the end of the layer below a new image). Absent: nowhere. */
  readonly zeroFrom?: number;
  /** Room that is set aside in the target stays set aside where zeroes take its place (`discard=ignore`). Absent: false. */
  readonly keepSpace?: boolean;
  /** Size of the layer below the target; runs that the sources have from below are left to it. 0: none. */
  readonly targetBacking: number;
  /** Runs of the sources that the target is left with as it is. Absent: none. */
  readonly leaves?: (run: Run) => boolean;
  /** Zero detection in units of this many bytes; 0: write everything, zeroes too. */
  readonly sparse: number;
  /** Store packed (compressed) what gets smaller by it. */
  readonly packed: boolean;
  /** Let the host move the bytes (reflink, copy in the kernel); no zero detection then, and nothing is packed. */
  readonly offload: boolean;
  /** Chunks under way at once. */
  readonly depth: number;
  /** Place chunks as they arrive, not in their order. */
  readonly outOfOrder: boolean;
  /** Bytes per second at most; 0: as fast as it goes. */
  readonly rate: number;
  /** Called for each stretch that cannot be read and becomes zeroes; null: the first one ends the copy. */
  readonly salvage: ((range: GuestRange, error: unknown) => void) | null;
  /** Hears of every stretch of the target once it is written. Absent: nobody listens. */
  readonly fill?: Fill | undefined;
}

/** Bytes of the target by what became of them; `packed` counts stored bytes. */
export type CopyResult = Readonly<StoreCounts>;

const usualChunk = MiB;
const largestChunk = 2 * MiB;

/**
 * Copies. The target's metadata is in its caches afterwards: the caller ends with `flush()` or `writeBack()`. On any error no
 * transfer is left under way when the promise rejects. Throws what reading the sources and writing the target throws, and
 * `request/cancelled`.
 */
export async function copyGuest(request: CopyRequest, job: Job): Promise<CopyResult> {
  const { target, fill } = request;
  const unit = Math.min(
    largestChunk,
    target.packed !== undefined && request.packed ? target.packed.unit : target.granularity,
  );
  const chunk = alignUp(usualChunk, unit);
  const rules: StoreRules = {
    target,
    zeroFrom: request.targetIsZero ? 0 : (request.zeroFrom ?? Infinity),
    keepSpace: request.keepSpace === true,
    granule: request.sparse === 0 ? 0 : granuleOf(request, unit),
    packed: request.packed,
  };
  const lanes = new Lanes();
  // The side buffer takes the stored form of a chunk: at most its own size and a little for what cannot be packed.
  const slots = new Slots(request.depth, chunk + unit, chunk + unit + 64 * 1024);
  const counts: StoreCounts = { data: 0, packed: 0, zeroes: 0 };
  const total = request.parts.reduce((sum, part) => sum + part.length, 0);
  const pace = new Pace(request.rate);
  const underWay = new Set<Promise<void>>();
  let failure: { error: unknown } | null = null;
  let order: Promise<void> = Promise.resolve();
  let done = 0;

  const finish = (length: number): void => {
    done += length;
    job.progress({ phase: 'copy', done, total });
  };
  const offload = (step: Extract<Step, { kind: 'chunk' }>): void => {
    offloadChunk(step, rules, counts);
    for (const { offset, length, run, keep } of fill === undefined ? [] : step.pieces) {
      fill?.(keep ? 'below' : run === null ? 'zeroes' : 'data', step.start + offset, length);
    }
    finish(step.length);
  };
  const begin = (step: Step, slot: Slot | null): void => {
    const ready = slot === null || step.kind !== 'chunk' ? null : readyChunk(step, slot);
    const before = request.outOfOrder ? Promise.resolve() : order;
    let placed: (value: void) => void = () => {};
    order = new Promise((resolve) => (placed = resolve));
    const work = (async () => {
      try {
        const prepared = ready === null ? null : await ready;
        await before;
        if (failure !== null) return;
        if (prepared !== null && slot !== null) {
          const stored: Stored[] | null = fill === undefined ? null : [];
          const writes = placeChunk(slot, prepared, rules, counts, stored);
          placed();
          await writes;
          for (const { kind, offset, length } of stored ?? []) fill?.(kind, step.start + offset, length);
          if (fill !== undefined && step.kind === 'chunk') tellRest(fill, step, prepared.zeroes);
        } else if (step.kind === 'zero') {
          zeroTarget(rules, step.start, step.length);
          counts.zeroes += step.length;
          fill?.('zeroes', step.start, step.length);
        }
        finish(step.length);
      } catch (error) {
        failure ??= { error };
      } finally {
        placed();
        if (slot !== null) slots.give(slot);
      }
    })();
    underWay.add(work);
    void work.finally(() => underWay.delete(work));
  };
  const readyChunk = async (step: Extract<Step, { kind: 'chunk' }>, slot: Slot) => {
    const { salvage } = request;
    const tell =
      salvage === null
        ? null
        : (offset: number, length: number, error: unknown) => salvage({ start: step.start + offset, length }, error);
    await fetchChunk(slot, step, lanes, tell);
    return prepareChunk(slot, step, rules, lanes);
  };
  const damaged =
    request.salvage === null
      ? null
      : (start: number, error: unknown): number => {
          const length = 512 - (start % 512);
          request.salvage?.({ start, length }, error);
          return length;
        };

  try {
    job.progress({ phase: 'copy', done: 0, total });
    const planRules = {
      chunk,
      targetBacking: request.targetBacking,
      fully: request.sparse === 0,
      leaves: request.leaves,
    };
    for (const step of plan(request.parts, planRules, damaged)) {
      job.throwIfCancelled();
      if (step.kind === 'keep') {
        fill?.('below', step.start, step.length);
        finish(step.length);
        continue;
      }
      if (step.kind === 'chunk') {
        await pace.wait(step.length);
        if (request.offload) offload(step);
        else begin(step, await slots.take());
      } else {
        begin(step, null);
        if (underWay.size > 4 * request.depth) await order;
      }
      if (hasFailed(failure)) break;
    }
    await Promise.all(underWay);
  } catch (error) {
    failure ??= { error };
    await Promise.all(underWay);
  } finally {
    await lanes.close();
  }
  if (hasFailed(failure)) throw failure.error;
  return counts;
}

/** Tells of what of a chunk was not stored: its zeroes, and what is left to the layer below. */
function tellRest(fill: Fill, { start, pieces }: Extract<Step, { kind: 'chunk' }>, zeroes: readonly Span[]): void {
  for (const { offset, length } of zeroes) fill('zeroes', start + offset, length);
  for (const { offset, length, keep } of pieces) if (keep) fill('below', start + offset, length);
}

/** A variable that closures set: the compiler must not think it knows better. */
function hasFailed(failure: { error: unknown } | null): failure is { error: unknown } {
  return failure !== null;
}

/**
 * Zeroes are told apart in whole units of the target, and never in smaller ones than the caller asked for; where units are stored
 * packed, in those.
 */
function granuleOf(request: CopyRequest, unit: number): number {
  if (request.packed) return unit;
  return Math.min(largestChunk, Math.max(unit, alignUp(request.sparse, unit)));
}

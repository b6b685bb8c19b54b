// A walk over a stretch of the guest's disk that sorts every run into the classes of all layers; it can be left and taken up again.
import type { BlockNode } from '../../block/node.ts';
import type { Run, Unread } from '../../block/read.ts';
import type { Storage } from '../../block/storage.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import type { ImageError } from '../../errors/image-error.ts';
import type { StoredCounts } from '../../formats/driver.ts';
import { HoleWatch, holesIn } from '../../operations/map.ts';
import {
  classesOf,
  extentClass,
  guestLayers,
  mostDepths,
  orderParts,
  sharedClasses,
  smallGap,
  stateClasses,
  type GuestLayer,
} from './classes.ts';
import { Grid } from './grid.ts';

const state = Object.fromEntries(stateClasses.map((name, index) => [name, index])) as Record<
  (typeof stateClasses)[number],
  number
>;
const shared = Object.fromEntries(sharedClasses.map((name, index) => [name, index])) as Record<
  (typeof sharedClasses)[number],
  number
>;
const extentNone = 4;
const extentUnreadable = 5;
/** Runs between two looks at the clock. */
const runsPerLook = 64;

/** What a run is: the one place where an answer of the map becomes a class of the layer `state`. */
export function stateOf({ depth, node, mapping }: Run): (typeof stateClasses)[number] {
  if (mapping.kind === 'zero') {
    if (node.format === 'raw') return mapping.explicit ? 'unallocated' : 'zero';
    if (mapping.reserved !== undefined || mapping.hole === true) return 'reserved';
    return mapping.explicit ? 'zero' : 'unallocated';
  }
  return depth > 0 ? 'below' : mapping.kind;
}

/** What is walked over: a disk that is read through `depth` images, in units of so many bytes. */
export interface GuestDisk {
  readonly node: BlockNode;
  readonly depth: number;
  readonly unit: number;
  readonly isSnapshot: boolean;
  /** The counts of the image's file, where only they say what is shared; null: the tables say it. */
  readonly counts: StoredCounts | null;
}

/** Classes of all layers over the cells of a stretch; `at` is how far it has come. Offsets and lengths in bytes. */
export class GuestScan {
  readonly start: number;
  readonly end: number;
  readonly cellBytes: number;
  at: number;
  /** The first thing that could not be read; null: all could so far. */
  fault: ImageError | null = null;
  readonly #node: BlockNode;
  readonly #depth: number;
  readonly #counts: StoredCounts | null;
  readonly #holes: HoleWatch;
  readonly #grids: Readonly<Record<GuestLayer, Grid>>;
  /** The stored stretch that is being followed: where it began, and where it goes on in which file. */
  #extentStart = 0;
  #extentLength = 0;
  #extentStorage: Storage | null = null;
  #extentNext = 0;
  #extentSlack = 0;

  constructor(
    { node, depth, isSnapshot, counts }: GuestDisk,
    range: { start: number; end: number; cellBytes: number },
  ) {
    this.#counts = counts;
    this.start = range.start;
    this.end = range.end;
    this.cellBytes = range.cellBytes;
    this.at = range.start;
    this.#node = node;
    this.#depth = depth;
    this.#holes = new HoleWatch(isSnapshot ? node : null);
    const cells = Math.ceil((range.end - range.start) / range.cellBytes);
    const grid = (layer: GuestLayer): Grid =>
      new Grid(range.start, range.cellBytes, cells, classesOf(layer, depth).length);
    this.#grids = Object.fromEntries(guestLayers.map((layer) => [layer, grid(layer)])) as Record<GuestLayer, Grid>;
  }

  get finished(): boolean {
    return this.at >= this.end;
  }

  grid(layer: GuestLayer): Grid {
    return this.#grids[layer];
  }

  /** Goes on until `deadline` (of `performance.now`). */
  advance(deadline: number): void {
    for (let count = 1; this.at < this.end; count++) {
      if (count % runsPerLook === 0 && performance.now() > deadline) return;
      this.#next();
    }
    this.#endExtent();
  }

  /** Takes the first run only. */
  step(): void {
    if (this.at < this.end) this.#next();
    this.#endExtent();
  }

  #next(): void {
    const found = surveyOne(this.#node, { start: this.at, length: this.end - this.at });
    if (isUnread(found)) this.#passOver(found);
    else this.#take(found);
    this.at += found.length;
  }

  #take(run: Run): void {
    const { mapping, node, depth, start, length } = run;
    if (mapping.kind === 'data' && mapping.cipher === undefined && this.#holes.watches(node, mapping.storage)) {
      for (const part of holesIn(mapping.storage, mapping.offset, length)) {
        const offset = mapping.offset + part.at;
        if (part.hole) this.#zero(start + part.at, part.length, state.reserved, depth);
        else this.#stored(start + part.at, part.length, depth, mapping.storage, offset, part.length, mapping);
      }
      return;
    }
    if (mapping.kind === 'zero') {
      this.#zero(start, length, state[stateOf(run)], mapping.explicit ? depth : null);
      return;
    }
    const stored = mapping.kind === 'packed' ? mapping.storedLength : length;
    this.#stored(start, length, depth, mapping.storage, mapping.offset, stored, mapping);
  }

  /** `depth` null: no layer says anything of it. */
  #zero(start: number, length: number, kind: number, depth: number | null): void {
    const grids = this.#grids;
    grids.state.add(kind, start, length);
    grids.depth.add(depth === null ? this.#depths : this.#depthClass(depth), start, length);
    grids.extents.add(extentNone, start, length);
    grids.order.add(orderParts, start, length);
    grids.shared.add(shared.none, start, length);
  }

  #stored(
    start: number,
    length: number,
    depth: number,
    storage: Storage,
    offset: number,
    storedLength: number,
    { kind, shared: isShared }: { readonly kind: 'data' | 'packed'; readonly shared?: boolean | undefined },
  ): void {
    const grids = this.#grids;
    grids.state.add(depth > 0 ? state.below : state[kind], start, length);
    grids.depth.add(this.#depthClass(depth), start, length);
    if (depth > 0 || kind === 'packed') grids.shared.add(depth > 0 ? shared.below : shared.packed, start, length);
    else if (this.#counts === null) grids.shared.add(isShared === true ? shared.shared : shared.own, start, length);
    else this.#addShared(this.#counts, start, length, offset);
    this.#addOrder(start, length, storage.size, offset, kind === 'packed' ? 0 : 1);
    this.#followExtent(start, length, storage, offset, storedLength, kind === 'packed' ? storedLength : 0);
  }

  /** A table of a snapshot does not say what is shared: the counts do. */
  #addShared(counts: StoredCounts, start: number, length: number, offset: number): void {
    for (let done = 0; done < length;) {
      const run = counts.run(offset + done, offset + length);
      this.#grids.shared.add((run.count ?? 0) > 1 ? shared.shared : shared.own, start + done, run.length);
      done += run.length;
    }
  }

  get #depths(): number {
    return Math.min(this.#depth, mostDepths);
  }

  #depthClass(depth: number): number {
    return Math.min(depth, this.#depths - 1);
  }

  /** `pace`: how far the place in the file moves with a byte of the disk; 0 for what is packed. */
  #addOrder(start: number, length: number, fileSize: number, offset: number, pace: 0 | 1): void {
    const part = Math.max(1, fileSize / orderParts);
    for (let done = 0; done < length;) {
      const index = Math.min(orderParts - 1, Math.floor((offset + done * pace) / part));
      const reach = index === orderParts - 1 || pace === 0 ? length : Math.ceil((index + 1) * part - offset);
      const here = Math.max(1, Math.min(length, reach) - done);
      this.#grids.order.add(index, start + done, here);
      done += here;
    }
  }

  #followExtent(start: number, length: number, storage: Storage, offset: number, stored: number, slack: number): void {
    const gap = offset - this.#extentNext;
    const goesOn =
      this.#extentStorage === storage &&
      this.#extentStart + this.#extentLength === start &&
      gap >= -this.#extentSlack &&
      gap <= smallGap;
    if (!goesOn) {
      this.#endExtent();
      this.#extentStart = start;
      this.#extentStorage = storage;
    }
    this.#extentLength += length;
    this.#extentNext = offset + stored;
    this.#extentSlack = slack;
  }

  #endExtent(): void {
    const length = this.#extentLength;
    if (length > 0) this.#grids.extents.add(extentClass(length), this.#extentStart, length);
    this.#extentLength = 0;
    this.#extentStorage = null;
  }

  #passOver({ start, length, error }: Unread): void {
    this.fault ??= error;
    const grids = this.#grids;
    grids.state.add(state.unreadable, start, length);
    grids.depth.add(this.#depths + 1, start, length);
    grids.extents.add(extentUnreadable, start, length);
    grids.order.add(orderParts + 1, start, length);
    grids.shared.add(shared.unreadable, start, length);
  }
}

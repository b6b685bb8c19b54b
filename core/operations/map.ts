// map: what the disk's stretches are, which layer has them, and where in which file they are stored.
import type { CacheMode } from '../block/file.ts';
import type { BlockNode, Mapping } from '../block/node.ts';
import { resolve, type Run } from '../block/read.ts';
import type { Storage } from '../block/storage.ts';
import { alignUp, type GuestOffset, type GuestRange, type HostOffset } from '../block/units.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { driverNamed } from '../formats/registry.ts';
import type { Job } from '../job.ts';

/** A stretch of the guest's disk with one answer, as long as the answer goes on. */
export interface MapEntry {
  readonly start: GuestOffset;
  readonly length: number;
  /** Layers below the top; 0: the image itself. */
  readonly depth: number;
  /** An image says something of it: data, or that it is zero. */
  readonly present: boolean;
  readonly zero: boolean;
  /** There are stored bytes. */
  readonly data: boolean;
  readonly compressed: boolean;
  /** Where the guest's bytes stand in `file` as they are; null: nowhere in that form. */
  readonly offset: HostOffset | null;
  readonly file: string | null;
}

export interface MapParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** Guest offset to begin at. */
  readonly start: number;
  /** Bytes to look at; null: to the end. */
  readonly length: number | null;
  /** Entries in one answer at most. */
  readonly limit: number;
}

export interface MapResult {
  readonly entries: readonly MapEntry[];
  /** Where to go on; null: that was all. */
  readonly next: number | null;
}

/** At most `limit` entries of the map. Throws what opening throws, and the format's codes for damaged tables. */
export function map(params: MapParams, job: Job): Promise<MapResult> {
  return Promise.resolve().then(() => {
    const { node } = openImage(params.path, params.options);
    try {
      const entries: MapEntry[] = [];
      const found = mapEntries(node, rangeWithin(node.size, params.start, params.length), job);
      for (const entry of seenThrough(params.options.cache, found)) {
        if (entries.length === params.limit) return { entries, next: entry.start };
        entries.push(entry);
      }
      return { entries, next: null };
    } finally {
      node.close();
    }
  });
}

/** The part of a disk of `size` bytes that begins at `start` and has `length` bytes, or all that follows. */
export function rangeWithin(size: number, start: number, length: number | null): GuestRange {
  if (start >= size) return { start: size, length: 0 };
  return { start, length: Math.min(size - start, length ?? Infinity) };
}

/**
 * The entries of `range` in order, neighbours of one kind merged. Memory does not grow with the disk. `isSnapshot`: the node is the
 * view of an internal snapshot; its format is not asked whether space was provided for without being written.
 */
export function* mapEntries(
  node: BlockNode,
  range: GuestRange,
  job: Job,
  isSnapshot = false,
): Generator<MapEntry, void, void> {
  const holes = new HoleWatch(isSnapshot ? node : null);
  let last = null as MapEntry | null;
  let count = 0;
  for (const run of resolve(node, range)) {
    if (count++ % 4096 === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'map', done: run.start - range.start, total: range.length });
    }
    for (const entry of entriesOf(run, holes)) {
      if (last !== null && goesOn(last, entry)) {
        last = { ...last, length: last.length + entry.length };
      } else {
        if (last !== null) yield last;
        last = entry;
      }
    }
  }
  if (last !== null) yield last;
  job.progress({ phase: 'map', done: range.length, total: range.length });
}

/**
 * The entries as a reader past the host's cache sees them, whose files have whole sectors only: what ends within one has all of it.
 * Other cache modes: the entries as they are.
 */
export function* seenThrough(
  cache: CacheMode | undefined,
  entries: Iterable<MapEntry>,
): Generator<MapEntry, void, void> {
  const unit = cache === 'none' || cache === 'directsync' ? 512 : 1;
  let done = 0;
  for (const entry of entries) {
    const from = Math.max(entry.start, done);
    const end = entry.start + entry.length;
    if (from >= end) continue;
    done = alignUp(end, unit);
    const offset = entry.offset === null ? null : entry.offset + (from - entry.start);
    yield { ...entry, start: from, length: done - from, offset };
  }
}

function goesOn(a: MapEntry, b: MapEntry): boolean {
  return (
    a.zero === b.zero &&
    a.data === b.data &&
    a.present === b.present &&
    a.compressed === b.compressed &&
    a.depth === b.depth &&
    a.file === b.file &&
    (a.offset === null ? b.offset === null : a.offset + a.length === b.offset)
  );
}

function* entriesOf(run: Run, holes: HoleWatch): Generator<MapEntry, void, void> {
  const { start, length, mapping } = run;
  const common = { start, length, depth: depthOf(run), present: true, compressed: false };
  switch (mapping.kind) {
    case 'zero': {
      const { reserved } = mapping;
      const offset = reserved?.offset ?? null;
      const file = reserved?.storage.name ?? null;
      yield { ...common, present: mapping.explicit, zero: true, data: mapping.hole === true, offset, file };
      return;
    }
    case 'packed':
      yield { ...common, zero: false, data: true, compressed: true, offset: null, file: null };
      return;
    case 'data':
      if (mapping.cipher !== undefined) {
        yield { ...common, zero: false, data: true, offset: null, file: null };
      } else if (holes.watches(run.node, mapping.storage)) {
        yield* splitByHoles(common, mapping);
      } else {
        yield { ...common, zero: false, data: true, offset: mapping.offset, file: mapping.storage.name };
      }
  }
}

/** A disk that ends in the layer below is counted to the layer above the short one: that is where the zeroes come from. */
function depthOf({ start, depth, node, mapping }: Run): number {
  const pastEnd = mapping.kind === 'zero' && !mapping.explicit && start >= node.size;
  return pastEnd ? Math.max(0, depth - 1) : depth;
}

/** Data that the file system keeps no bytes for reads as zeroes. */
function* splitByHoles(
  common: Pick<MapEntry, 'start' | 'length' | 'depth' | 'present' | 'compressed'>,
  mapping: Extract<Mapping, { kind: 'data' }>,
): Generator<MapEntry, void, void> {
  const file = mapping.storage.name;
  for (const { at, length, hole } of holesIn(mapping.storage, mapping.offset, common.length)) {
    yield { ...common, start: common.start + at, length, zero: hole, data: true, offset: mapping.offset + at, file };
  }
}

/** A stretch of a file cut into what the host keeps bytes for and what it does not; `at` counts from its start. */
export function* holesIn(
  storage: Storage,
  start: HostOffset,
  whole: number,
): Generator<{ readonly at: number; readonly length: number; readonly hole: boolean }, void, void> {
  for (let done = 0; done < whole;) {
    const offset = start + done;
    const rest = whole - done;
    const extent = offset < storage.size ? storage.extentAt(offset, rest) : { kind: 'hole', length: rest };
    const hole = extent.kind === 'hole';
    const length = hole && offset + extent.length >= storage.size ? rest : Math.min(rest, extent.length);
    yield { at: done, length, hole };
    done += length;
  }
}

/** Which layers are worth asking the host about their data: asked of each once. */
export class HoleWatch {
  readonly #known = new Map<BlockNode, boolean>();

  constructor(never: BlockNode | null) {
    if (never !== null) this.#known.set(never, false);
  }

  watches(node: BlockNode, storage: Storage): boolean {
    let answer = this.#known.get(node);
    if (answer === undefined) {
      answer = node.files[0]?.storage === storage && driverNamed(node.format).holesInData?.(node) === true;
      this.#known.set(node, answer);
    }
    return answer;
  }
}

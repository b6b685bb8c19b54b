// An image that a window looks into: its bytes, what they mean, where the guest's disk lies, and what is found in it.
import { pathOf, type Annotation } from '../../bytes/struct.ts';
import type { BlockNode, Codec } from '../../block/node.ts';
import { unpack } from '../../block/packed.ts';
import { readGuest } from '../../block/read.ts';
import type { Storage } from '../../block/storage.ts';
import { readReadable, readStored, type Lost } from '../../block/survey.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import { KiB, MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, Region, SnapshotSize } from '../../formats/driver.ts';
import { formatOf, headRegions } from '../../formats/heads.ts';
import { openImage, type OpenOptions } from '../../formats/open.ts';
import { allDrivers } from '../../formats/registry.ts';
import { guestRegions } from '../../guest/structures.ts';
import { readPattern, type Match, type PatternText } from '../../operations/find-pattern.ts';
import { sparseDisk, sparseFile, type SparseBytes } from '../../operations/known-zeroes.ts';
import { locate, namesIn } from '../../operations/locate.ts';
import { searchBack, searchOn, type Found } from '../../operations/search.ts';
import type { AnnotatedWindow, ComparedStep, PlaceFacts, RegionFacts, UnreadWindow } from '../contract.ts';
import { isDiskView, snapshotView } from '../map/image-map.ts';
import { RegionIndex, regionWalk, type RegionWalk } from '../map/region-index.ts';
import { compareBack, compareStep } from './compare-step.ts';
import { placeOf } from './place.ts';

/** Milliseconds that a search or comparison takes before it hands back where it is. */
const stepTime = 200;
/** Bytes of a region that are annotated around the window at most. */
const annotatedBytes = 64 * KiB;

/** Milliseconds that a walk over regions takes before it is asked for again. */
const walkTime = 100;
/** Regions that one window of annotations tells of at most. */
const mostInWindow = 512;
/** Stretches that cannot be read, of one window, at most. */
const mostUnread = 512;
/** Matches within one window that are told of at most. */
const mostMatches = 1024;
/** Bytes that one packed unit gives at most. */
const mostUnpacked = 2 * MiB;
/** Views whose regions are kept. */
const indicesKept = 4;
/** Milliseconds for the sizes of all snapshots. */
const sizesTime = 2000;

/**
 * One image, open for reading. Offsets and lengths in bytes; `view` is `guest`, `snapshot:ID`, or the role of a file. Throws what
 * reading throws.
 */
export class OpenImage {
  readonly node: BlockNode;
  readonly driver: FormatDriver;
  /** What the file looks like that was opened as plain bytes; null: it was opened as what it is. */
  readonly #plain: FormatDriver | null;
  readonly #indices = new Map<string, RegionIndex>();
  readonly #snapshots = new Map<string, BlockNode>();
  #other: { readonly key: string; readonly image: OpenImage } | null = null;

  /** `plain`: it could not be opened as what it looks like. */
  constructor(path: string, options: OpenOptions, plain = false) {
    ({ node: this.node, driver: this.driver } = openImage(path, { ...options, share: true }));
    const storage = this.node.files[0]?.storage;
    this.#plain = plain && storage !== undefined ? formatOf(storage, allDrivers()) : null;
  }

  /** Layers that it reads through, itself included. */
  get depth(): number {
    let depth = 1;
    for (let below = this.node.backing; below !== null && !isUnreadable(below); below = below.backing) depth++;
    return depth;
  }

  close(): void {
    this.#other?.image.close();
    for (const snapshot of this.#snapshots.values()) snapshot.close();
    this.node.close();
  }

  /** The bytes from `start`, as many as there are. */
  bytes(view: string, start: number, length: number): Uint8Array {
    const size = this.sizeOf(view);
    const into = new Uint8Array(Math.max(0, Math.min(length, size - start)));
    if (into.length > 0) this.#read(view, into, start);
    return into;
  }

  /**
   * The regions of a view from the one that holds `from`, at most `limit`; `structures`: those with fields only. Fewer than `limit` may
   * come before the end: `next` says where to go on, null: that was all.
   */
  regions(
    view: string,
    from: number,
    limit: number,
    structures: boolean,
  ): { regions: RegionFacts[]; next: number | null } {
    const size = this.sizeOf(view);
    const found: RegionFacts[] = [];
    const until = performance.now() + walkTime;
    let at = from;
    const index = this.regionsOf(view);
    while (at < size && found.length < limit) {
      const part = index.touching(at, size, limit, until) ?? index.known(at, size, limit);
      for (const { start, length, label, kind } of part) {
        if (found.length === limit) break;
        at = start + length;
        if (!structures || (kind !== 'data' && kind !== 'lost')) found.push({ start, length, label, kind });
      }
      if (performance.now() > until) break;
    }
    return { regions: found, next: at < size ? at : null };
  }

  /** What the fields mean that lie in a stretch of a view, and which regions it touches. */
  annotations(view: string, start: number, length: number): AnnotatedWindow {
    const end = Math.min(this.sizeOf(view), start + length);
    if (end <= start) return { annotations: [], regions: [], pending: false };
    const touched = this.regionsOf(view).touching(start, end, mostInWindow, performance.now() + walkTime);
    if (touched === null) return { annotations: [], regions: [], pending: true };
    return {
      annotations: touched.flatMap((region) =>
        annotate(region, start, end).map((one) => ({ ...one, path: pathOf(one) })),
      ),
      regions: touched.map(({ start, length, label, kind }) => ({ start, length, label, kind })),
      pending: false,
    };
  }

  /** The offset that a place written as text means in a view. Throws `look/*`. */
  locate(view: string, text: string, here: number): number {
    const isGuest = isDiskView(view);
    const facts = this.driver.facts(this.node);
    const regions = (): Iterable<Region> => withoutPauses(this.#walk(view));
    const names = isGuest ? namesIn(noTables, this.node, regions) : namesIn(this.driver, this.node, regions);
    const cluster = facts.clusterSize ?? this.node.granularity;
    return locate(text, { size: this.sizeOf(view), here, sector: 512, cluster, ...names });
  }

  /** Where the byte at `offset` of the guest's disk (or of a snapshot) comes from. Throws `request/out-of-range`. */
  place(view: string, offset: number): PlaceFacts {
    return placeOf(this.nodeOf(view), this.node, offset);
  }

  /** The regions of a view, kept for all that ask. Throws `session/no-file`, `snapshot/not-found`. */
  regionsOf(view: string): RegionIndex {
    let index = this.#indices.get(view);
    if (index === undefined) {
      index = new RegionIndex(() => this.#walk(view), this.sizeOf(view));
      for (const [oldest] of this.#indices) {
        if (this.#indices.size < indicesKept) break;
        this.#indices.delete(oldest);
      }
      this.#indices.set(view, index);
    }
    return index;
  }

  #walk(view: string): RegionWalk {
    if (this.#plain !== null && !isDiskView(view)) return headRegions(this.node, this.#plain);
    if (isDiskView(view)) return guestRegions(this.nodeOf(view));
    return regionWalk(this.driver, this.node, this.#fileOf(view).role);
  }

  /** The disk that a view shows: now, or as it was in a snapshot. Throws `snapshot/not-found`. */
  nodeOf(view: string): BlockNode {
    if (!view.startsWith(snapshotView)) return this.node;
    let snapshot = this.#snapshots.get(view);
    if (snapshot === undefined) {
      const id = view.slice(snapshotView.length);
      if (this.driver.snapshots === undefined) throw new ImageError('snapshot/not-found', { name: id });
      snapshot = this.driver.snapshots.open(this.node, id);
      this.#snapshots.set(view, snapshot);
    }
    return snapshot;
  }

  /** What would become free by deleting a snapshot, for the first `limit` of them. */
  snapshotSizes(limit: number): readonly SnapshotSize[] {
    const until = performance.now() + sizesTime;
    const { snapshots } = this.driver;
    if (snapshots === undefined) return [];
    if (snapshots.sizes !== undefined) return snapshots.sizes(this.node, limit, until);
    return snapshots
      .list(this.node)
      .slice(0, limit)
      .map(({ id }) => ({ id, freed: null }));
  }

  /** What of a window cannot be read, and why; the first stretches. Throws `session/no-file`, `snapshot/not-found`. */
  unread(view: string, start: number, length: number): UnreadWindow {
    const size = this.sizeOf(view);
    const lost = this.#readable(view, new Uint8Array(Math.max(0, Math.min(length, size - start))), start);
    const unread = lost.slice(0, mostUnread).map(({ start, length, error }) => {
      return { start, length, error: error.toWire(), text: error.message };
    });
    return { unread, more: lost.length - unread.length };
  }

  /** Where a pattern stands; stops after a while and says where to go on. Throws `look/pattern`, `look/pattern-length`. */
  find(view: string, { pattern, from, backwards, limit }: SearchRequest): Found {
    const until = performance.now() + stepTime;
    const bytes = this.#sparse(view);
    const read = readPattern(pattern);
    return (backwards ? searchBack : searchOn)(bytes, read, from, limit, until);
  }

  /** Which bytes of a stretch belong to what is searched for: it is read whole, and a little on both sides. Throws as `find`. */
  matches(view: string, pattern: PatternText, start: number, length: number): readonly Match[] {
    const bytes = this.#sparse(view);
    const read = readPattern(pattern);
    const end = Math.min(bytes.size, start + length);
    const seen = { ...bytes, size: Math.min(bytes.size, end + read.most - 1) };
    const { matches } = searchOn(seen, read, Math.max(0, start - read.most + 1), mostMatches, Infinity);
    return matches.filter((one) => one.start < end && one.start + one.length > start);
  }

  /** What a packed cluster or grain of a file holds. Throws `packed/damaged`. */
  unpacked(view: string, start: number, length: number, codec: Codec['id']): Uint8Array {
    const unit = this.driver.facts(this.node).clusterSize ?? this.node.granularity;
    return unpack({ id: codec }, this.bytes(view, start, length), Math.min(unit, mostUnpacked), {
      file: this.#fileOf(view).storage.name,
      offset: start,
    });
  }

  /**
   * Stretches from `from` in which another disk differs, in steps of 512 bytes. `key` tells whether it is open already; `view` and what
   * `pick` gives are the disks to compare, now or as they were in a snapshot. `backwards`: those before `from`, the last one first.
   */
  compare(asked: CompareRequest, from: number, limit: number): ComparedStep {
    const { key, view, otherView, backwards } = asked;
    if (this.#other?.key !== key) {
      this.#other?.image.close();
      this.#other = null;
      this.#other = { key, image: asked.open() };
    }
    const one = this.nodeOf(view);
    const two = this.#other.image.nodeOf(otherView);
    return backwards ? compareBack(one, two, from, limit) : compareStep(one, two, from, limit);
  }

  #sparse(view: string): SparseBytes {
    return isDiskView(view) ? sparseDisk(this.nodeOf(view)) : sparseFile(this.#fileOf(view).storage);
  }

  /** Bytes of a view. */
  sizeOf(view: string): number {
    return isDiskView(view) ? this.nodeOf(view).size : this.#fileOf(view).storage.size;
  }

  #read(view: string, into: Uint8Array, start: number): void {
    if (isDiskView(view)) readGuest(this.nodeOf(view), into, start);
    else this.#fileOf(view).storage.readAt(into, start);
  }

  /** As `#read`, as far as it goes; what could not be read. */
  #readable(view: string, into: Uint8Array, start: number): Lost[] {
    return isDiskView(view)
      ? readReadable(this.nodeOf(view), into, start)
      : readStored(this.#fileOf(view).storage, into, start);
  }

  #fileOf(role: string): { role: string; storage: Storage } {
    const file = this.node.files.find((one) => one.role === role);
    if (file === undefined) throw new ImageError('session/no-file', { role }, { file: this.node.name });
    return file;
  }
}

function* withoutPauses(walk: RegionWalk): Generator<Region, void, void> {
  for (const region of walk) if (region !== null) yield region;
}

/** The guest's disk has no tables of the format. */
const noTables: Pick<FormatDriver, 'entries'> = {};

/** A large region is annotated around the window only. */
function annotate(region: Region, start: number, end: number): Annotation[] {
  const from = Math.max(start, region.start);
  const length = Math.min(end, region.start + region.length, from + annotatedBytes) - from;
  return region
    .annotate({ start: from, length })
    .filter((annotation) => annotation.start < end && annotation.start + annotation.length > start);
}

/** Another image to compare with, and which of its and our disks. */
export interface CompareRequest {
  readonly key: string;
  readonly view: string;
  readonly otherView: string;
  readonly backwards: boolean;
  open(): OpenImage;
}

/** What is searched for, from where on, in which direction, and how many places one step tells of at most. */
export interface SearchRequest {
  readonly pattern: PatternText;
  readonly from: number;
  readonly backwards: boolean;
  readonly limit: number;
}

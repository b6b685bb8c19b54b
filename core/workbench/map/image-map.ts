// The cluster map of one open image: tiles of the guest's disk and of its files, and what stands at one place.
import type { BlockNode, Mapping } from '../../block/node.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import { isImageError, ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, StoredCounts, TableEntry } from '../../formats/driver.ts';
import type { SaidFault } from '../contract.ts';
import {
  classesOf,
  fileLayers,
  guestLayers,
  kindClasses,
  mostDepths,
  type GuestLayer,
  type MapLayer,
} from './classes.ts';
import { FileMap } from './file-map.ts';
import { countsWalk, piecesWalk } from './file-walks.ts';
import { GuestMap } from './guest-map.ts';
import { stateOf } from './guest-scan.ts';
import { RegionIndex, regionWalk } from './region-index.ts';
import { StretchMap } from './stretch-map.ts';
import { scanTime, type Tile, type TileRequest } from './tile.ts';

/** The smallest cell of what has no unit; and the largest of a file, whose parts may be much smaller than the format's unit. */
const plainUnit = 4096;
const largestFileUnit = 65536;

/** What stands at one place of the map. Offsets and lengths in bytes. */
export interface MapPlace {
  /** The stretch around the place that is alike, as far as the format tells at once; of the guest from the place on. */
  readonly start: number;
  readonly length: number;
  /** Class of the layer `state`, or of `kinds`; `unknown`: the walk has not come that far. */
  readonly kind: string;
  /** What the stretch of the file is for, in the words of the format; null: of the guest's disk. */
  readonly label: string | null;
  /** The image of the chain that answers, and how many layers below the top; null: of a file. */
  readonly image: string | null;
  readonly depth: number | null;
  /** Where the bytes are stored; `role` null: in a file of a layer below. */
  readonly stored: {
    readonly file: string;
    readonly role: string | null;
    readonly offset: number;
    /** Bytes that it takes there; null: as many as on the disk. */
    readonly length: number | null;
  } | null;
  /** A snapshot has the bytes too; null: the format does not say. */
  readonly shared: boolean | null;
  /** How often the cluster of the file is referred to, as the image counts it; null: it does not, or not of this one. */
  readonly count: number | null;
  /** The entries of tables of the image itself that decide over the place, outermost first. */
  readonly entries: readonly TableEntry[];
  /** Why it cannot be read. */
  readonly fault: SaidFault | null;
}

/** What others keep of the image too; absent: it is found here. */
export interface MapSources {
  /** The regions of a file. */
  readonly regionsOf?: (role: string) => RegionIndex;
  /** The disk in a snapshot. Throws `snapshot/not-found`. */
  readonly nodeOf?: (view: string) => BlockNode;
}

/** Disks (the image's own, and in snapshots) whose maps are kept. */
const guestsKept = 3;
/** Maps of files that are kept, each of one layer. */
const filesKept = 3;
/** What begins the name of the view of an internal snapshot; its id follows. */
export const snapshotView = 'snapshot:';

/** `view` is a disk: what it shows is not the bytes of a file. */
export function isDiskView(view: string): boolean {
  return view === 'guest' || view.startsWith(snapshotView);
}

/** `view` is `guest`, `snapshot:ID`, or the role of a file. */
export class ImageMap {
  readonly #node: BlockNode;
  readonly #driver: FormatDriver;
  readonly #depth: number;
  readonly #regionsOf: (role: string) => RegionIndex;
  readonly #nodeOf: (view: string) => BlockNode;
  /** The ones used last at the end. */
  readonly #guests = new Map<string, GuestMap>();
  readonly #files = new Map<string, FileMap | StretchMap>();
  readonly #counts = new Map<string, StoredCounts | null>();

  constructor(node: BlockNode, driver: FormatDriver, depth: number, { regionsOf, nodeOf }: MapSources = {}) {
    this.#node = node;
    this.#driver = driver;
    this.#depth = depth;
    this.#regionsOf =
      regionsOf ?? ((role) => new RegionIndex(() => regionWalk(driver, node, role), this.#storageOf(role).size));
    const snapshots = new Map<string, BlockNode>();
    this.#nodeOf =
      nodeOf ??
      ((view) => (view === 'guest' ? node : kept(snapshots, view, guestsKept, () => this.#openSnapshot(view))));
  }

  /** The layers that say something of a view: none that a file of this format has not, or that are the same everywhere. */
  layersOf(view: string): readonly MapLayer[] {
    if (!isDiskView(view)) {
      return fileLayers.filter(
        (layer) => layer === 'kinds' || (layer === 'counts' ? this.#countsOf(view) !== null : this.#hasTables),
      );
    }
    return guestLayers.filter((layer) =>
      layer === 'depth' ? this.#node.backing !== null : layer !== 'shared' || this.#hasSnapshots,
    );
  }

  /** Where a table says what is stored where, it can be stored in pieces. */
  get #hasTables(): boolean {
    return this.#driver.entriesOf !== undefined;
  }

  /** A damaged table of snapshots may still stand for some. */
  get #hasSnapshots(): boolean {
    const { snapshots } = this.#driver;
    if (snapshots === undefined) return false;
    try {
      return snapshots.list(this.#node).length > 0;
    } catch (error) {
      if (isImageError(error)) return true;
      throw error;
    }
  }

  /** Names of the images that the disk is read through, the top one first; as many as are told apart. */
  get layers(): readonly string[] {
    const names: string[] = [];
    for (let node: BlockNode | null = this.#node; node !== null && names.length < mostDepths; node = node.backing) {
      if (isUnreadable(node)) break;
      names.push(node.name);
    }
    return names;
  }

  /** Bytes of the smallest cell of a view. */
  unitOf(view: string): number {
    const { granularity } = this.#node;
    const unit = granularity < 512 ? plainUnit : granularity;
    return isDiskView(view) ? unit : Math.min(unit, largestFileUnit);
  }

  /** Cells of a layer of a view. Throws `session/no-file`, `session/no-layer`, `snapshot/not-found`. */
  tile(view: string, layer: MapLayer, request: TileRequest): Tile {
    if (isDiskView(view)) {
      if (!isGuestLayer(layer)) throw new ImageError('session/no-layer', { layer, view });
      return this.#guestMap(view).tile(layer, request);
    }
    if (isGuestLayer(layer)) throw new ImageError('session/no-layer', { layer, view });
    return (layer === 'kinds' ? this.#kindsOf(view) : this.#stretchMap(view, layer)).tile(request);
  }

  /** Bytes of a view. Throws `session/no-file`, `snapshot/not-found`. */
  sizeOf(view: string): number {
    return isDiskView(view) ? this.#nodeOf(view).size : this.#storageOf(view).size;
  }

  /** What stands at byte `at`. Throws `session/no-file`, `snapshot/not-found`, `request/out-of-range`. */
  describe(view: string, at: number): MapPlace {
    const size = this.sizeOf(view);
    if (at >= size) throw new ImageError('request/out-of-range', { start: at, length: 1, size });
    return isDiskView(view) ? this.#describeGuest(view, at) : this.#describeFile(view, at);
  }

  #describeGuest(view: string, at: number): MapPlace {
    const disk = this.#nodeOf(view);
    const isNow = view === 'guest';
    const place = {
      start: at,
      length: 1,
      label: null,
      // Entries are told of the disk as it is.
      entries: isNow ? this.#entries({ guest: at }) : [],
      count: null,
      shared: null,
      stored: null,
    };
    const run = surveyOne(disk, { start: at, length: disk.size - at });
    const { depth, node, length } = run;
    if (isUnread(run)) {
      return { ...place, length, kind: 'unreadable', image: node.name, depth, fault: said(run.error) };
    }
    const { mapping } = run;
    const found = { ...place, length, kind: stateOf(run), image: node.name, depth, fault: null };
    if (mapping.kind === 'zero') {
      const { reserved } = mapping;
      if (reserved === undefined || node.format === 'raw') return found;
      return { ...found, stored: this.#storedAt(reserved.storage.name, reserved.offset, null) };
    }
    const stored = mapping.kind === 'packed' ? mapping.storedLength : null;
    return {
      ...found,
      stored: this.#storedAt(mapping.storage.name, mapping.offset, stored),
      shared: mapping.kind === 'data' ? this.#isShared(isNow, mapping, depth) : null,
      count: depth === 0 ? this.#countAt(mapping.storage.name, mapping.offset) : null,
    };
  }

  #isShared(
    isNow: boolean,
    { storage, offset, shared }: Extract<Mapping, { kind: 'data' }>,
    depth: number,
  ): boolean | null {
    if (isNow || depth > 0) return shared ?? null;
    const count = this.#countAt(storage.name, offset);
    return count === null ? null : count > 1;
  }

  /** How often the cluster of a file is referred to; null: it is not counted, or that cannot be read. */
  #countAt(file: string, offset: number): number | null {
    const role = this.#node.files.find(({ storage }) => storage.name === file)?.role;
    try {
      return role === undefined ? null : (this.#countsOf(role)?.run(offset, offset + 1).count ?? null);
    } catch (error) {
      if (isImageError(error)) return null;
      throw error;
    }
  }

  #storedAt(file: string, offset: number, length: number | null): NonNullable<MapPlace['stored']> {
    const role = this.#node.files.find(({ storage }) => storage.name === file)?.role ?? null;
    return { file, role, offset, length };
  }

  #describeFile(view: string, at: number): MapPlace {
    const { index } = this.#kindsOf(view);
    if (index.at <= at) index.advance(performance.now() + scanTime);
    const base = {
      image: null,
      depth: null,
      stored: { file: this.#storageOf(view).name, role: view, offset: at, length: null },
      shared: null,
      count: this.#countAt(this.#storageOf(view).name, at),
      entries: this.#entries({ role: view, host: at }),
      fault: index.fault === null ? null : said(index.fault),
    };
    if (index.at <= at) return { ...base, start: at, length: 1, kind: 'unknown', label: null };
    const { columns } = index;
    const region = columns.find(at);
    const start = columns.startOf(region);
    return {
      ...base,
      start,
      length: columns.endOf(region) - start,
      kind: kindClasses[columns.kindOf(region)] ?? 'unreadable',
      label: columns.labelOf(region),
    };
  }

  /** A damaged table may name no entry. */
  #entries(at: { guest: number } | { role: string; host: number }): readonly TableEntry[] {
    try {
      return this.#driver.entriesOf?.(this.#node, at) ?? [];
    } catch (error) {
      if (isImageError(error)) return [];
      throw error;
    }
  }

  #guestMap(view: string): GuestMap {
    return kept(this.#guests, view, guestsKept, () => {
      // The tables of a snapshot do not say what is shared.
      const isSnapshot = view !== 'guest';
      const counts = isSnapshot ? this.#countsOf('file') : null;
      return new GuestMap({
        node: this.#nodeOf(view),
        depth: this.#depth,
        unit: this.unitOf(view),
        isSnapshot,
        counts,
      });
    });
  }

  #kindsOf(role: string): FileMap {
    this.#storageOf(role);
    const make = (): FileMap => new FileMap(this.#regionsOf(role), this.unitOf(role));
    return kept(this.#files, `kinds ${role}`, filesKept, make) as FileMap;
  }

  #stretchMap(role: string, layer: 'counts' | 'pieces'): StretchMap {
    const file = this.#node.files.find((one) => one.role === role)?.storage;
    if (file === undefined || !this.layersOf(role).includes(layer)) {
      throw new ImageError('session/no-layer', { layer, view: role });
    }
    const counts = layer === 'counts' ? this.#countsOf(role) : null;
    const walk = counts === null ? piecesWalk(this.#node, file) : countsWalk(counts);
    const rest = layer === 'counts' ? null : 'not-disk';
    const size = { size: file.size, unit: this.unitOf(role) };
    const make = (): StretchMap => new StretchMap(size, classesOf(layer, this.#depth), rest, walk);
    return kept(this.#files, `${layer} ${role}`, filesKept, make) as StretchMap;
  }

  /** Counts of a damaged image may be out of reach. */
  #countsOf(role: string): StoredCounts | null {
    let counts = this.#counts.get(role);
    if (counts !== undefined) return counts;
    try {
      counts = this.#driver.counts?.(this.#node, role) ?? null;
    } catch (error) {
      if (!isImageError(error)) throw error;
      counts = null;
    }
    this.#counts.set(role, counts);
    return counts;
  }

  #openSnapshot(view: string): BlockNode {
    const id = view.slice(snapshotView.length);
    if (this.#driver.snapshots === undefined) throw new ImageError('snapshot/not-found', { name: id });
    return this.#driver.snapshots.open(this.#node, id);
  }

  #storageOf(role: string): { readonly name: string; readonly size: number } {
    const file = this.#node.files.find((one) => one.role === role);
    if (file === undefined) throw new ImageError('session/no-file', { role }, { file: this.#node.name });
    return file.storage;
  }
}

function said(error: ImageError): SaidFault {
  return { error: error.toWire(), text: error.message };
}

/** What is kept under a name, made if it is not there; of more than `most` the one used longest ago is let go. */
function kept<Value>(known: Map<string, Value>, name: string, most: number, make: () => Value): Value {
  const value = known.get(name) ?? make();
  known.delete(name);
  known.set(name, value);
  for (const oldest of known.keys()) {
    if (known.size <= most) break;
    known.delete(oldest);
  }
  return value;
}

function isGuestLayer(layer: MapLayer): layer is GuestLayer {
  return (guestLayers as readonly string[]).includes(layer) && !(fileLayers as readonly string[]).includes(layer);
}

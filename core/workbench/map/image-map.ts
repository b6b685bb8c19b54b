// The cluster map of one open image: tiles of the guest's disk and of its files, and what stands at one place.
import type { BlockNode } from '../../block/node.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import { isImageError, ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, TableEntry } from '../../formats/driver.ts';
import type { SaidFault } from '../contract.ts';
import { fileLayers, guestLayers, kindClasses, mostDepths, type GuestLayer, type MapLayer } from './classes.ts';
import { FileMap } from './file-map.ts';
import { GuestMap } from './guest-map.ts';
import { stateOf } from './guest-scan.ts';
import { RegionIndex, regionWalk } from './region-index.ts';
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
  /** The entries of tables of the image itself that decide over the place, outermost first. */
  readonly entries: readonly TableEntry[];
  /** Why it cannot be read. */
  readonly fault: SaidFault | null;
}

/** `view` is `guest` or the role of a file. */
export class ImageMap {
  readonly #node: BlockNode;
  readonly #driver: FormatDriver;
  readonly #depth: number;
  readonly #regionsOf: (role: string) => RegionIndex;
  #guest: GuestMap | null = null;
  /** The file looked at last. */
  #file: { readonly role: string; readonly map: FileMap } | null = null;

  /** `regionsOf`: the regions of a file, where somebody keeps them for others too. */
  constructor(node: BlockNode, driver: FormatDriver, depth: number, regionsOf?: (role: string) => RegionIndex) {
    this.#node = node;
    this.#driver = driver;
    this.#depth = depth;
    this.#regionsOf =
      regionsOf ?? ((role) => new RegionIndex(() => regionWalk(driver, node, role), this.#storageOf(role).size));
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
    return view === 'guest' ? unit : Math.min(unit, largestFileUnit);
  }

  /** Cells of a layer of a view. Throws `session/no-file`, `session/no-layer`. */
  tile(view: string, layer: MapLayer, request: TileRequest): Tile {
    if (view === 'guest') {
      if (!isGuestLayer(layer)) throw new ImageError('session/no-layer', { layer, view });
      return this.#guestMap().tile(layer, request);
    }
    if (isGuestLayer(layer)) throw new ImageError('session/no-layer', { layer, view });
    return this.#fileMap(view).tile(request);
  }

  /** What stands at byte `at`. Throws `session/no-file`, `request/out-of-range`. */
  describe(view: string, at: number): MapPlace {
    const size = view === 'guest' ? this.#node.size : this.#storageOf(view).size;
    if (at >= size) throw new ImageError('request/out-of-range', { start: at, length: 1, size });
    return view === 'guest' ? this.#describeGuest(at) : this.#describeFile(view, at);
  }

  #describeGuest(at: number): MapPlace {
    const place = {
      start: at,
      length: 1,
      label: null,
      entries: this.#entries({ guest: at }),
      shared: null,
      stored: null,
    };
    const run = surveyOne(this.#node, { start: at, length: this.#node.size - at });
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
      shared: mapping.kind === 'data' ? (mapping.shared ?? null) : null,
    };
  }

  #storedAt(file: string, offset: number, length: number | null): NonNullable<MapPlace['stored']> {
    const role = this.#node.files.find(({ storage }) => storage.name === file)?.role ?? null;
    return { file, role, offset, length };
  }

  #describeFile(view: string, at: number): MapPlace {
    const { index } = this.#fileMap(view);
    if (index.at <= at) index.advance(performance.now() + scanTime);
    const base = {
      image: null,
      depth: null,
      stored: { file: this.#storageOf(view).name, role: view, offset: at, length: null },
      shared: null,
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

  #guestMap(): GuestMap {
    return (this.#guest ??= new GuestMap(this.#node, this.#depth, this.unitOf('guest')));
  }

  #fileMap(role: string): FileMap {
    this.#storageOf(role);
    if (this.#file?.role !== role) {
      this.#file = { role, map: new FileMap(this.#regionsOf(role), this.unitOf(role)) };
    }
    return this.#file.map;
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

function isGuestLayer(layer: MapLayer): layer is GuestLayer {
  return (guestLayers as readonly string[]).includes(layer) && !(fileLayers as readonly string[]).includes(layer);
}

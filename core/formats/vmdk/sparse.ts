// A sparse extent that is open: its tables, and where the bytes of its grains are.
import type { Codec } from '../../block/node.ts';
import { unpack } from '../../block/packed.ts';
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import { isImageError, ImageError, type Where } from '../../errors/image-error.ts';
import type { ExtentAnswer, ExtentFacts } from './extent.ts';
import type { GrainTables } from './grain-tables.ts';
import {
  grainMarkerLength,
  marker,
  sectorSize,
  zeroedEntry,
  type CowdHeader,
  type HostedHeader,
  type SeSparseHeader,
} from './spec.ts';

/** A part of the file that no grain may lie in. */
export interface Reserved {
  start: HostOffset;
  end: HostOffset;
  readonly what: string;
}

/** What kind of file it is and its header; `headerOffset` is where the one stands that counts (a stream's footer). */
export type SparseKind =
  | { readonly id: 'hosted'; header: HostedHeader; readonly headerOffset: HostOffset; readonly atEnd: boolean }
  | { readonly id: 'cowd'; header: CowdHeader }
  | { readonly id: 'sesparse'; readonly header: SeSparseHeader };

/** A grain directory: sectors where the tables start, 0: no table. (seSparse: the number of the table plus one.) */
export interface Directory {
  offset: HostOffset;
  readonly entries: Uint32Array;
  /** The first entry that the file does not have, in a damaged image that is looked at, and why. Absent: it has all. */
  readonly beyond?: { readonly from: number; readonly fault: ImageError } | undefined;
}

export interface SparseFacts extends ExtentFacts {
  readonly storage: Storage;
  readonly grainSize: number;
  readonly entriesPerTable: number;
  readonly compressed: boolean;
  readonly markers: boolean;
  /** Entry 1 says that the grain reads as zeroes. */
  readonly zeroedGrains: boolean;
  readonly form: SparseKind;
  readonly reserved: readonly Reserved[];
  readonly tables: GrainTables;
  readonly directory: Directory;
  /** Where the redundant directory stands; its entries are read by those who need them (`readDirectory`). */
  readonly redundantOffset: HostOffset | null;
}

/** One answer spans so many grains at most: a disk without grains is not walked to its end in one call. */
const mergeLimit = 2 ** 21;

const codec: Codec = { id: 'zlib' };

/** A sparse extent, for reading. Its writers are in `sparse-writer.ts` and `stream-writer.ts`. */
export class SparseExtent implements SparseFacts {
  readonly kind = 'sparse';
  readonly type: string;
  readonly role: string;
  readonly line: number;
  readonly access: 'RW' | 'RDONLY' | 'NOACCESS';
  size: number;
  readonly storage: Storage;
  readonly grainSize: number;
  readonly entriesPerTable: number;
  readonly compressed: boolean;
  readonly markers: boolean;
  readonly zeroedGrains: boolean;
  readonly form: SparseKind;
  reserved: readonly Reserved[];
  tables: GrainTables;
  directory: Directory;
  redundantOffset: HostOffset | null;
  /** Bytes that the last grain really holds, found out once. */
  #lastLength: number | null = null;

  constructor(facts: SparseFacts) {
    this.type = facts.type;
    this.role = facts.role;
    this.line = facts.line;
    this.access = facts.access;
    this.size = facts.size;
    this.storage = facts.storage;
    this.grainSize = facts.grainSize;
    this.entriesPerTable = facts.entriesPerTable;
    this.compressed = facts.compressed;
    this.markers = facts.markers;
    this.zeroedGrains = facts.zeroedGrains;
    this.form = facts.form;
    this.reserved = facts.reserved;
    this.tables = facts.tables;
    this.directory = facts.directory;
    this.redundantOffset = facts.redundantOffset;
  }

  /** The directory stands elsewhere now (a stream was ended again), with the entries that it has in memory. */
  moveDirectory(offset: HostOffset): void {
    for (const part of this.reserved) {
      if (part.start !== this.directory.offset) continue;
      part.end += offset - part.start;
      part.start = offset;
    }
    this.directory.offset = offset;
  }

  /** The entry of a grain. Throws `vmdk/table-outside`, `vmdk/table-entry`. */
  entryOf(grain: number): number {
    const table = Math.floor(grain / this.entriesPerTable);
    return this.tables.get(table)?.[grain - table * this.entriesPerTable] ?? 0;
  }

  /** True for an entry that stands for a place in the file. */
  isPlace(entry: number): boolean {
    return entry > zeroedEntry || (entry === zeroedEntry && !this.zeroedGrains);
  }

  /**
   * Where the bytes from `offset` of the extent on are. Throws `vmdk/table-*`, `vmdk/grain-outside`, `vmdk/grain-overlap`,
   * `vmdk/grain-marker`.
   */
  map(offset: number, limit: number): ExtentAnswer {
    const { grainSize } = this;
    const first = Math.floor(offset / grainSize);
    const skip = offset - first * grainSize;
    const entry = this.entryOf(first);
    if (!this.isPlace(entry)) {
      const length = Math.min(limit, this.#runOf(first, limit + skip, () => entry) * grainSize - skip);
      return entry === zeroedEntry ? { kind: 'zero', length, hole: null } : { kind: 'absent', length };
    }
    if (this.compressed) return this.#mapPacked(first, entry, skip, Math.min(limit, grainSize - skip));
    const sectors = grainSize / sectorSize;
    this.checkGrain(first, entry);
    const grains = Math.min(
      this.#runOf(first, limit + skip, (index) => entry + index * sectors),
      this.#goodFrom(entry * sectorSize),
    );
    return { kind: 'data', length: Math.min(limit, grains * grainSize - skip), offset: entry * sectorSize + skip };
  }

  /** How many grains may follow each other in the file from `offset` on; at least the one that was checked. */
  #goodFrom(offset: HostOffset): number {
    let end = this.storage.size;
    for (const { start } of this.reserved) if (start >= offset) end = Math.min(end, start);
    return Math.max(1, Math.floor((end - offset) / this.grainSize));
  }

  /** How many grains from `first` on have the entries that `expected` gives for their index, within `span` bytes. */
  #runOf(first: number, span: number, expected: (index: number) => number): number {
    const limit = Math.min(mergeLimit, Math.ceil(span / this.grainSize));
    let grain = first;
    const end = first + limit;
    while (grain < end) {
      const table = Math.floor(grain / this.entriesPerTable);
      const base = table * this.entriesPerTable;
      const stop = Math.min(end, base + this.entriesPerTable);
      const entries = this.#tableOrNone(table, grain === first);
      if (entries === undefined) return grain - first;
      if (entries === null) {
        if (expected(grain - first) !== 0) return grain - first;
        grain = stop;
        continue;
      }
      for (; grain < stop; grain++) if (entries[grain - base] !== expected(grain - first)) return grain - first;
    }
    return grain - first;
  }

  /** A later table that cannot be read ends the run; whoever asks for its grains hears why. */
  #tableOrNone(table: number, must: boolean): ReturnType<GrainTables['get']> | undefined {
    try {
      return this.tables.get(table);
    } catch (error) {
      if (must || !(error instanceof ImageError)) throw error;
      return undefined;
    }
  }

  /** Bytes of a grain that lie within the extent. */
  #usedOf(grain: number): number {
    return Math.min(this.grainSize, this.size - grain * this.grainSize);
  }

  #whereOf(grain: number): Where {
    const table = Math.floor(grain / this.entriesPerTable);
    const base = this.tables.source.offsetOf(table);
    const offset = base + (grain - table * this.entriesPerTable) * this.tables.source.entryBytes;
    return { file: this.storage.name, offset, field: 'GTE' };
  }

  /** Why a plain grain may not stand at sector `entry`; null: it may. */
  #faultOf(grain: number, entry: number): ImageError | null {
    const offset = entry * sectorSize;
    const end = offset + (this.compressed ? grainMarkerLength : this.#usedOf(grain));
    const guest = grain * this.grainSize;
    if (end > this.storage.size) {
      return new ImageError('vmdk/grain-outside', { guest, offset, size: this.storage.size }, this.#whereOf(grain));
    }
    for (const { start, end: stop, what } of this.reserved) {
      if (offset < stop && end > start) {
        return new ImageError('vmdk/grain-overlap', { guest, offset, what }, this.#whereOf(grain));
      }
    }
    return null;
  }

  /** Throws `vmdk/grain-outside`, `vmdk/grain-overlap` for a place where no grain may be. */
  checkGrain(grain: number, entry: number): void {
    const fault = this.#faultOf(grain, entry);
    if (fault !== null) throw fault;
  }

  #mapPacked(grain: number, entry: number, skip: number, length: number): ExtentAnswer {
    this.checkGrain(grain, entry);
    const { offset, storedLength } = this.packedAt(grain, entry);
    const unpackedLength = this.#unpackedLengthOf(grain, offset, storedLength);
    return { kind: 'packed', length, offset, storedLength, unpackedLength, skip, codec };
  }

  /** Where the stream of a compressed grain is. Throws `vmdk/grain-marker`, `vmdk/grain-outside`. */
  packedAt(grain: number, entry: number): { offset: HostOffset; storedLength: number } {
    const at = entry * sectorSize;
    // Compressing can make a grain larger; QEMU reads two grains at most.
    const most = 2 * this.grainSize;
    if (!this.markers) return { offset: at, storedLength: Math.min(most, this.storage.size - at) };
    const bytes = new Uint8Array(marker.size);
    const where = { file: this.storage.name, offset: at };
    this.storage.readAt(bytes.subarray(0, grainMarkerLength), at);
    const { val, size } = marker.parse(bytes, where);
    const lba = (grain * this.grainSize) / sectorSize;
    const guest = grain * this.grainSize;
    if (val !== lba) {
      const reason = `it is for sector ${val}, not ${lba}`;
      throw new ImageError('vmdk/grain-marker', { guest, reason }, { ...where, field: 'val' });
    }
    if (size === 0 || size > most) {
      const reason = `it says ${size} bytes`;
      throw new ImageError('vmdk/grain-marker', { guest, reason }, { ...where, offset: at + 8, field: 'size' });
    }
    const offset = at + grainMarkerLength;
    if (offset + size > this.storage.size) {
      throw new ImageError('vmdk/grain-outside', { guest, offset: at, size: this.storage.size }, where);
    }
    return { offset, storedLength: size };
  }

  /** A last grain that the disk ends in holds all its bytes (VMware) or only those of the disk (QEMU). */
  #unpackedLengthOf(grain: number, offset: HostOffset, storedLength: number): number {
    const used = this.#usedOf(grain);
    if (used === this.grainSize) return used;
    if (this.#lastLength !== null) return this.#lastLength;
    const stored = new Uint8Array(storedLength);
    this.storage.readAt(stored, offset);
    try {
      unpack(codec, stored, this.grainSize, { file: this.storage.name, offset });
      this.#lastLength = this.grainSize;
    } catch (error) {
      if (!isImageError(error, 'packed/damaged')) throw error;
      this.#lastLength = used;
    }
    return this.#lastLength;
  }
}

// The grain tables of a sparse extent: read in large pieces, kept in a bounded cache, changed in memory until they are written out.
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

/**
 * The entries of one table. Whatever the format: 0 not allocated, 1 zeroed (where the extent has such entries), otherwise the
 * sector in the file where the grain starts.
 */
export type Entries = Uint32Array | Float64Array;

/** Where the tables of an extent stand and how their entries read. */
export interface TableSource {
  readonly storage: Storage;
  readonly tables: number;
  readonly entriesPerTable: number;
  readonly entryBytes: 4 | 8;
  /** Byte offset of a table; 0: there is none. */
  offsetOf(table: number): HostOffset;
  /** Where the directory's entry for a table stands. */
  entryOffsetOf(table: number): HostOffset;
  /** What stands between these offsets, where no table may be; null: nothing. */
  overlap(start: HostOffset, end: HostOffset): string | null;
  /** Why the directory's own entry for a table cannot be read; null: it can. Absent: all can. */
  faultOf?(table: number): ImageError | null;
  /** Eight-byte entries to sectors. Throws for entries that are invalid. Absent: little-endian sector numbers of 32 bits. */
  decode?(bytes: Uint8Array, into: Entries): void;
}

/** Neighbouring tables that are read and kept together. */
interface Group {
  readonly entries: Entries;
  /** Tables that cannot be read, and why: told when somebody asks for them. */
  readonly faults: Map<number, ImageError>;
  readonly dirty: Set<number>;
}

const groupEntries = 64 * 1024;
const cachedGroups = 32;
/** Changed groups are kept beyond that, up to 32 MiB: half a TiB of new grains of 64 KiB. */
const dirtyLimit = 128;

/** The groups of all extents of one image: so many at most, whatever the number of extents. */
export class TableCache {
  readonly #groups = new Map<number, Group>();
  #dirty = 0;

  find(key: number): Group | undefined {
    const group = this.#groups.get(key);
    if (group !== undefined) {
      this.#groups.delete(key);
      this.#groups.set(key, group);
    }
    return group;
  }

  add(key: number, group: Group): void {
    this.#groups.set(key, group);
    if (this.#groups.size <= cachedGroups + this.#dirty) return;
    for (const [oldest, { dirty }] of this.#groups) {
      if (dirty.size > 0 || oldest === key) continue;
      this.#groups.delete(oldest);
      return;
    }
  }

  drop(key: number): void {
    this.#groups.delete(key);
  }

  /** A group has become dirty (`+1`) or clean (`-1`). */
  countDirty(change: 1 | -1): void {
    this.#dirty += change;
  }

  /** So much has changed that it should be written out now. */
  get full(): boolean {
    return this.#dirty >= dirtyLimit;
  }
}

/** Host byte order is checked once: tables are little-endian. */
const littleEndianHost = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The tables of one extent. `id` tells the extents of one cache apart. */
export class GrainTables {
  readonly source: TableSource;
  readonly cache: TableCache;
  readonly #id: number;
  readonly #perGroup: number;
  #recent: { index: number; group: Group } | null = null;
  readonly #dirtyGroups = new Set<number>();

  constructor(source: TableSource, cache: TableCache, id: number) {
    this.source = source;
    this.cache = cache;
    this.#id = id;
    this.#perGroup = Math.max(1, Math.floor(groupEntries / source.entriesPerTable));
  }

  /**
   * The entries of a table; null: the directory has none for it. Valid until the next call.
   * Throws `vmdk/table-outside`, `vmdk/table-overlap`, `vmdk/table-entry`.
   */
  get(table: number): Entries | null {
    const { group, index } = this.#groupOf(table);
    const fault = group.faults.get(index);
    if (fault !== undefined) throw fault;
    if (this.source.offsetOf(table) === 0 && !group.dirty.has(index)) return null;
    return this.#slice(group, index);
  }

  /** Why a table cannot be read; null: it can. */
  faultOf(table: number): ImageError | null {
    const { group, index } = this.#groupOf(table);
    return group.faults.get(index) ?? null;
  }

  /** The entries of a table, or none where it cannot be read: for views of a damaged file. */
  readable(table: number): Entries {
    const { group, index } = this.#groupOf(table);
    return group.faults.has(index) ? group.entries.subarray(0, 0) : this.#slice(group, index);
  }

  /** Changes one entry; the table is written by whoever asks `dirtyTables`. */
  set(table: number, entry: number, value: number): void {
    const { group, index } = this.#groupOf(table);
    const fault = group.faults.get(index);
    if (fault !== undefined) throw fault;
    group.entries[index * this.source.entriesPerTable + entry] = value;
    if (group.dirty.has(index)) return;
    if (group.dirty.size === 0) {
      const groupIndex = Math.floor(table / this.#perGroup);
      this.cache.countDirty(1);
      this.#dirtyGroups.add(groupIndex);
      // It may have been pushed out since it was found.
      this.cache.add(this.#keyOf(groupIndex), group);
    }
    group.dirty.add(index);
  }

  /** Tables with changes, in order. */
  dirtyTables(): number[] {
    const tables: number[] = [];
    for (const groupIndex of [...this.#dirtyGroups].sort((a, b) => a - b)) {
      const group = this.#load(groupIndex);
      for (const index of [...group.dirty].sort((a, b) => a - b)) tables.push(groupIndex * this.#perGroup + index);
    }
    return tables;
  }

  /** The bytes of `count` tables from `table` on, which lie in one group. */
  bytesOf(table: number, count: number): Uint8Array {
    const { group, index } = this.#groupOf(table);
    const { entriesPerTable } = this.source;
    const entries = group.entries.subarray(index * entriesPerTable, (index + count) * entriesPerTable);
    const bytes = Buffer.from(new Uint8Array(entries.buffer, entries.byteOffset, entries.byteLength));
    return littleEndianHost ? bytes : bytes.swap32();
  }

  /** True when both tables are kept together: their bytes can be written in one piece. */
  together(a: number, b: number): boolean {
    return Math.floor(a / this.#perGroup) === Math.floor(b / this.#perGroup);
  }

  /** All changes are in the file. */
  clean(): void {
    for (const groupIndex of this.#dirtyGroups) {
      this.#load(groupIndex).dirty.clear();
      this.cache.countDirty(-1);
    }
    this.#dirtyGroups.clear();
  }

  /** What was read is forgotten: the tables have moved. There must be no changes. */
  forget(): void {
    const groups = Math.ceil(this.source.tables / this.#perGroup);
    for (let index = 0; index < groups; index++) this.cache.drop(this.#keyOf(index));
    this.#recent = null;
  }

  /** The same extent with other tables: what was read is forgotten. There must be no changes. */
  replaced(source: TableSource): GrainTables {
    this.forget();
    return new GrainTables(source, this.cache, this.#id);
  }

  #groupOf(table: number): { group: Group; index: number } {
    const groupIndex = Math.floor(table / this.#perGroup);
    return { group: this.#load(groupIndex), index: table - groupIndex * this.#perGroup };
  }

  #slice(group: Group, index: number): Entries {
    const { entriesPerTable } = this.source;
    return group.entries.subarray(index * entriesPerTable, (index + 1) * entriesPerTable);
  }

  #keyOf(groupIndex: number): number {
    return this.#id * 2 ** 32 + groupIndex;
  }

  #load(groupIndex: number): Group {
    if (this.#recent?.index === groupIndex) return this.#recent.group;
    let group = this.cache.find(this.#keyOf(groupIndex));
    if (group === undefined) {
      group = this.#read(groupIndex);
      this.cache.add(this.#keyOf(groupIndex), group);
    }
    this.#recent = { index: groupIndex, group };
    return group;
  }

  #read(groupIndex: number): Group {
    const { source } = this;
    const { entriesPerTable, entryBytes } = source;
    const first = groupIndex * this.#perGroup;
    const count = Math.min(this.#perGroup, source.tables - first);
    const tableBytes = entriesPerTable * entryBytes;
    const entries =
      entryBytes === 4 ? new Uint32Array(count * entriesPerTable) : new Float64Array(count * entriesPerTable);
    const group: Group = { entries, faults: new Map(), dirty: new Set() };
    let index = 0;
    while (index < count) {
      const lost = source.faultOf?.(first + index) ?? null;
      if (lost !== null) {
        group.faults.set(index, lost);
        index++;
        continue;
      }
      const offset = source.offsetOf(first + index);
      if (offset === 0) {
        index++;
        continue;
      }
      const fault = this.#placeFault(first + index, offset, tableBytes);
      if (fault !== null) {
        group.faults.set(index, fault);
        index++;
        continue;
      }
      let run = 1;
      while (
        index + run < count &&
        source.offsetOf(first + index + run) === offset + run * tableBytes &&
        this.#placeFault(first + index + run, offset + run * tableBytes, tableBytes) === null
      ) {
        run++;
      }
      this.#readRun(group, first, index, run, offset);
      index += run;
    }
    return group;
  }

  /** Why a table may not stand at `offset`; null: it may. */
  #placeFault(table: number, offset: HostOffset, length: number): ImageError | null {
    const { storage } = this.source;
    const where = { file: storage.name, offset: this.source.entryOffsetOf(table), field: 'GDE' };
    if (offset + length > storage.size) {
      return new ImageError('vmdk/table-outside', { table, offset, size: storage.size }, where);
    }
    const what = this.source.overlap(offset, offset + length);
    return what === null ? null : new ImageError('vmdk/table-overlap', { table, offset, what }, where);
  }

  #readRun(group: Group, first: number, index: number, run: number, offset: HostOffset): void {
    const { source } = this;
    const { entriesPerTable, entryBytes } = source;
    const bytes = Buffer.alloc(run * entriesPerTable * entryBytes);
    source.storage.readAt(bytes, offset);
    if (source.decode === undefined) {
      if (!littleEndianHost) bytes.swap32();
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, run * entriesPerTable);
      group.entries.set(words, index * entriesPerTable);
      return;
    }
    const tableBytes = entriesPerTable * entryBytes;
    for (let i = 0; i < run; i++) {
      try {
        source.decode(bytes.subarray(i * tableBytes, (i + 1) * tableBytes), this.#slice(group, index + i));
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        const detail = { ...error.detail, table: first + index + i };
        group.faults.set(
          index + i,
          new ImageError(error.code, detail, {
            file: source.storage.name,
            offset: offset + i * tableBytes,
            ...error.where,
          }),
        );
      }
    }
  }
}

// The end of a sparse file and the tables in it: room for what is added, and tables written after what they point to.
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { readDirectory } from './open-sparse.ts';
import type { Directory, SparseExtent } from './sparse.ts';
import { cowdHeader, sectorSize, sparseFileLimit } from './spec.ts';

/** Keeps directory, tables and their redundant copies of one extent in step. */
export class TableWriter {
  readonly #extent: SparseExtent;
  readonly #storage: Storage;
  readonly #redundant: Directory | null;
  readonly #step: number;
  #next: HostOffset;
  #written = false;
  #grown = false;
  /** Entries of the directory that are not in the file yet. */
  #changed = { from: Infinity, to: -1 };

  /** What is added starts at multiples of `step`. Throws `vmdk/directory-outside`: a redundant copy that cannot be kept in step. */
  constructor(extent: SparseExtent, step: number) {
    this.#extent = extent;
    this.#storage = extent.storage;
    this.#step = step;
    this.#next = alignUp(extent.storage.size, step);
    this.#redundant =
      extent.redundantOffset === null
        ? null
        : readDirectory(extent.storage, extent.redundantOffset, extent.directory.entries.length);
  }

  /** Room at the end of the file. Throws `vmdk/full`. */
  allocate(length: number): HostOffset {
    const offset = this.#next;
    if (offset + length > sparseFileLimit) {
      throw new ImageError('vmdk/full', {}, { file: this.#storage.name, offset });
    }
    this.#next = alignUp(offset + length, this.#step);
    this.#grown = true;
    this.#written = true;
    return offset;
  }

  /** Guest bytes were changed in place: the next `settle` flushes them. */
  noteWritten(): void {
    this.#written = true;
  }

  /** Points a grain to a sector of the file, to nothing (0) or to zeroes (1). */
  set(grain: number, entry: number): void {
    const { entriesPerTable, tables } = this.#extent;
    const table = Math.floor(grain / entriesPerTable);
    tables.set(table, grain - table * entriesPerTable, entry);
    this.#written = true;
  }

  /** `durable`: waits for the disk between the steps, so that a power cut leaves unused grains at worst. */
  settle(durable: boolean): void {
    if (!this.#written) return;
    const { tables, directory } = this.#extent;
    const dirty = tables.dirtyTables();
    for (const table of dirty) this.#placeTable(directory, table);
    if (this.#redundant !== null) for (const table of dirty) this.#placeTable(this.#redundant, table);
    // 1: guest data, and the end of the file that belongs to it.
    if (this.#storage.size < this.#next) this.#storage.truncate(this.#next);
    if (this.#grown && this.#extent.form.id === 'cowd') this.#writeFreeSector();
    if (durable) this.#storage.flush();
    if (dirty.length > 0) {
      // 2: tables point to data.
      this.#writeTables(dirty, directory);
      if (this.#redundant !== null) this.#writeTables(dirty, this.#redundant);
      if (durable) this.#storage.flush();
    }
    if (this.#changed.to >= 0) {
      // 3: the directory points to tables.
      this.#writeDirectory(directory);
      if (this.#redundant !== null) this.#writeDirectory(this.#redundant);
      if (durable) this.#storage.flush();
    }
    tables.clean();
    this.#changed = { from: Infinity, to: -1 };
    this.#written = false;
    this.#grown = false;
  }

  /** A table that the directory does not have yet gets its place. */
  #placeTable({ entries }: Directory, table: number): void {
    if (entries[table] !== 0) return;
    entries[table] = this.allocate(alignUp(this.#extent.entriesPerTable * 4, sectorSize)) / sectorSize;
    this.#changed.from = Math.min(this.#changed.from, table);
    this.#changed.to = Math.max(this.#changed.to, table);
  }

  /** Neighbours that are neighbours in the file too are written in one piece. */
  #writeTables(dirty: readonly number[], directory: Directory): void {
    const { tables, entriesPerTable } = this.#extent;
    const step = (entriesPerTable * 4) / sectorSize;
    let at = 0;
    while (at < dirty.length) {
      const first = dirty[at] ?? 0;
      const sector = directory.entries[first] ?? 0;
      let count = 1;
      while (
        dirty[at + count] === first + count &&
        directory.entries[first + count] === sector + count * step &&
        tables.together(first, first + count)
      ) {
        count++;
      }
      this.#storage.writeAt(tables.bytesOf(first, count), sector * sectorSize);
      at += count;
    }
  }

  #writeDirectory(directory: Directory): void {
    const { from, to } = this.#changed;
    const bytes = new Uint8Array(4 * (to - from + 1));
    const view = new DataView(bytes.buffer);
    for (let i = from; i <= to; i++) view.setUint32(4 * (i - from), directory.entries[i] ?? 0, true);
    this.#storage.writeAt(bytes, directory.offset + 4 * from);
  }

  /** Before the tables: a free sector that is too large loses space, one that is too small loses data. */
  #writeFreeSector(): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, Math.min(0xffffffff, this.#next / sectorSize), true);
    this.#storage.writeAt(bytes, cowdHeader.fields.freeSector.offset);
  }
}

// A VHDX open for writing: room for guest bytes, zeroes, blocks given back, and the order in which the file learns of it.
import type { BackingReference, BlockNode, Place, WritableNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import type { GuestRange } from '../../block/units.ts';
import type { OpenGate } from '../driver.ts';
import { isPresent } from './block-table.ts';
import { isAsCreated } from './create.ts';
import { HeaderWriter } from './header.ts';
import type { VhdxImage } from './image.ts';
import { LogWriter } from './log-writer.ts';
import { readsZero, VhdxNode } from './node.ts';
import { writeSectors, type DirtySector } from './pages.ts';
import { endOfRegions } from './region-table.ts';
import { changeParent, removeParent } from './reparent.ts';
import { resizeDisk } from './resize.ts';
import { Rooms } from './rooms.ts';
import { endOfUse, Space } from './space.ts';
import { payloadState } from './spec.ts';
import { TableEdits } from './table-edits.ts';

/** A VHDX opened for writing. */
export class WritableVhdxNode extends VhdxNode implements WritableNode {
  readonly identityFollowsContent = true;
  readonly zeroesLast = true;
  readonly storage: Storage;
  readonly edits: TableEdits;
  readonly #headers: HeaderWriter;
  readonly #log: LogWriter;
  readonly #rooms: Rooms;
  /** As `create` left it: nothing in it that a power cut could take away. */
  #created: 'fresh' | 'kept' | null;
  #touched = false;
  /** Found by the first change, while the tables are still those of the disk. */
  #space: Space | null = null;
  /** The first error of a flush: what the disk holds since then is not known, so the log stays. */
  #failure: Error | null = null;
  #done = false;

  constructor(image: VhdxImage, parent: BlockNode | null, gate: OpenGate) {
    super(image, parent, gate);
    this.storage = image.file;
    this.#headers = new HeaderWriter(image.file, image.section);
    this.#log = new LogWriter(image.file, this.#headers);
    this.edits = new TableEdits(this.pages, image.table, image.metadata);
    this.#rooms = new Rooms(this);
    this.#created = isAsCreated(image.section);
  }

  override get dataWriteGuid(): string {
    return this.#headers.header.DataWriteGuid;
  }

  /** Room for new blocks; only after `touch`. */
  get space(): Space {
    if (this.#space === null) throw new Error('the image was not touched');
    return this.#space;
  }

  /** Bytes of a block that belong to the disk: all, but for the last one. */
  usedOf(block: number): number {
    return Math.min(this.disk.blockSize, this.disk.virtualSize - block * this.disk.blockSize);
  }

  get isFixed(): boolean {
    return this.image.metadata.leaveBlocksAllocated;
  }

  /** For resizing and re-parenting: the disk is this from now on. */
  become(change: { size?: number; locator?: VhdxNode['locator'] }): void {
    if (change.size !== undefined) this.disk = { ...this.disk, virtualSize: change.size };
    if (change.locator !== undefined) this.parentLocator = change.locator;
    if (change.locator === null) {
      this.parent?.close();
      this.parent = null;
    }
  }

  reserve(range: GuestRange): Place {
    this.touch();
    const { block, within, length, state } = this.#locate(range);
    switch (state) {
      case payloadState.fullyPresent:
        return this.#rooms.inPresent(range);
      case payloadState.partiallyPresent:
        return this.#rooms.inPartial(block, within, length);
      case payloadState.notPresent:
        if (this.locator === null) return this.#rooms.inNew(range, 'zeroes');
        if (within === 0 && range.length >= this.usedOf(block)) return this.#rooms.inNew(range, 'whole');
        if (this.#rooms.wasPartial(block)) this.flush();
        return this.#rooms.inNewPartial(block, within, length);
      default:
        if (readsZero(state)) return this.#rooms.inNew(range, 'zeroes');
        throw this.stateError(this.table.payload(block), state, 'is reserved');
    }
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    this.touch();
    const { block, within, length, state } = this.#locate(range);
    const done: GuestRange = { start: range.start, length };
    const whole = length === this.usedOf(block);
    const index = this.table.payload(block);
    if (readsZero(state) || (state === payloadState.notPresent && this.locator === null)) {
      const implied = state === payloadState.zero || state === payloadState.notPresent;
      if (whole && !implied) this.table.set(index, payloadState.zero, 0);
      if (whole) this.#rooms.giveUp(block, state);
      return done;
    }
    if (isPresent(state) && keepSpace) return null;
    if (whole && !(this.isFixed && isPresent(state))) {
      this.#rooms.giveUp(block, state);
      this.table.set(index, payloadState.zero, 0);
      return done;
    }
    if (state === payloadState.fullyPresent) {
      this.storage.zeroAt(this.placeOf(block) + within, length);
      return done;
    }
    return this.#zeroSectors(range, length);
  }

  release(range: GuestRange): GuestRange | null {
    if (this.isFixed) return this.zero(range);
    this.touch();
    const { block, length, state } = this.#locate(range);
    const done: GuestRange = { start: range.start, length };
    if (state === payloadState.notPresent) return done;
    if (length !== this.usedOf(block)) return null;
    this.#rooms.giveUp(block, state);
    this.table.set(this.table.payload(block), payloadState.notPresent, 0);
    return done;
  }

  resize(size: number): void {
    resizeDisk(this, size);
  }

  setBacking(reference: BackingReference | null): void {
    if (reference === null) removeParent(this);
    else changeParent(this, reference);
  }

  /**
   * Comes before every change. Says in the headers that this file and its content change, before they do (2.2.2); a file as `create`
   * left it is spared: whoever reads it after `writeBack` or `flush` finds that said then. And finds out which room is free. Where one
   * header or one copy of the region table was damaged, both are good from the next flush on. `content` false: what the guest reads
   * stays the same, and children keep their parent.
   */
  touch(content = true): void {
    if (this.#touched) return;
    const { section, table } = this.image;
    const end = endOfUse(this.table, this.disk, endOfRegions(section.header, table));
    this.#space ??= new Space(this.storage, this.disk.blockSize, end);
    if (this.#created === null) this.#headers.update(HeaderWriter.freshGuids(content));
    if (!table.same) this.edits.writeRegionTables();
    this.#touched = true;
  }

  /**
   * The steps: 1 guest data and what was logged before are durable · 2 the changed sectors stand in the log, durable · 3 they are
   * written to their places, which the next flush makes durable. A power cut before the end of 2 leaves the old tables, after it the
   * new ones. More sectors than one entry holds go in rounds, so that each leaves sound tables: bitmaps, then the BAT that makes them
   * count (from its end, as a chunk's bitmap entry stands behind those that need it), then metadata (first when a disk shrinks).
   */
  flush(order: 'tables-first' | 'metadata-first' = 'tables-first'): void {
    if (this.#failure !== null) throw this.#failure;
    try {
      this.#flush(order);
    } catch (error) {
      this.#failure = asError(error);
      throw error;
    }
  }

  #flush(order: 'tables-first' | 'metadata-first'): void {
    if (this.#touched) this.#leaveCreated(true);
    this.storage.flush();
    const sectors = this.#inOrder(this.pages.dirtySectors(), order);
    const capacity = sectors.length === 0 ? 1 : this.#log.capacity;
    for (let first = 0; first < sectors.length; first += capacity) {
      const round = sectors.slice(first, first + capacity);
      if (first > 0) this.storage.flush();
      this.#log.append(round);
      writeSectors(this.storage, round.toReversed());
      this.pages.markClean(round);
    }
    this.#space?.settle();
    this.#rooms.settle();
  }

  /** A new file has no name and no reader: its tables are written in large pieces, without log or waiting. Any other: `flush`. */
  writeBack(): void {
    if (this.#created === null) {
      this.flush();
      return;
    }
    const sectors = this.pages.dirtySectors();
    writeSectors(this.storage, sectors);
    this.pages.markClean(sectors);
    this.#space?.settle();
    this.#rooms.settle();
    if (this.#touched) this.#leaveCreated(false);
  }

  /** Cuts the file behind the last block. The log is emptied first: its entries are for a file as long as it was. */
  cutEnd(): void {
    this.flush();
    this.storage.flush();
    this.#log.clear();
    const { section, table } = this.image;
    const end = endOfUse(this.table, this.disk, endOfRegions(section.header, table));
    if (end < this.storage.size) this.storage.truncate(end);
    this.storage.flush();
    this.#space = new Space(this.storage, this.disk.blockSize, end);
  }

  override close(): void {
    if (this.#done) return;
    this.#done = true;
    try {
      if (this.#log.active && this.#failure === null) {
        this.storage.flush();
        this.#log.clear();
      }
    } finally {
      super.close();
    }
  }

  /** The headers say that the file is no longer as it was created. Its DataWriteGuid stays where it was asked for. */
  #leaveCreated(durable: boolean): void {
    if (this.#created === null) return;
    this.#headers.update(this.#created === 'kept' ? {} : HeaderWriter.freshGuids(true), durable);
    if (durable) this.#created = null;
  }

  #inOrder(sectors: readonly DirtySector[], order: 'tables-first' | 'metadata-first'): DirtySector[] {
    const { metadata } = this.image.table;
    const rank = ({ offset }: DirtySector): number => {
      if (offset >= metadata.offset && offset < metadata.offset + metadata.length) {
        return order === 'metadata-first' ? 0 : 3;
      }
      return offset >= this.table.offset && offset < this.table.offset + this.table.capacity * 8 ? 2 : 1;
    };
    return sectors
      .map((sector) => ({ sector, rank: rank(sector) }))
      .sort((a, b) => a.rank - b.rank || b.sector.offset - a.sector.offset)
      .map(({ sector }) => sector);
  }

  #locate(range: GuestRange): { block: number; within: number; length: number; state: number } {
    const { blockSize } = this.disk;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const length = Math.min(range.length, blockSize - within);
    return { block, within, length, state: this.table.state(this.table.payload(block)) };
  }

  /** Whole sectors over a layer below: stored as zeroes, and said to be here. */
  #zeroSectors(range: GuestRange, length: number): GuestRange | null {
    const { logicalSectorSize: sector } = this.disk;
    if (range.start % sector !== 0 || length % sector !== 0) return null;
    const place = this.reserve({ start: range.start, length });
    this.storage.zeroAt(place.offset, place.covers.length);
    place.publish();
    return place.covers;
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

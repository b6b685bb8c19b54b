// A VHDX open for writing: room for guest bytes, zeroes, blocks given back, and the order in which the file learns of it.
import type { BackingReference, BlockNode, Place, WritableNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignDown, alignUp, MiB, type GuestRange } from '../../block/units.ts';
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
import { endOfUse, Space } from './space.ts';
import { bitmapBlockLength, bitmapState, payloadState } from './spec.ts';
import { TableEdits } from './table-edits.ts';

/** Blocks handed out at once reach this far at most, and at least over one block. */
const maxRun = 64 * MiB;

/** A VHDX opened for writing. */
export class WritableVhdxNode extends VhdxNode implements WritableNode {
  readonly storage: Storage;
  readonly edits: TableEdits;
  readonly gate: OpenGate;
  readonly #headers: HeaderWriter;
  readonly #log: LogWriter;
  /** Blocks that have room which the BAT does not name yet: block → place. */
  readonly #reserved = new Map<number, number>();
  /** As `create` left it: nothing in it that a power cut could take away. */
  #created: 'fresh' | 'kept' | null;
  #touched = false;
  /** Found by the first change, while the tables are still those of the disk. */
  #space: Space | null = null;
  /** The first error of a flush: what the disk holds since then is not known, so the log stays. */
  #failure: Error | null = null;
  #done = false;

  constructor(image: VhdxImage, parent: BlockNode | null, gate: OpenGate) {
    super(image, parent);
    this.storage = image.file;
    this.gate = gate;
    this.#headers = new HeaderWriter(image.file, image.section);
    this.#log = new LogWriter(image.file, this.#headers);
    this.edits = new TableEdits(this.pages, image.table, image.metadata);
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
    if (state === payloadState.fullyPresent) {
      const mapping = this.map(range);
      if (mapping.kind !== 'data') throw new Error(`block ${block} is present and maps to ${mapping.kind}`);
      return {
        covers: { start: range.start, length: mapping.length },
        storage: this.storage,
        offset: mapping.offset,
        fresh: false,
        publish: () => {},
      };
    }
    if (state === payloadState.partiallyPresent) return this.#placeInPartial(block, within, length);
    const zeroNow = readsZero(state) || (state === payloadState.notPresent && this.locator === null);
    if (zeroNow) return this.#placeInNew(range, block, within, true);
    if (state !== payloadState.notPresent) {
      throw this.stateError(this.table.payload(block), state, 'is reserved');
    }
    if (within === 0 && range.length >= this.#used(block)) return this.#placeInNew(range, block, within, false);
    return this.#placeInNewPartial(block, within, length);
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    this.touch();
    const { block, within, length, state } = this.#locate(range);
    const done: GuestRange = { start: range.start, length };
    const whole = length === this.#used(block);
    const index = this.table.payload(block);
    if (readsZero(state) || (state === payloadState.notPresent && this.locator === null)) {
      const implied = state === payloadState.zero || state === payloadState.notPresent;
      if (whole && !implied) this.table.set(index, payloadState.zero, 0);
      if (whole) this.#giveUp(block, state);
      return done;
    }
    if (isPresent(state) && keepSpace) return null;
    if (whole && !(this.isFixed && isPresent(state))) {
      this.#giveUp(block, state);
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
    if (length !== this.#used(block)) return null;
    this.#giveUp(block, state);
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
   * header or one copy of the region table was damaged, both are good from the next flush on.
   */
  touch(): void {
    if (this.#touched) return;
    const { section, table } = this.image;
    const end = endOfUse(this.table, this.disk, endOfRegions(section.header, table));
    this.#space ??= new Space(this.storage, this.disk.blockSize, end);
    if (this.#created === null) this.#headers.update(HeaderWriter.freshGuids(true));
    if (!table.same) this.edits.writeRegionTables();
    this.#touched = true;
  }

  /**
   * The steps: 1 guest data and what was logged before are durable · 2 the changed sectors stand in the log, durable · 3 they are
   * written to their places, which the next flush makes durable. A power cut before the end of 2 leaves the old tables, after it the
   * new ones. More sectors than one entry holds go in rounds: bitmaps, then the BAT that makes them count, then metadata (which comes
   * first when a disk shrinks).
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
      writeSectors(this.storage, round);
      this.pages.markClean(round);
    }
    this.#space?.settle();
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
    if (this.#touched) this.#leaveCreated(false);
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
      .sort((a, b) => a.rank - b.rank || a.sector.offset - b.sector.offset)
      .map(({ sector }) => sector);
  }

  #locate(range: GuestRange): { block: number; within: number; length: number; state: number } {
    const { blockSize } = this.disk;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const length = Math.min(range.length, blockSize - within);
    return { block, within, length, state: this.table.state(this.table.payload(block)) };
  }

  /** Bytes of a block that belong to the disk: all, but for the last one. */
  #used(block: number): number {
    return Math.min(this.disk.blockSize, this.disk.virtualSize - block * this.disk.blockSize);
  }

  /** The room of a block, in the BAT or only reserved, goes back. */
  #giveUp(block: number, state: number): void {
    const reserved = this.#reserved.get(block);
    if (isPresent(state)) this.space.giveUp(this.placeOf(block));
    else if (reserved !== undefined) this.space.giveUp(reserved);
    this.#reserved.delete(block);
  }

  /** New blocks that become fully present: the rest of them reads as zeroes (`padded`), or there is no rest. */
  #placeInNew(range: GuestRange, block: number, within: number, padded: boolean): Place {
    const { blockSize } = this.disk;
    let count = 1;
    const known = this.#reserved.get(block);
    const wanted = Math.min(range.length, Math.max(maxRun, blockSize));
    while (within + wanted > count * blockSize && this.#continues(block, count, known, range, padded)) count++;
    const place = known ?? this.space.allocate(count * blockSize, padded);
    if (known === undefined) {
      for (let next = 0; next < count; next++) this.#reserved.set(block + next, place + next * blockSize);
    }
    const length = Math.min(range.length, count * blockSize - within);
    return {
      covers: { start: range.start, length },
      storage: this.storage,
      offset: place + within,
      fresh: true,
      publish: () => {
        for (let next = 0; next < count; next++) this.#publishWhole(block + next, place + next * blockSize);
      },
    };
  }

  /** Block `block + count` can be handed out in one piece with those before it. */
  #continues(block: number, count: number, known: number | undefined, range: GuestRange, padded: boolean): boolean {
    const next = block + count;
    const state = this.table.state(this.table.payload(next));
    const zeroNow = readsZero(state) || (state === payloadState.notPresent && this.locator === null);
    const reserved = this.#reserved.get(next);
    if (known === undefined ? reserved !== undefined : reserved !== known + count * this.disk.blockSize) return false;
    if (padded) return zeroNow;
    const end = range.start + range.length;
    return state === payloadState.notPresent && end >= next * this.disk.blockSize + this.#used(next);
  }

  #publishWhole(block: number, place: number): void {
    const index = this.table.payload(block);
    if (this.#reserved.get(block) === place) {
      this.table.set(index, payloadState.fullyPresent, place);
      this.#reserved.delete(block);
    } else if (this.table.place(index) !== place) {
      throw new Error(`the room of block ${block} was given up before it was published`);
    } else {
      this.table.set(index, payloadState.fullyPresent, place);
    }
  }

  /** Sectors of a block that is not there yet: it becomes partially present. */
  #placeInNewPartial(block: number, within: number, length: number): Place {
    this.#provideBitmap(block);
    let place = this.#reserved.get(block);
    if (place === undefined) {
      place = this.space.allocate(this.disk.blockSize, false);
      this.#reserved.set(block, place);
    }
    return this.#sectorPlace(block, place, within, length);
  }

  #placeInPartial(block: number, within: number, length: number): Place {
    const { blockSize, logicalSectorSize: sector } = this.disk;
    const place = this.placeOf(block);
    const { bitmap, first } = this.bitmapOf(block);
    const from = Math.floor(within / sector);
    const run = bitmap.run(first + from, Math.ceil((within + length) / sector) - from);
    const reach = Math.min(length, (from + run.length) * sector - within);
    if (!run.set) return this.#sectorPlace(block, place, within, reach);
    return {
      covers: { start: block * blockSize + within, length: reach },
      storage: this.storage,
      offset: place + within,
      fresh: false,
      publish: () => {},
    };
  }

  /** Whole sectors around `within…` of a block at `place`; publishing sets their bits. */
  #sectorPlace(block: number, place: number, within: number, length: number): Place {
    const { blockSize, logicalSectorSize: sector } = this.disk;
    const from = alignDown(within, sector);
    const to = alignUp(within + length, sector);
    return {
      covers: { start: block * blockSize + from, length: to - from },
      storage: this.storage,
      offset: place + from,
      fresh: true,
      publish: () => this.#publishSectors(block, place, from / sector, (to - from) / sector),
    };
  }

  #publishSectors(block: number, place: number, sector: number, count: number): void {
    const index = this.table.payload(block);
    const inUse = isPresent(this.table.state(index)) && this.table.place(index) === place;
    if (inUse && this.table.state(index) === payloadState.fullyPresent) return;
    if (!inUse && this.#reserved.get(block) !== place) {
      throw new Error(`the room of block ${block} was given up before it was published`);
    }
    const sectors = this.#used(block) / this.disk.logicalSectorSize;
    if (!inUse) {
      this.table.set(index, payloadState.partiallyPresent, place);
      this.#reserved.delete(block);
      const { bitmap, first } = this.bitmapOf(block);
      bitmap.fill(first, this.disk.blockSize / this.disk.logicalSectorSize, false);
    }
    const { bitmap, first } = this.bitmapOf(block);
    bitmap.fill(first + sector, count, true);
    const ends = bitmap.run(first, 1).set && bitmap.run(first + sectors - 1, 1).set;
    if (ends && bitmap.run(first, sectors).length === sectors) {
      this.table.set(index, payloadState.fullyPresent, place);
    }
  }

  /** The bitmap block of the chunk of `block` exists from here on; an empty one says nothing. */
  #provideBitmap(block: number): void {
    const index = this.table.bitmap(Math.floor(block / this.table.ratio));
    if (this.table.state(index) === bitmapState.present) return;
    const place = this.space.allocate(bitmapBlockLength, true);
    this.pages.forget(place, bitmapBlockLength);
    this.table.set(index, bitmapState.present, place);
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

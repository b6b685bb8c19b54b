// Room for guest bytes in blocks, present or new, and how the tables learn that it is filled.
import type { Place } from '../../block/node.ts';
import { alignDown, alignUp, MiB, type GuestRange } from '../../block/units.ts';
import { isPresent } from './block-table.ts';
import { readsZero } from './node.ts';
import { bitmapBlockLength, bitmapState, payloadState } from './spec.ts';
import type { WritableVhdxNode } from './writer.ts';

/** Blocks handed out at once reach this far at most, and at least over one block. */
const maxRun = 64 * MiB;

/** What the rest of a new block reads as: zeroes, which its room holds then; or there is no rest, the writer fills all of it. */
type Rest = 'zeroes' | 'whole';

export class Rooms {
  readonly #node: WritableVhdxNode;
  /** Blocks that have room which the BAT does not name yet: block → place. */
  readonly #reserved = new Map<number, number>();
  /** Blocks that the file on the disk may still call partially present, with bits that are to count until it no longer does. */
  readonly #leftPartial = new Set<number>();

  constructor(node: WritableVhdxNode) {
    this.#node = node;
  }

  /** The block was partially present, was given up, and the disk does not know yet: its bits must not change before. */
  wasPartial(block: number): boolean {
    return this.#leftPartial.has(block);
  }

  /** The tables are on the disk. */
  settle(): void {
    this.#leftPartial.clear();
  }

  /** The room of a block, in the BAT or only reserved, goes back. */
  giveUp(block: number, state: number): void {
    const reserved = this.#reserved.get(block);
    if (isPresent(state)) this.#node.space.giveUp(this.#node.placeOf(block));
    else if (reserved !== undefined) this.#node.space.giveUp(reserved);
    if (isPresent(state) && this.#node.locator !== null) this.#leftPartial.add(block);
    this.#reserved.delete(block);
  }

  /** Bytes that are there: they are overwritten in place. */
  inPresent(range: GuestRange): Place {
    const mapping = this.#node.map(range);
    if (mapping.kind !== 'data') throw new Error(`a present block maps to ${mapping.kind}`);
    return this.#live(range.start, mapping.length, mapping.offset);
  }

  /** New blocks that become fully present, as many of them in one piece as the range goes over. */
  inNew(range: GuestRange, rest: Rest): Place {
    const { blockSize } = this.#node.geometry;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const known = this.#reserved.get(block);
    const wanted = Math.min(range.length, Math.max(maxRun, blockSize));
    let count = 1;
    while (within + wanted > count * blockSize && this.#continues(block, count, known, range, rest)) count++;
    const place = known ?? this.#node.space.allocate(count * blockSize, rest === 'zeroes');
    if (known === undefined) {
      for (let next = 0; next < count; next++) this.#reserved.set(block + next, place + next * blockSize);
    }
    return {
      covers: { start: range.start, length: Math.min(range.length, count * blockSize - within) },
      storage: this.#node.storage,
      offset: place + within,
      fresh: true,
      publish: () => {
        for (let next = 0; next < count; next++) this.#publishWhole(block + next, place + next * blockSize);
      },
    };
  }

  /** Sectors of a block that is not there yet: it becomes partially present. */
  inNewPartial(block: number, within: number, length: number): Place {
    this.#provideBitmap(block);
    let place = this.#reserved.get(block);
    if (place === undefined) {
      place = this.#node.space.allocate(this.#node.geometry.blockSize, false);
      this.#reserved.set(block, place);
    }
    return this.#sectorPlace(block, place, within, length);
  }

  /** Sectors of a partially present block: those that are there in place, or a run of those that are not. */
  inPartial(block: number, within: number, length: number): Place {
    const { blockSize, logicalSectorSize: sector } = this.#node.geometry;
    const { bitmap, first } = this.#node.bitmapOf(block);
    const from = Math.floor(within / sector);
    const run = bitmap.run(first + from, Math.ceil((within + length) / sector) - from);
    const reach = Math.min(length, (from + run.length) * sector - within);
    const place = this.#node.placeOf(block);
    if (!run.set) return this.#sectorPlace(block, place, within, reach);
    return this.#live(block * blockSize + within, reach, place + within);
  }

  #live(start: number, length: number, offset: number): Place {
    return { covers: { start, length }, storage: this.#node.storage, offset, fresh: false, publish: () => {} };
  }

  /** Block `block + count` can be handed out in one piece with those before it. */
  #continues(block: number, count: number, known: number | undefined, range: GuestRange, rest: Rest): boolean {
    const { table, geometry } = this.#node;
    const next = block + count;
    const reserved = this.#reserved.get(next);
    if (reserved !== (known === undefined ? undefined : known + count * geometry.blockSize)) return false;
    const state = table.state(table.payload(next));
    if (rest === 'zeroes') {
      return readsZero(state) || (state === payloadState.notPresent && this.#node.locator === null);
    }
    const end = range.start + range.length;
    return state === payloadState.notPresent && end >= next * geometry.blockSize + this.#node.usedOf(next);
  }

  #publishWhole(block: number, place: number): void {
    const { table } = this.#node;
    const index = table.payload(block);
    if (this.#reserved.get(block) !== place && table.place(index) !== place) this.#lost(block);
    this.#reserved.delete(block);
    table.set(index, payloadState.fullyPresent, place);
  }

  /** Whole sectors around `within…` of a block at `place`; publishing sets their bits. */
  #sectorPlace(block: number, place: number, within: number, length: number): Place {
    const { blockSize, logicalSectorSize: sector } = this.#node.geometry;
    const from = alignDown(within, sector);
    const to = alignUp(within + length, sector);
    return {
      covers: { start: block * blockSize + from, length: to - from },
      storage: this.#node.storage,
      offset: place + from,
      fresh: true,
      publish: () => this.#publishSectors(block, place, from / sector, (to - from) / sector),
    };
  }

  #publishSectors(block: number, place: number, sector: number, count: number): void {
    const { table, geometry } = this.#node;
    const index = table.payload(block);
    const inUse = isPresent(table.state(index)) && table.place(index) === place;
    if (inUse && table.state(index) === payloadState.fullyPresent) return;
    if (!inUse && this.#reserved.get(block) !== place) this.#lost(block);
    if (!inUse) table.set(index, payloadState.partiallyPresent, place);
    const { bitmap, first } = this.#node.bitmapOf(block);
    if (!inUse) {
      this.#reserved.delete(block);
      bitmap.fill(first, geometry.blockSize / geometry.logicalSectorSize, false);
    }
    bitmap.fill(first + sector, count, true);
    const sectors = this.#node.usedOf(block) / geometry.logicalSectorSize;
    const ends = bitmap.run(first, 1).set && bitmap.run(first + sectors - 1, 1).set;
    if (ends && bitmap.run(first, sectors).length === sectors) table.set(index, payloadState.fullyPresent, place);
  }

  #lost(block: number): never {
    throw new Error(`the room of block ${block} was given up before it was published`);
  }

  /** The bitmap block of the chunk of `block` exists from here on; an empty one says nothing. */
  #provideBitmap(block: number): void {
    const { table, space, pages } = this.#node;
    const index = table.bitmap(Math.floor(block / table.ratio));
    if (table.state(index) === bitmapState.present) return;
    const place = space.allocate(bitmapBlockLength, true);
    pages.forget(place, bitmapBlockLength);
    table.set(index, bitmapState.present, place);
  }
}

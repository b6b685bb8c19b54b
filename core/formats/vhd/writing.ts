// A dynamic or differencing disk, written: rooms for blocks at the end of the file, sector bitmaps, the order on the disk.
import type { BackingReference, Place, WritableNode } from '../../block/node.ts';
import { resolveOne } from '../../block/read.ts';
import type { GuestRange, HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { hasSector, sectorRun, setSectors } from './bitmap.ts';
import { DynamicNode, type DynamicParts } from './node.ts';
import { relink } from './relink.ts';
import { resizeDynamic } from './resize.ts';
import { footer, sectorSize, unallocated } from './spec.ts';
import { endOfUse } from './use.ts';

/** Entries are sector numbers of 32 bits, the last of which means "not in the file". */
const largestFile = (unallocated - 1) * sectorSize;

export class WritableDynamicNode extends DynamicNode implements WritableNode {
  /** Where the next room begins and the footer stands; a multiple of a sector. */
  end: HostOffset;
  /** Rooms given out for blocks that the BAT does not know yet. */
  readonly #pending = new Map<number, HostOffset>();
  /** Rooms that the BAT in memory no longer knows, but the one on the disk may. */
  #left: HostOffset[] = [];
  /** Rooms that nothing points to. */
  #free: HostOffset[] = [];
  /** One bit per block of a dynamic disk whose bitmap is known to be full. */
  readonly #full: Uint8Array;
  #footerMoved = false;
  readonly #sparseBitmaps: boolean;

  constructor(parts: DynamicParts, end: HostOffset, footerMissing: boolean, hasBatmap: boolean) {
    super(parts);
    this.end = end;
    this.#full = new Uint8Array(Math.ceil(this.table.entries / 8));
    this.#footerMoved = footerMissing;
    this.#sparseBitmaps = !hasBatmap;
  }

  reserve(range: GuestRange): Place {
    const { blockSize, bitmapSize } = this.layout;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const length = Math.min(range.length, blockSize - within);
    if (this.differencing) return this.#reserveSectors(block, within, length);
    const entry = this.table.get(block);
    const { storage } = this;
    const covers = { start: range.start, length };
    if (entry !== unallocated) {
      const room = this.roomOf(block, entry);
      this.#fillBitmap(block, room);
      return { covers, storage, offset: room + bitmapSize + within, fresh: false, publish: () => {} };
    }
    const room = this.#pendingRoom(block);
    const publish = (): void => this.#publish(block, room);
    return { covers, storage, offset: room + bitmapSize + within, fresh: true, publish };
  }

  /** A run of sectors that are all in the file, or all not. */
  #reserveSectors(block: number, within: number, length: number): Place {
    const { blockSize, bitmapSize } = this.layout;
    const start = block * blockSize;
    const entry = this.table.get(block);
    const room = entry === unallocated ? this.#pendingRoom(block) : this.roomOf(block, entry);
    const { bits } = this.bitmaps.at(room);
    const first = Math.floor(within / sectorSize);
    const end = first + sectorRun(bits, first, Math.ceil((within + length) / sectorSize));
    const { storage } = this;
    if (hasSector(bits, first)) {
      const covers = { start: start + within, length: Math.min(length, end * sectorSize - within) };
      return { covers, storage, offset: room + bitmapSize + within, fresh: false, publish: () => {} };
    }
    return {
      covers: { start: start + first * sectorSize, length: (end - first) * sectorSize },
      storage,
      offset: room + bitmapSize + first * sectorSize,
      fresh: true,
      publish: () => {
        this.#publish(block, room);
        this.#mark(room, first, end, true);
      },
    };
  }

  #publish(block: number, room: HostOffset): void {
    if (this.table.get(block) !== unallocated) return;
    this.table.set(block, room / sectorSize);
    this.#pending.delete(block);
  }

  #mark(room: HostOffset, first: number, end: number, present: boolean): void {
    const bitmap = this.bitmaps.at(room);
    setSectors(bitmap.bits, first, end, present);
    this.bitmaps.touch(bitmap);
    if (!this.bitmaps.isCrowded) return;
    if (this.bitmaps.hasLiveDirty) this.storage.flush();
    this.bitmaps.write();
  }

  #pendingRoom(block: number): HostOffset {
    const pending = this.#pending.get(block);
    if (pending !== undefined) return pending;
    const { bitmapSize, blockSize, roomSize } = this.layout;
    const reused = this.#free.pop();
    const room = reused ?? this.end;
    if (reused === undefined) this.appendRoom(roomSize);
    else this.storage.zeroAt(room + bitmapSize, blockSize);
    const bits = new Uint8Array(bitmapSize);
    if (!this.differencing) bits.fill(0xff);
    this.storage.writeAt(bits, room);
    if (this.differencing) this.bitmaps.add(room, bits, false);
    else setSectors(this.#full, block, block + 1, true);
    this.#pending.set(block, room);
    return room;
  }

  /** Room for `length` bytes (whole sectors) at the end of the file; its first sector may hold the old footer. Throws `vhd/full`. */
  appendRoom(length: number): HostOffset {
    const room = this.end;
    if (room + length > largestFile) throw new ImageError('vhd/full', { allowed: largestFile }, { file: this.name });
    this.storage.truncate(room + length + footer.size);
    this.end = room + length;
    this.#footerMoved = true;
    return room;
  }

  /** Marks all sectors of every block as present; where a differencing disk lacks them they become zeroes if `absentIsZero`. */
  fillBitmaps(absentIsZero: boolean): void {
    const { bitmapSize, sectorsPerBlock } = this.layout;
    for (let block = 0; block < this.table.entries; block++) {
      const entry = this.table.get(block);
      if (entry === unallocated) continue;
      const room = this.roomOf(block, entry);
      if (absentIsZero) {
        const { bits } = this.bitmaps.at(room);
        for (let sector = 0; sector < sectorsPerBlock;) {
          const run = sectorRun(bits, sector, sectorsPerBlock);
          if (!hasSector(bits, sector)) {
            this.storage.zeroAt(room + bitmapSize + sector * sectorSize, run * sectorSize);
          }
          sector += run;
        }
        this.#mark(room, 0, sectorsPerBlock, true);
      } else {
        this.#fillBitmap(block, room);
        this.bitmaps.forget(room);
      }
    }
  }

  /** A dynamic disk keeps its bitmaps full: what was not written of a block reads as the zeroes in the file. */
  #fillBitmap(block: number, room: HostOffset): void {
    if (hasSector(this.#full, block)) return;
    const bits = new Uint8Array(this.layout.bitmapSize);
    this.storage.readAt(bits, room);
    if (bits.some((byte) => byte !== 0xff)) this.storage.writeAt(bits.fill(0xff), room);
    setSectors(this.#full, block, block + 1, true);
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    const { blockSize, bitmapSize } = this.layout;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    if (this.differencing) return this.#zeroSectors(range, block, within);
    const entry = this.table.get(block);
    const pending = this.#pending.get(block);
    if (entry === unallocated && pending === undefined) {
      let blocks = 1;
      const limit = Math.ceil((within + range.length) / blockSize);
      while (blocks < limit && this.table.get(block + blocks) === unallocated && !this.#pending.has(block + blocks)) {
        blocks++;
      }
      return { start: range.start, length: Math.min(range.length, blocks * blockSize - within) };
    }
    const length = Math.min(range.length, blockSize - within);
    const done = { start: range.start, length };
    if (!keepSpace && pending === undefined && this.#isWholeBlock(block, done)) {
      this.#drop(block, entry);
      return done;
    }
    const room = pending ?? this.roomOf(block, entry);
    this.storage.zeroAt(room + bitmapSize + within, length);
    return done;
  }

  #zeroSectors(range: GuestRange, block: number, within: number): GuestRange | null {
    const { blockSize, bitmapSize } = this.layout;
    if (within % sectorSize !== 0) return null;
    const limit = Math.min(range.length, blockSize - within);
    let length = limit - (limit % sectorSize);
    if (length === 0) return null;
    const entry = this.table.get(block);
    if (entry === unallocated && !this.#pending.has(block)) {
      const below = this.#zeroBelow(range.start, length);
      if (below > 0) return { start: range.start, length: below };
    }
    const room = entry === unallocated ? this.#pendingRoom(block) : this.roomOf(block, entry);
    const first = within / sectorSize;
    length = Math.min(length, sectorRun(this.bitmaps.at(room).bits, first, first + length / sectorSize) * sectorSize);
    this.storage.zeroAt(room + bitmapSize + within, length);
    this.#publish(block, room);
    this.#mark(room, first, first + length / sectorSize, true);
    return { start: range.start, length };
  }

  /** How many bytes from `start` on the layer below reads as zeroes anyway, in whole sectors. */
  #zeroBelow(start: number, length: number): number {
    if (this.backing === null) return 0;
    if (start >= this.backing.size) return length;
    const run = resolveOne(this, { start, length });
    return run.mapping.kind === 'zero' ? run.length - (run.length % sectorSize) : 0;
  }

  release(range: GuestRange): GuestRange | null {
    const { blockSize } = this.layout;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const entry = this.table.get(block);
    if (this.#pending.has(block)) return null;
    const length = Math.min(range.length, blockSize - within);
    const done = { start: range.start, length };
    if (entry === unallocated) return done;
    if (this.#isWholeBlock(block, done)) {
      this.#drop(block, entry);
      return done;
    }
    // Xen keeps a map of full blocks beside the bitmaps; a block that it calls full stays so.
    const whole = length - (length % sectorSize);
    if (!this.differencing || !this.#sparseBitmaps || within % sectorSize !== 0 || whole === 0) return null;
    this.#mark(this.roomOf(block, entry), within / sectorSize, (within + whole) / sectorSize, false);
    return { start: range.start, length: whole };
  }

  /** All blocks, and the end of the file where they stood. Throws `storage/*`. */
  empty(): boolean {
    for (let at = 0; at < this.size;) {
      const done = this.release({ start: at, length: this.size - at });
      if (done === null) throw new Error(`nothing was released at ${at}`);
      at += done.length;
    }
    this.flush();
    this.giveBackEnd();
    // What stays in front of the parent's names is lost until blocks need it: at least the host has it back.
    for (const room of this.#free) this.storage.zeroAt(room, this.layout.roomSize);
    this.storage.flush();
    return true;
  }

  #isWholeBlock(block: number, range: GuestRange): boolean {
    const { blockSize } = this.layout;
    const end = Math.min((block + 1) * blockSize, this.size);
    return range.start === block * blockSize && range.start + range.length === end;
  }

  #drop(block: number, entry: number): void {
    const room = this.roomOf(block, entry);
    this.table.set(block, unallocated);
    this.bitmaps.forget(room);
    setSectors(this.#full, block, block + 1, false);
    this.#left.push(room);
  }

  resize(size: number): void {
    resizeDynamic(this, size);
  }

  /** Throws `vhd/parent-format`, `gate/*`, `storage/*`. */
  setBacking(reference: BackingReference | null): void {
    relink(this, reference);
  }

  /** On the disk in this order: 1 guest data · 2 bitmaps of their blocks, and the footer at the new end · 3 the BAT that points to them. */
  flush(): void {
    this.storage.flush();
    if (this.#footerMoved || this.bitmaps.isDirty) {
      this.#writeBehindTable();
      this.storage.flush();
    }
    if (!this.table.isDirty) return;
    this.table.write(this.storage);
    this.storage.flush();
    this.#settled();
  }

  writeBack(): void {
    this.#writeBehindTable();
    this.table.write(this.storage);
  }

  #writeBehindTable(): void {
    this.bitmaps.write();
    if (!this.#footerMoved) return;
    this.storage.writeAt(this.footerBytes, this.end);
    this.#footerMoved = false;
  }

  #settled(): void {
    this.bitmaps.allLive();
    this.#free.push(...this.#left);
    this.#left = [];
  }

  /** Both footers, the one at the end where the end is now. */
  writeFooters(): void {
    this.storage.writeAt(this.footerBytes, 0);
    this.storage.writeAt(this.footerBytes, this.end);
    this.#footerMoved = false;
  }

  /** Rooms that nothing points to are given to others. */
  forgetFreeRooms(): void {
    this.#free = [];
  }

  /** Cuts the file behind the last thing in use; rooms in between stay lost until blocks need them. */
  giveBackEnd(): void {
    const end = endOfUse(this);
    if (end >= this.end || this.#pending.size > 0) return;
    this.storage.writeAt(this.footerBytes, end);
    this.storage.flush();
    this.storage.truncate(end + footer.size);
    this.end = end;
    this.#free = this.#free.filter((room) => room < end);
  }
}

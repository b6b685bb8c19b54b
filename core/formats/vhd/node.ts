// A dynamic or differencing disk, read: which block is where in the file, and what is left to the parent.
import type { BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { mapDamaged, type Damage } from '../../block/unreadable.ts';
import type { GuestRange, HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenGate } from '../driver.ts';
import { BitmapCache, hasSector, sectorRun } from './bitmap.ts';
import type { FoundFooter } from './footer.ts';
import { roomAt, type Layout } from './layout.ts';
import type { Locator } from './locators.ts';
import { diskType, sectorSize, unallocated, type DynamicHeader, type Footer } from './spec.ts';
import type { BlockTable } from './table.ts';

export interface VhdParts {
  readonly storage: Storage;
  readonly footer: FoundFooter & { values: Footer };
  readonly size: number;
  readonly sizeFrom: 'chs' | 'current_size';
}

/** What all VHDs have in common. */
export abstract class VhdNode implements BlockNode {
  readonly format = 'vpc';
  readonly name: string;
  /** Space is given by the block, but what was not written of a block is a hole: bytes are stored by the sector. */
  readonly granularity = sectorSize;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly sizeFrom: 'chs' | 'current_size';
  backing: BlockNode | null = null;
  size: number;
  /** The footer as it was read, or last written. */
  footerBytes: Uint8Array;
  footer: Footer;
  /** Where the footer was found that is believed. */
  readonly footerPlace: 'start' | 'end';
  /** Null: it was not opened leniently. */
  damage: Damage | null = null;
  #closed = false;

  constructor(parts: VhdParts) {
    this.storage = parts.storage;
    this.name = parts.storage.name;
    this.files = [{ role: 'file', format: 'file', storage: parts.storage }];
    this.size = parts.size;
    this.sizeFrom = parts.sizeFrom;
    this.footerBytes = parts.footer.bytes;
    this.footer = parts.footer.values;
    this.footerPlace = parts.footer.place;
  }

  map(range: GuestRange): Mapping {
    const { damage } = this;
    return damage === null ? this.mapSound(range) : mapDamaged(range, damage, (known) => this.mapSound(known));
  }

  /** Throws `vhd/truncated`. */
  protected abstract mapSound(range: GuestRange): Mapping;

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.backing?.close();
    this.storage.close();
  }
}

export interface DynamicParts extends VhdParts {
  readonly headerOffset: HostOffset;
  readonly headerBytes: Uint8Array;
  readonly header: DynamicHeader;
  readonly layout: Layout;
  readonly table: BlockTable;
  readonly locators: readonly Locator[];
  readonly backing: BlockNode | null;
  readonly gate: OpenGate;
}

export class DynamicNode extends VhdNode {
  headerOffset: HostOffset;
  headerBytes: Uint8Array;
  header: DynamicHeader;
  readonly layout: Layout;
  readonly table: BlockTable;
  readonly bitmaps: BitmapCache;
  locators: readonly Locator[];
  /** For the check, and for a new parent. */
  readonly gate: OpenGate;

  constructor(parts: DynamicParts) {
    super(parts);
    this.headerOffset = parts.headerOffset;
    this.headerBytes = parts.headerBytes;
    this.header = parts.header;
    this.layout = parts.layout;
    this.table = parts.table;
    this.bitmaps = new BitmapCache(parts.storage, parts.layout.bitmapSize);
    this.locators = parts.locators;
    this.backing = parts.backing;
    this.gate = parts.gate;
  }

  get differencing(): boolean {
    return this.footer.disk_type === diskType.differencing;
  }

  protected mapSound(range: GuestRange): Mapping {
    const { blockSize, bitmapSize } = this.layout;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const entry = this.table.get(block);
    if (entry === unallocated) {
      const blocks = this.table.freeRun(block, Math.ceil((within + range.length) / blockSize));
      return this.#absent(range.start, Math.min(range.length, blocks * blockSize - within));
    }
    // Who looks at what may be damaged is shown what the file has of a block.
    const inFile = this.storage.size - roomAt(entry) - bitmapSize - within;
    const room = this.damage !== null && inFile > 0 ? roomAt(entry) : this.roomOf(block, entry);
    let length = Math.min(range.length, blockSize - within, inFile);
    const offset = room + bitmapSize + within;
    // The bitmap of a dynamic disk tells nothing that its data do not: readers of the field pass it over.
    if (!this.differencing) return { kind: 'data', length, storage: this.storage, offset, writable: true };
    const { bits } = this.bitmaps.at(room);
    const sector = Math.floor(within / sectorSize);
    const run = sectorRun(bits, sector, Math.ceil((within + length) / sectorSize));
    length = Math.min(length, (sector + run) * sectorSize - within);
    if (!hasSector(bits, sector)) return this.#absent(range.start, length);
    return { kind: 'data', length, storage: this.storage, offset, writable: true };
  }

  /** Where the block's room begins. Throws `vhd/truncated` when it does not lie in the file. */
  roomOf(block: number, entry: number): HostOffset {
    const room = roomAt(entry);
    if (room + this.layout.roomSize > this.storage.size) {
      const where = { file: this.name, offset: this.table.offset + 4 * block, field: `BAT[${block}]` };
      throw new ImageError('vhd/truncated', { found: room, allowed: this.storage.size }, where);
    }
    return room;
  }

  #absent(start: number, length: number): Mapping {
    if (this.backing !== null) return { kind: 'below', length, node: this.backing, offset: start };
    return { kind: 'zero', length, explicit: !this.differencing };
  }
}

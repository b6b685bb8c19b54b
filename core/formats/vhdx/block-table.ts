// The BAT (2.5): state and place of payload and bitmap blocks, read and changed entry by entry through the page cache.
import { MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { bitmapIndex, payloadIndex } from './layout.ts';
import { pageLength, type Page, type Pages } from './pages.ts';
import { payloadState } from './spec.ts';

const entriesPerPage = pageLength / 8;

/** The allocation table of one image. Entries are two 32-bit halves: state in bits 0…2, offset in MiB in bits 20…63. */
export class BlockTable {
  readonly #pages: Pages;
  /** Where the region lies in the file, and how many entries it holds. */
  offset: number;
  capacity: number;
  readonly ratio: number;

  constructor(pages: Pages, place: { offset: number; length: number }, ratio: number) {
    this.#pages = pages;
    this.offset = place.offset;
    this.capacity = place.length / 8;
    this.ratio = ratio;
  }

  /** State of entry `index` (0…7). The index is checked against the region: no entry outside is ever touched. */
  state(index: number): number {
    return this.#page(index).view.getUint32((index % entriesPerPage) * 8, true) & 7;
  }

  /** Offset in the file that entry `index` names, in bytes. May be beyond any file. */
  place(index: number): number {
    const page = this.#page(index);
    const at = (index % entriesPerPage) * 8;
    return (page.view.getUint32(at + 4, true) * 4096 + (page.view.getUint32(at, true) >>> 20)) * MiB;
  }

  payload(block: number): number {
    return payloadIndex(block, this.ratio);
  }

  bitmap(chunk: number): number {
    return bitmapIndex(chunk, this.ratio);
  }

  /** Makes entry `index` say `state` at `place` (bytes, whole MiB; 0 for states without a place). */
  set(index: number, state: number, place: number): void {
    const page = this.#page(index);
    const at = (index % entriesPerPage) * 8;
    const mebibytes = place / MiB;
    const low = ((mebibytes % 4096) * MiB + state) >>> 0;
    page.view.setUint32(at, low, true);
    page.view.setUint32(at + 4, Math.floor(mebibytes / 4096), true);
    this.#pages.markDirty(page, at, 8);
  }

  #page(index: number): Page {
    if (index < 0 || index >= this.capacity) throw new Error(`BAT entry ${index} of ${this.capacity}`);
    return this.#pages.at(this.offset + index * 8);
  }
}

/** True for the states in which a payload block has bytes in the file. */
export function isPresent(state: number): boolean {
  return state === payloadState.fullyPresent || state === payloadState.partiallyPresent;
}

/**
 * The place of a present block, checked: behind the header section, and with its first `needed` bytes in the file (QEMU cuts the last
 * block of a fixed disk short, others are cut by accident). Throws `vhdx/block-outside`, `vhdx/block-cut`, `vhdx/block-overlap`.
 */
export function checkedPlace(
  table: BlockTable,
  index: number,
  needed: number,
  file: { readonly name: string; readonly size: number },
): number {
  const offset = table.place(index);
  const where = { file: file.name, offset: table.offset + index * 8, field: 'FileOffsetMB' };
  if (offset >= file.size) {
    throw new ImageError('vhdx/block-outside', { entry: index, offset, size: file.size }, where);
  }
  if (offset + needed > file.size) {
    throw new ImageError('vhdx/block-cut', { entry: index, end: offset + needed - 1, size: file.size }, where);
  }
  if (offset < MiB) {
    throw new ImageError('vhdx/block-overlap', { entry: index, offset, over: 'the header section' }, where);
  }
  return offset;
}

/** The sector bitmap of one chunk: which sectors of its partially present blocks this image has (2.4). */
export class SectorBitmap {
  readonly #pages: Pages;
  readonly #offset: number;

  /** `offset`: of the bitmap block in the file. */
  constructor(pages: Pages, offset: number) {
    this.#pages = pages;
    this.#offset = offset;
  }

  /** How many bits from `bit` on (at most `limit`) are like it, and what it is. */
  run(bit: number, limit: number): { readonly set: boolean; readonly length: number } {
    const set = this.#bit(bit);
    const filled = set ? 0xff : 0;
    let length = 1;
    while (length < limit) {
      const at = bit + length;
      if (at % 8 === 0 && limit - length >= 8 && this.#byte(at) === filled) {
        length += 8;
      } else if (this.#bit(at) === set) {
        length++;
      } else {
        break;
      }
    }
    return { set, length: Math.min(length, limit) };
  }

  /** Makes `count` bits from `bit` on `set`. */
  fill(bit: number, count: number, set: boolean): void {
    let at = bit;
    const end = bit + count;
    while (at < end) {
      const byte = Math.floor(at / 8);
      const page = this.#pages.at(this.#offset + byte);
      const within = this.#offset + byte - page.start;
      if (at % 8 === 0 && end - at >= 8) {
        const length = Math.min(Math.floor((end - at) / 8), pageLength - within);
        page.bytes.fill(set ? 0xff : 0, within, within + length);
        this.#pages.markDirty(page, within, length);
        at += length * 8;
      } else {
        const mask = 1 << (at % 8);
        const before = page.bytes[within] ?? 0;
        page.bytes[within] = set ? before | mask : before & ~mask;
        this.#pages.markDirty(page, within, 1);
        at++;
      }
    }
  }

  #byte(bit: number): number {
    const offset = this.#offset + Math.floor(bit / 8);
    const page = this.#pages.at(offset);
    return page.bytes[offset - page.start] ?? 0;
  }

  #bit(bit: number): boolean {
    return (this.#byte(bit) & (1 << (bit % 8))) !== 0;
  }
}

// Sector bitmaps of differencing disks: one bit per sector of a block, set when the sector is in this file. A bounded cache.
import type { Storage } from '../../block/storage.ts';
import { MiB, type HostOffset } from '../../block/units.ts';

/** Sector n of a block is bit 7 - n % 8 of byte n / 8. */
export interface SectorBitmap {
  readonly bits: Uint8Array;
  dirty: boolean;
  /** The BAT on the disk points to it: its bits may only say what is on the disk already. */
  live: boolean;
}

/** True when sector `sector` is in the file. */
export function hasSector(bits: Uint8Array, sector: number): boolean {
  return ((bits[sector >> 3] ?? 0) & (0x80 >> (sector & 7))) !== 0;
}

/** How many sectors from `sector` on, below `end`, have the same bit as the first. */
export function sectorRun(bits: Uint8Array, sector: number, end: number): number {
  const value = hasSector(bits, sector);
  const whole = value ? 0xff : 0;
  let at = sector + 1;
  while (at < end) {
    if ((at & 7) === 0 && bits[at >> 3] === whole) at += 8;
    else if (hasSector(bits, at) === value) at++;
    else break;
  }
  return Math.min(at, end) - sector;
}

/** Sets or clears the bits of the sectors from `first` up to `end`. */
export function setSectors(bits: Uint8Array, first: number, end: number, value: boolean): void {
  for (let at = first; at < end;) {
    if ((at & 7) === 0 && at + 8 <= end) {
      bits[at >> 3] = value ? 0xff : 0;
      at += 8;
      continue;
    }
    const mask = 0x80 >> (at & 7);
    bits[at >> 3] = value ? (bits[at >> 3] ?? 0) | mask : (bits[at >> 3] ?? 0) & ~mask;
    at++;
  }
}

const cacheBytes = 4 * MiB;

/**
 * The bitmaps in use, by their place in the file; clean ones that were not used for long are dropped. Who changes one takes it from
 * here, changes it and calls `touch` before anything else is asked of the cache.
 */
export class BitmapCache {
  readonly #storage: Storage;
  readonly #length: number;
  readonly #capacity: number;
  readonly #held = new Map<HostOffset, SectorBitmap>();
  #dirty = 0;

  constructor(storage: Storage, length: number) {
    this.#storage = storage;
    this.#length = length;
    this.#capacity = Math.max(16, Math.floor(cacheBytes / length));
  }

  /** The bitmap at `offset`. Throws `storage/*`. */
  at(offset: HostOffset): SectorBitmap {
    const held = this.#held.get(offset);
    if (held !== undefined) {
      this.#held.delete(offset);
      this.#held.set(offset, held);
      return held;
    }
    const bits = new Uint8Array(this.#length);
    this.#storage.readAt(bits, offset);
    return this.add(offset, bits, true);
  }

  /** Takes in a bitmap that the caller has made and written. */
  add(offset: HostOffset, bits: Uint8Array, live: boolean): SectorBitmap {
    const bitmap = { bits, dirty: false, live };
    this.#held.set(offset, bitmap);
    if (this.#held.size > this.#capacity) this.#drop(bitmap);
    return bitmap;
  }

  touch(bitmap: SectorBitmap): void {
    if (!bitmap.dirty) this.#dirty++;
    bitmap.dirty = true;
  }

  /** The block is no longer there. */
  forget(offset: HostOffset): void {
    if (this.#held.get(offset)?.dirty === true) this.#dirty--;
    this.#held.delete(offset);
  }

  get isDirty(): boolean {
    return this.#dirty > 0;
  }

  /** More than half of what is held waits to be written: the caller should settle it. */
  get isCrowded(): boolean {
    return this.#dirty > this.#capacity / 2;
  }

  /** Whether a bitmap that waits can be seen through the BAT on the disk. */
  get hasLiveDirty(): boolean {
    if (this.#dirty === 0) return false;
    for (const bitmap of this.#held.values()) if (bitmap.dirty && bitmap.live) return true;
    return false;
  }

  /** Writes those that wait, in the order of the file. Throws `storage/write`; what was not written stays waiting. */
  write(): void {
    if (this.#dirty === 0) return;
    const waiting = [...this.#held].filter(([, bitmap]) => bitmap.dirty).sort(([a], [b]) => a - b);
    for (const [offset, bitmap] of waiting) {
      this.#storage.writeAt(bitmap.bits, offset);
      bitmap.dirty = false;
      this.#dirty--;
    }
  }

  /** The BAT on the disk knows all blocks from now on. */
  allLive(): void {
    for (const bitmap of this.#held.values()) bitmap.live = true;
  }

  #drop(fresh: SectorBitmap): void {
    for (const [offset, bitmap] of this.#held) {
      if (bitmap.dirty || bitmap === fresh) continue;
      this.#held.delete(offset);
      if (this.#held.size <= this.#capacity) return;
    }
  }
}

// Is a file still what the verb left, whole or half-done? Every sector that the verb may have touched must be old, or new.
import { crc32c } from '../../bytes/checksum.ts';
import type { Storage } from '../storage.ts';
import { alignDown } from '../units.ts';
import type { JournalFile } from './read.ts';
import { largestPiece, sectorSize } from './spec.ts';

/** Reads as zeroes past the end. */
function readPadded(storage: Storage, into: Uint8Array, offset: number): void {
  const there = Math.max(0, Math.min(into.length, storage.size - offset));
  if (there > 0) storage.readAt(into.subarray(0, there), offset);
  into.fill(0, there);
}

/** The sectors that are neither old nor new, as far as is known: a mask of eight sectors for each page of 4096 bytes. */
class Unknown {
  readonly #pages = new Map<number, number>();

  get empty(): boolean {
    return this.#pages.size === 0;
  }

  add(offset: number): void {
    const { page, bit } = place(offset);
    this.#pages.set(page, (this.#pages.get(page) ?? 0) | bit);
  }

  has(offset: number): boolean {
    const { page, bit } = place(offset);
    return ((this.#pages.get(page) ?? 0) & bit) !== 0;
  }

  /** True when any sector of the stretch is in question. */
  touches(offset: number, length: number): boolean {
    for (let page = Math.floor(offset / 4096); page * 4096 < offset + length; page++) {
      if (this.#pages.has(page)) return true;
    }
    return false;
  }

  remove(offset: number): void {
    const { page, bit } = place(offset);
    const rest = (this.#pages.get(page) ?? 0) & ~bit;
    if (rest === 0) this.#pages.delete(page);
    else this.#pages.set(page, rest);
  }

  get first(): number | null {
    let lowest: number | null = null;
    for (const page of this.#pages.keys()) if (lowest === null || page < lowest) lowest = page;
    return lowest === null ? null : lowest * 4096;
  }
}

function place(offset: number): { page: number; bit: number } {
  const page = Math.floor(offset / 4096);
  return { page, bit: 1 << ((offset - page * 4096) / sectorSize) };
}

/**
 * The offset of a page of `storage` (4096 bytes) with a sector that is neither what `file` says it was, nor anything the verb wrote
 * there; null: there is none. Throws `storage/*`.
 */
export function foreignPage(file: JournalFile, storage: Storage, journal: Storage): number | null {
  const unknown = new Unknown();
  const found = new Uint8Array(largestPiece);
  const old = new Uint8Array(largestPiece);
  const zeroes = new Uint8Array(sectorSize);
  const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

  for (const piece of file.old) {
    for (let done = 0; done < piece.length;) {
      const offset = piece.offset + done;
      // Long stretches of zeroes that still are none of the file's bytes need no look.
      const extent = piece.at === null && offset < storage.size ? storage.extentAt(offset, piece.length - done) : null;
      if (piece.at === null && (extent === null || extent.kind === 'hole')) {
        done += extent === null ? piece.length - done : Math.max(1, extent.length);
        continue;
      }
      const length = Math.min(largestPiece, piece.length - done, extent?.length ?? Infinity);
      readPadded(storage, found.subarray(0, length), offset);
      if (piece.at === null) old.fill(0, 0, length);
      else journal.readAt(old.subarray(0, length), piece.at + done);
      if (!same(found.subarray(0, length), old.subarray(0, length))) {
        for (let at = offset; at < offset + length;) {
          const next = Math.min(offset + length, alignDown(at, sectorSize) + sectorSize);
          if (!same(found.subarray(at - offset, next - offset), old.subarray(at - offset, next - offset))) {
            unknown.add(alignDown(at, sectorSize));
          }
          at = next;
        }
      }
      done += length;
    }
  }

  for (const piece of file.fresh) {
    if (unknown.empty) break;
    const end = piece.offset + piece.length;
    for (let offset = alignDown(piece.offset, sectorSize); offset < end;) {
      const length = Math.min(largestPiece, end - offset);
      if (unknown.touches(offset, length)) {
        readPadded(storage, found.subarray(0, length), offset);
        let sums: DataView | null = null;
        if (piece.at !== null) {
          const bytes = new Uint8Array(4 * Math.ceil(length / sectorSize));
          journal.readAt(bytes, piece.at + (4 * (offset - piece.offset)) / sectorSize);
          sums = new DataView(bytes.buffer);
        }
        for (let at = 0; at < length; at += sectorSize) {
          if (!unknown.has(offset + at)) continue;
          // A sector that sticks out of a zeroed stretch has new bytes in a part only: its whole stands in a checksum record.
          const sector = found.subarray(at, Math.min(length, at + sectorSize));
          const known =
            sums === null
              ? offset + at >= piece.offset && same(sector, zeroes.subarray(0, sector.length))
              : crc32c(sector) === sums.getUint32((4 * at) / sectorSize, true);
          if (known) unknown.remove(offset + at);
        }
      }
      offset += length;
    }
  }
  return unknown.first;
}

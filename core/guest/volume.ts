// A stretch of the guest's disk that may hold a file system: bounded reads in it, and what is known of what stands there.
import type { GuestOffset, GuestRange } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';

/** Fills `into` with the guest bytes from `offset`. */
export type GuestRead = (into: Uint8Array, offset: GuestOffset) => void;

/** A part of the disk, read through `read`; offsets count from its start. */
export class Volume {
  readonly start: GuestOffset;
  readonly length: number;
  readonly #read: GuestRead;

  constructor(read: GuestRead, start: GuestOffset, length: number) {
    this.#read = read;
    this.start = start;
    this.length = length;
  }

  /** True when these bytes lie in the volume. */
  holds(offset: number, length: number): boolean {
    return Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.length;
  }

  /** Fills `into`. Throws `guest/damaged` outside the volume (`what` is being read), and what reading the image throws. */
  readInto(into: Uint8Array, offset: number, what: string): void {
    if (!this.holds(offset, into.length)) throw damaged(`${what} lies outside the volume`, this.start + offset);
    this.#read(into, this.start + offset);
  }

  /** `length` bytes, which the caller has bounded. */
  bytes(offset: number, length: number, what: string): Uint8Array {
    if (!this.holds(offset, length)) throw damaged(`${what} lies outside the volume`, this.start + offset);
    const bytes = new Uint8Array(length);
    this.readInto(bytes, offset, what);
    return bytes;
  }

  /** A stretch of the volume as a range of the disk. */
  range(offset: number, length: number): GuestRange {
    return { start: this.start + offset, length };
  }
}

/** What stands in a volume, as far as it is known here. */
export interface FileSystem {
  /** `ext4`, `ntfs`, `fat32`, … or the name of something that is only recognised. */
  readonly kind: string;
  readonly volume: Volume;
  /** Why its record of free space cannot be used; null: it can. */
  readonly refused: string | null;
  /**
   * What the file system marks free, as ranges of the guest's disk, rising, without overlap. Nothing when it is refused. Throws
   * `guest/damaged`: then none of it may be believed.
   */
  freeRanges(): Generator<GuestRange, void, void>;
}

/** A file system that is left alone. */
export function leftAlone(kind: string, volume: Volume, reason: string): FileSystem {
  return {
    kind,
    volume,
    refused: reason,
    *freeRanges() {},
  };
}

/** The file system contradicts itself at `offset` of the guest's disk. */
export function damaged(reason: string, offset: GuestOffset): ImageError {
  return new ImageError('guest/damaged', { reason, at: offset });
}

/** Joins neighbouring ranges as they come. */
export function* joined(ranges: Iterable<GuestRange>): Generator<GuestRange, void, void> {
  let held: GuestRange | null = null;
  for (const range of ranges) {
    if (range.length === 0) continue;
    if (held !== null && held.start + held.length === range.start) {
      held = { start: held.start, length: held.length + range.length };
      continue;
    }
    if (held !== null) yield held;
    held = range;
  }
  if (held !== null) yield held;
}

/** The runs of clear bits among the first `count` bits of `bitmap` (bit 0 is the lowest of byte 0), as `[first, length]`. */
export function* clearRuns(bitmap: Uint8Array, count: number): Generator<readonly [number, number], void, void> {
  let first = -1;
  let at = 0;
  while (at < count) {
    const byte = bitmap[at >> 3] ?? 0xff;
    if ((at & 7) === 0 && at + 8 <= count && (byte === 0xff || byte === 0)) {
      if (byte === 0 && first < 0) first = at;
      if (byte === 0xff && first >= 0) {
        yield [first, at - first];
        first = -1;
      }
      at += 8;
      continue;
    }
    const used = (byte & (1 << (at & 7))) !== 0;
    if (!used && first < 0) first = at;
    if (used && first >= 0) {
      yield [first, at - first];
      first = -1;
    }
    at++;
  }
  if (first >= 0) yield [first, count - first];
}

// One image in the graph: it answers where its guest bytes lie. It never moves guest data itself.
import type { ImageError } from '../errors/image-error.ts';
import type { FormatId } from '../formats/format-id.ts';
import type { Storage } from './storage.ts';
import type { GuestOffset, GuestRange, HostOffset } from './units.ts';

/**
 * Bytes at rest that are not the guest's bytes: encrypted in sectors. `guest` is the guest offset, `host` the host offset of the
 * first byte of `bytes`; which of them seeds the cipher is the format's business. Works in place.
 */
export interface Cipher {
  /** Bytes per unit; offsets and lengths handed over are multiples of it. */
  readonly sectorSize: number;
  decrypt(bytes: Uint8Array, guest: GuestOffset, host: HostOffset): void;
  encrypt(bytes: Uint8Array, guest: GuestOffset, host: HostOffset): void;
}

/**
 * Where guest bytes are: one question, five answers. `length` counts guest bytes from the start of the range asked about.
 *
 * - `data`: stored as they are at `offset` of `storage` (through `cipher` if there is one). `writable`: they may be overwritten
 *   in place (not shared with a snapshot).
 * - `zero`: they read as zeroes. `explicit`: the image says so itself; otherwise nothing is stored and no layer is below.
 *   A zero with `reserved` has space set aside in the file all the same (preallocated).
 * - `below`: the next layer has them, at `offset` of `node`.
 * - `unreadable`: it is not known, and why; told only by what was opened leniently, everything else throws the reason.
 * - `packed`: they are bytes `skip … skip+length` of the `unpackedLength` bytes that `codec` makes of `storedLength` at `offset`.
 */
export type Mapping =
  | {
      readonly kind: 'data';
      readonly length: number;
      readonly storage: Storage;
      readonly offset: HostOffset;
      readonly writable: boolean;
      /** A snapshot of the image has these bytes too. Absent: the format knows none, or does not say. */
      readonly shared?: boolean | undefined;
      readonly cipher?: Cipher | undefined;
    }
  | {
      readonly kind: 'zero';
      readonly length: number;
      readonly explicit: boolean;
      readonly reserved?: { readonly storage: Storage; readonly offset: HostOffset } | undefined;
      /** The image stores data there, and the file has a hole in that place: zero because the host says so. */
      readonly hole?: boolean | undefined;
    }
  | { readonly kind: 'below'; readonly length: number; readonly node: BlockNode; readonly offset: GuestOffset }
  | { readonly kind: 'unreadable'; readonly length: number; readonly error: ImageError }
  | {
      readonly kind: 'packed';
      readonly length: number;
      readonly storage: Storage;
      readonly offset: HostOffset;
      /** Bytes to read at most; a stream may end before (qcow2 counts in sectors). Clipped to the end of the file. */
      readonly storedLength: number;
      /** Size of the unpacked unit (a cluster, a grain) and where in it this range starts. */
      readonly unpackedLength: number;
      readonly skip: number;
      /** How it is packed; `block/packed.ts` undoes it, in this thread or in a lane of the copy plane. */
      readonly codec: Codec;
    };

/** How a packed unit is stored: enough to do it in another thread. */
export interface Codec {
  readonly id: 'deflate-raw' | 'zlib' | 'zstd';
  /** log2 of the window for deflate (12 is what qcow2 readers expect). */
  readonly windowBits?: number | undefined;
  readonly level?: number | undefined;
}

/** A file that belongs to an image: `file` is the one that was named, others are `data-file`, `extents.0` … */
export interface ImageFile {
  readonly role: string;
  readonly format: FormatId | 'file';
  readonly storage: Storage;
}

/** One image in the graph. It translates addresses; it never moves guest data. */
export interface BlockNode {
  readonly format: FormatId;
  /** The name under which it was opened. */
  readonly name: string;
  /** Virtual size in bytes. */
  readonly size: number;
  /** Smallest unit of its allocation in bytes (a cluster, a subcluster, a grain, a block, a sector). */
  readonly granularity: number;
  readonly backing: BlockNode | null;
  /** Every file it consists of (not those of the layers below), `file` first. */
  readonly files: readonly ImageFile[];
  /**
   * The mapping of the first bytes of `range`: `0 < length <= range.length`. Merges neighbours as far as is cheap. The range lies
   * within the disk. Throws the format's codes for damaged tables.
   */
  map(range: GuestRange): Mapping;
  /** Idempotent. A writable node does not flush here: who writes calls `flush`. */
  close(): void;
}

/**
 * Room for guest bytes that no reader sees yet: write all of `covers` to `storage` at `offset`, then `publish`.
 * `fresh`: the room holds nothing that matters, and `covers` may be wider than what was asked (whole clusters): the writer fills
 * the rest from what the node reads there now. Not fresh: the bytes are live already, `covers` is within what was asked, `publish`
 * does nothing.
 */
export interface Place {
  readonly covers: GuestRange;
  readonly storage: Storage;
  readonly offset: HostOffset;
  readonly fresh: boolean;
  readonly cipher?: Cipher | undefined;
  publish(): void;
}

/** Room for packed units (compressed clusters, grains). */
export interface PackedWriter {
  /** Guest bytes per unit; every unit starts at a multiple. The last one may be shorter on the disk and is padded with zeroes. */
  readonly unit: number;
  readonly codec: Codec;
  /** The format holds packed units only: pack also what does not get smaller. */
  readonly always?: boolean;
  /**
   * Room for the unit at `start`, whose packed form is `stored`. Returns what must be written where (the format may add a header or
   * padding around `stored`), before `publish`. Null: not worth storing packed, write it plainly.
   */
  reservePacked(start: GuestOffset, stored: Uint8Array): { place: Place; bytes: Uint8Array } | null;
}

/** What an image says of the layer below it. `path` as it stands in the image; `format` null: not recorded. */
export interface BackingReference {
  readonly path: string;
  readonly format: string | null;
}

/** How the space for what a disk grows by is provided for: not at all, counted and linked, reserved by the host, written. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** A node that can change. Everything is synchronous; the order of the steps to the disk is `flush`'s business. */
export interface WritableNode extends BlockNode {
  /** Room for a prefix of `range` (at least one byte of it). Throws when the disk is full or the tables cannot grow. */
  reserve(range: GuestRange): Place;
  /**
   * Make a prefix of `range` read as zeroes without storing them; the part it did (whole units only), or null: write zeroes.
   * `keepSpace`: leave room already set aside where it is.
   */
  zero(range: GuestRange, keepSpace?: boolean): GuestRange | null;
  /** Give a prefix of `range` back to the layer below (or to nothing); the part it did, or null. */
  release(range: GuestRange): GuestRange | null;
  /** `zero` that holds also where something else is put below later. The part it did, or null: write zeroes. Absent: never. */
  cover?(range: GuestRange): GuestRange | null;
  /** Explicit zeroes of the map stay zeroes when the disk gets a layer below. Absent: only while there is one. */
  readonly zeroesLast?: boolean;
  /**
   * Gives all of the disk back to the layer below, and what space in the file it can; flushes. False: some of it cannot be given back.
   * Absent: `release` does it.
   */
  empty?(): boolean;
  /** The identity that overlays record of this image changes with its content (CID, DataWriteGuid): after a write they need a new link. */
  readonly identityFollowsContent?: boolean;
  /**
   * Another size of the disk, rounded up to what the format can hold; what is added reads as zeroes. On the disk the old size or the
   * new one is there at every moment, each with all that belongs to it. Throws `resize/preallocation` for a mode that the format does
   * not have, and the format's codes.
   */
  resize(size: number, preallocation?: Preallocation): void;
  setBacking(reference: BackingReference | null): void;
  /** Metadata after what it points to, counted in four steps; after it a power cut loses nothing that was written before. */
  flush(): void;
  /** Writes the cached metadata out in the safe order without waiting for the disk. For a new file that no name points to yet. */
  writeBack(): void;
  /** Absent: the format has no packed units. */
  readonly packed?: PackedWriter | undefined;
}

/** True when `node` was opened for writing and can be written. */
export function isWritable(node: BlockNode): node is WritableNode {
  return 'reserve' in node;
}

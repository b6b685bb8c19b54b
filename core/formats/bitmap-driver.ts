// Persistent dirty bitmaps as a format offers them: what there is, their bits, and changes that stand together.
import type { BlockNode } from '../block/node.ts';

/** Bits of a bitmap from number `first` on. Bit i of the stretch is bit i % 8 of byte i / 8; `bits` null: all of them are set. */
export interface BitmapStretch {
  readonly first: number;
  readonly count: number;
  readonly bits: Uint8Array | null;
}

/** A bitmap to be merged into another one. Bit i stands for `granularity` bytes of the disk from i * granularity on. */
export interface BitmapSource {
  readonly name: string;
  readonly granularity: number;
  /** Bytes of the disk that it describes. */
  readonly diskSize: number;
  /** Stretches that may have bits set, in order; what lies between them is not set. */
  stretches(): Iterable<BitmapStretch>;
}

export interface BitmapState {
  readonly name: string;
  readonly granularity: number;
  /** Writers keep it up to date. */
  readonly enabled: boolean;
  /** It was not closed properly: its bits mean nothing. */
  readonly inconsistent: boolean;
}

/** Changes bitmaps in memory and in space that nothing refers to, until `commit` makes all of it true at once. */
export interface BitmapEditor {
  list(): readonly BitmapState[];
  /**
   * `granularity` null: the size of a cluster, between 4 and 64 KiB. Throws `bitmap/empty-name`, `bitmap/granularity`,
   * `bitmap/exists`, `bitmap/space`, `bitmap/name-long`, `bitmap/no-bytes`, `bitmap/too-many`, `bitmap/directory-full`.
   */
  add(name: string, granularity: number | null, enabled: boolean): void;
  /** Also one that is inconsistent. Throws `bitmap/not-found`. */
  remove(name: string): void;
  /** Throws `bitmap/not-found`, `bitmap/inconsistent`. */
  clear(name: string): void;
  /** Throws `bitmap/not-found`, `bitmap/inconsistent`. */
  setEnabled(name: string, enabled: boolean): void;
  /** The bits as they are by now. Throws `bitmap/not-found`, `bitmap/inconsistent`. */
  source(name: string): BitmapSource;
  /** Sets every bit for whose bytes `source` has one set. Throws `bitmap/not-found`, `bitmap/inconsistent`, `bitmap/sizes`. */
  merge(name: string, source: BitmapSource): void;
  /** Makes what was done last: afterwards, after a power cut at any moment before, the old bitmaps or the new ones are there. */
  commit(): void;
}

export interface BitmapDriver {
  /** All bitmaps; null: this image cannot have any. */
  list(node: BlockNode): readonly BitmapState[] | null;
  /** Throws `bitmap/not-found`, `bitmap/inconsistent`. */
  source(node: BlockNode, name: string): BitmapSource;
  /** For a node opened for writing. Throws `qcow2/bitmaps-damaged`. */
  edit(node: BlockNode): BitmapEditor;
}

// One extent: a stretch of the guest's disk with one way of storing it. Here: what all kinds have in common, flat and zero ones.
import type { Codec } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import type { SparseExtent } from './sparse.ts';

/** Where bytes of an extent are. `absent`: neither stored nor declared zero. `length` counts from the offset asked about. */
export type ExtentAnswer =
  | { readonly kind: 'data'; readonly length: number; readonly offset: HostOffset }
  | { readonly kind: 'zero'; readonly length: number; readonly hole: HostOffset | null }
  | { readonly kind: 'absent'; readonly length: number }
  | {
      readonly kind: 'packed';
      readonly length: number;
      readonly offset: HostOffset;
      readonly storedLength: number;
      readonly unpackedLength: number;
      readonly skip: number;
      readonly codec: Codec;
    };

/** Facts that every extent has. */
export interface ExtentFacts {
  /** As the descriptor says it; '' for the extent that carries the descriptor. */
  readonly type: string;
  readonly role: string;
  /** The line of the descriptor it comes from, among those that are not empty. */
  readonly line: number;
  readonly access: 'RW' | 'RDONLY' | 'NOACCESS';
  /** Bytes. */
  size: number;
}

/** The guest's bytes as they are, from `base` of the file on. */
export interface FlatExtent extends ExtentFacts {
  readonly kind: 'flat';
  readonly storage: Storage;
  readonly base: HostOffset;
}

/** No file: reads as zeroes, cannot be written. */
export interface ZeroExtent extends ExtentFacts {
  readonly kind: 'zero';
  readonly storage: null;
}

export type Extent = FlatExtent | ZeroExtent | SparseExtent;

/** The first bytes of a flat extent from `offset` on; holes of the host's file are told. */
export function mapFlat(extent: FlatExtent, offset: number, limit: number): ExtentAnswer {
  const at = extent.base + offset;
  const found = extent.storage.extentAt(at, limit);
  const length = Math.min(found.length, limit);
  return found.kind === 'hole' ? { kind: 'zero', length, hole: at } : { kind: 'data', length, offset: at };
}

// The only place where guest bytes are read: resolve follows the layers, readGuest fetches.
import { ImageError } from '../errors/image-error.ts';
import type { BlockNode, Mapping } from './node.ts';
import { unpack } from './packed.ts';
import { alignDown, alignUp, type GuestOffset, type GuestRange } from './units.ts';

/** A mapping that is an answer, not a reference to the layer below. */
export type Settled = Exclude<Mapping, { kind: 'below' | 'unreadable' }>;

/** A stretch of the guest's disk with one answer. */
export interface Run {
  readonly start: GuestOffset;
  readonly length: number;
  /** How many layers below the top the answer was found; 0 is the image itself. */
  readonly depth: number;
  /** The layer that answered. For a `zero` that is not explicit: the last layer asked. */
  readonly node: BlockNode;
  readonly mapping: Settled;
}

/** A stretch of the guest's disk that cannot be read, and why; `node` is the layer that should have answered. */
export interface Unread {
  readonly start: GuestOffset;
  readonly length: number;
  readonly depth: number;
  readonly node: BlockNode;
  readonly error: ImageError;
}

/** The first run of `range` (which lies within the disk): the layers are followed until one answers. */
export function resolveOne(node: BlockNode, range: GuestRange): Run {
  const found = follow(node, range, plainMap);
  if ('error' in found) throw found.error;
  return found;
}

function plainMap(layer: BlockNode, range: GuestRange): Mapping {
  return layer.map(range);
}

/** The first stretch of `range`, each layer asked by `mapOf`. What `mapOf` throws goes through. */
export function follow(
  node: BlockNode,
  range: GuestRange,
  mapOf: (layer: BlockNode, range: GuestRange) => Mapping,
): Run | Unread {
  let depth = 0;
  let layer = node;
  let start = range.start;
  let length = range.length;
  for (;;) {
    const mapping = mapOf(layer, { start, length });
    length = Math.min(length, mapping.length);
    if (mapping.kind === 'unreadable') {
      return { start: range.start, length, depth, node: layer, error: mapping.error };
    }
    if (mapping.kind !== 'below') return { start: range.start, length, depth, node: layer, mapping };
    layer = mapping.node;
    start = mapping.offset;
    depth++;
    if (start >= layer.size) {
      const mapping: Settled = { kind: 'zero', length, explicit: false };
      return { start: range.start, length, depth, node: layer, mapping };
    }
    length = Math.min(length, layer.size - start);
  }
}

/**
 * The runs of `range` in order, without gap or overlap. Neighbours of one kind are not always merged.
 * Throws `request/out-of-range`, and what the formats throw for damaged tables.
 */
export function* resolve(
  node: BlockNode,
  range: GuestRange = { start: 0, length: node.size },
): Generator<Run, void, void> {
  checkRange(node, range);
  const end = range.start + range.length;
  let start = range.start;
  while (start < end) {
    const run = resolveOne(node, { start, length: end - start });
    yield run;
    start += run.length;
  }
}

/** Throws `request/out-of-range` unless `range` lies within the disk. */
export function checkRange(node: BlockNode, range: GuestRange): void {
  if (range.start < 0 || range.length < 0 || range.start + range.length > node.size) {
    const detail = { start: range.start, length: range.length, size: node.size };
    throw new ImageError('request/out-of-range', detail, { file: node.name });
  }
}

/**
 * Fills `into` with the guest bytes from `start`. Throws `request/out-of-range`, `storage/*`, `packed/damaged`, and what the
 * formats throw for damaged tables.
 */
export function readGuest(node: BlockNode, into: Uint8Array, start: GuestOffset): void {
  for (const run of resolve(node, { start, length: into.length })) {
    const at = run.start - start;
    readRun(run, into.subarray(at, at + run.length));
  }
}

/** Fills `into` with the first `into.length` bytes of `run`. */
export function readRun(run: Run, into: Uint8Array): void {
  const { mapping } = run;
  switch (mapping.kind) {
    case 'zero':
      into.fill(0);
      return;
    case 'data':
      if (mapping.cipher === undefined) mapping.storage.readAt(into, mapping.offset);
      else readThroughCipher(run.start, mapping, into);
      return;
    case 'packed': {
      const unpacked = unpackRun(mapping);
      into.set(unpacked.subarray(mapping.skip, mapping.skip + into.length));
      return;
    }
  }
}

/** The whole unit that a packed run lies in. Throws `packed/damaged`. */
export function unpackRun(mapping: Extract<Mapping, { kind: 'packed' }>): Uint8Array {
  const { storage, offset, codec, unpackedLength } = mapping;
  const length = Math.max(0, Math.min(mapping.storedLength, storage.size - offset));
  const stored = new Uint8Array(length);
  storage.readAt(stored, offset);
  return unpack(codec, stored, unpackedLength, { file: storage.name, offset });
}

/** Ciphers work on whole sectors: read the sectors around the range, decrypt, cut. */
function readThroughCipher(guest: GuestOffset, mapping: Extract<Mapping, { kind: 'data' }>, into: Uint8Array): void {
  const { cipher, storage, offset } = mapping;
  if (cipher === undefined) return;
  const before = guest - alignDown(guest, cipher.sectorSize);
  const length = alignUp(before + into.length, cipher.sectorSize);
  const sectors = new Uint8Array(length);
  storage.readAt(sectors, offset - before);
  cipher.decrypt(sectors, guest - before, offset - before);
  into.set(sectors.subarray(before, before + into.length));
}

// The bits of a bitmap as qcow2 stores them, and how the bits of one set those of another of any granularity.
import { ImageError } from '../../errors/image-error.ts';
import type { BitmapSource, BitmapStretch } from '../bitmap-driver.ts';
import { isSoundEntry } from './bitmap-references.ts';
import { entryOffset, type Layout } from './layout.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';
import { loadTable } from './tables.ts';

/** How many bits a bitmap has, and how they are spread over clusters. */
export interface BitmapShape {
  readonly bits: number;
  /** Bits of one cluster of data, which is one entry of the table. */
  readonly clusterBits: number;
  readonly entries: number;
}

export function bitmapShape(layout: Layout, diskSize: number, granularity: number): BitmapShape {
  const bits = Math.ceil(diskSize / granularity);
  const clusterBits = layout.clusterSize * 8;
  return { bits, clusterBits, entries: Math.ceil(bits / clusterBits) };
}

/** Where the data of an entry of a bitmap table stands: an offset, or what its bits are throughout. */
export type BitmapCluster = number | 'zeroes' | 'ones';

export function clusterAt(table: Uint32Array, index: number): BitmapCluster {
  const low = table[2 * index + 1] ?? 0;
  const offset = entryOffset(table[2 * index] ?? 0, low);
  if (offset !== 0) return offset;
  return (low & 1) === 0 ? 'zeroes' : 'ones';
}

/**
 * The table of a bitmap, whose length must be what its shape says. Throws `qcow2/bitmap-table`, `qcow2/table-beyond-file`,
 * `storage/*`.
 */
export function loadBitmapTable(
  state: Qcow2State,
  bitmap: { readonly name: string; readonly tableOffset: number; readonly tableSize: number },
  shape: BitmapShape,
): Uint32Array {
  const where = { file: state.storage.name, offset: bitmap.tableOffset, field: 'bitmap table' };
  const damaged = (): ImageError => new ImageError('qcow2/bitmap-table', { name: bitmap.name }, where);
  if (bitmap.tableSize !== shape.entries) throw damaged();
  const table = loadTable(state.storage, bitmap.tableOffset, shape.entries, 'Bitmap table');
  for (let index = 0; index < shape.entries; index++) {
    if (!isSoundEntry(table[2 * index] ?? 0, table[2 * index + 1] ?? 0, state.layout.clusterSize)) throw damaged();
  }
  return table;
}

/** The stretches of a bitmap that may have bits set: one per cluster of its data. */
export function* storedStretches(
  state: Qcow2State,
  table: Uint32Array,
  shape: BitmapShape,
): Generator<BitmapStretch, void, void> {
  for (let index = 0; index < shape.entries; index++) {
    const place = clusterAt(table, index);
    if (place === 'zeroes') continue;
    const first = index * shape.clusterBits;
    const count = Math.min(shape.clusterBits, shape.bits - first);
    if (place === 'ones') yield { first, count, bits: null };
    else {
      const bits = new Uint8Array(Math.ceil(count / 8));
      readPadded(state.storage, bits, place);
      yield { first, count, bits };
    }
  }
}

/** Sets bits `from` to `to` (not including it) of `bytes`. */
export function setBits(bytes: Uint8Array, from: number, to: number): void {
  if (from >= to) return;
  const first = from >>> 3;
  const last = (to - 1) >>> 3;
  const head = (0xff << (from & 7)) & 0xff;
  const tail = 0xff >>> (7 - ((to - 1) & 7));
  if (first === last) {
    bytes[first] = (bytes[first] ?? 0) | (head & tail);
    return;
  }
  bytes[first] = (bytes[first] ?? 0) | head;
  bytes.fill(0xff, first + 1, last);
  bytes[last] = (bytes[last] ?? 0) | tail;
}

/** Runs of set bits, as [from, to). */
function* setRuns({ first, count, bits }: BitmapStretch): Generator<readonly [number, number], void, void> {
  if (bits === null) {
    yield [first, first + count];
    return;
  }
  let start = -1;
  for (let at = 0; at < count;) {
    const byte = bits[at >>> 3] ?? 0;
    const whole = (at & 7) === 0 && count - at >= 8;
    if (whole && (byte === 0 || byte === 0xff)) {
      if (byte === 0xff && start < 0) start = at;
      else if (byte === 0 && start >= 0) {
        yield [first + start, first + at];
        start = -1;
      }
      at += 8;
      continue;
    }
    const set = ((byte >>> (at & 7)) & 1) === 1;
    if (set && start < 0) start = at;
    else if (!set && start >= 0) {
      yield [first + start, first + at];
      start = -1;
    }
    at++;
  }
  if (start >= 0) yield [first + start, first + count];
}

/** The bitmap that bits are merged into, a cluster of its data at a time. */
export interface BitmapSink {
  readonly granularity: number;
  readonly shape: BitmapShape;
  /** The bits of a cluster of data, to be changed; null: all of them are set already. */
  load(index: number): Uint8Array | null;
  store(index: number, bits: Uint8Array): void;
}

/** Sets every bit of `sink` for whose bytes of the disk `source`, of the same disk size, has a bit set. */
export function mergeInto(sink: BitmapSink, source: BitmapSource): void {
  const { granularity, shape } = sink;
  let current = -1;
  let bits: Uint8Array | null = null;
  const done = (): void => {
    if (bits !== null) sink.store(current, bits);
    bits = null;
  };
  for (const stretch of source.stretches()) {
    for (const [from, to] of setRuns(stretch)) {
      let at = Math.floor((from * source.granularity) / granularity);
      const end = Math.ceil(Math.min(to * source.granularity, source.diskSize) / granularity);
      while (at < end) {
        const index = Math.floor(at / shape.clusterBits);
        if (index !== current) {
          done();
          current = index;
          bits = sink.load(index);
        }
        const start = index * shape.clusterBits;
        const stop = Math.min(end, start + shape.clusterBits);
        if (bits !== null) setBits(bits, at - start, stop - start);
        at = stop;
      }
    }
  }
  done();
}

// A qcow image, read: which cluster is where in the file, and what is left to the layer below.
import type { BlockNode, Codec, ImageFile, Mapping } from '../../block/node.ts';
import { mapDamaged, restOf, type Damage } from '../../block/unreadable.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { join, packedLength, packedOffset } from './layout.ts';
import { packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';
import { beyondFile } from './tables.ts';

/** Compressed clusters are raw deflate streams with a small window. */
export const codec: Codec = { id: 'deflate-raw', windowBits: 12 };

/** L2 tables that one call looks at, at most, to merge what is not stored. */
const tablesPerCall = 64;

/** What is known of an image whose tables may not lie in the file. */
function damageOf({ storage, fields, layout, l1 }: QcowState): Damage {
  const { l2Coverage, clusterSize } = layout;
  const inFile = Math.floor(Math.max(0, storage.size - fields.l1_table_offset) / 8);
  const isShort = inFile < l1.length / 2;
  return {
    known: isShort ? inFile * l2Coverage : Infinity,
    beyond: isShort ? beyondFile(storage, fields.l1_table_offset, l1.length * 4, 'L1 table') : null,
    reach(start, { code }) {
      if (code === 'crypto/locked') return Infinity;
      return restOf(code === 'qcow/table-beyond-file' ? l2Coverage : clusterSize, start);
    },
  };
}

export class QcowNode implements BlockNode {
  readonly format = 'qcow';
  readonly name: string;
  readonly granularity: number;
  readonly files: readonly ImageFile[];
  readonly state: QcowState;
  backing: BlockNode | null;
  readonly #damage: Damage | null;
  #closed = false;

  /** Owns the state's storage and the layer below. `lenient`: as in `OpenRequest`. */
  constructor(state: QcowState, backing: BlockNode | null, lenient = false) {
    this.#damage = lenient ? damageOf(state) : null;
    this.state = state;
    this.name = state.storage.name;
    this.granularity = state.layout.clusterSize;
    this.files = [{ role: 'file', format: 'file', storage: state.storage }];
    this.backing = backing;
  }

  get size(): number {
    return this.state.size;
  }

  map(range: GuestRange): Mapping {
    const damage = this.#damage;
    return damage === null ? this.#mapSound(range) : mapDamaged(range, damage, (known) => this.#mapSound(known));
  }

  #mapSound(range: GuestRange): Mapping {
    this.requireKey();
    const { state } = this;
    const { l2Coverage, clusterSize, l2Entries } = state.layout;
    const index = Math.floor(range.start / l2Coverage);
    const offset = state.l2Offset(index);
    if (offset === 0) return this.#notStored(range, this.#skip(index, range));
    const table = state.l2Table(offset);
    const within = range.start - index * l2Coverage;
    const cluster = Math.floor(within / clusterSize);
    const skip = within - cluster * clusterSize;
    const last = Math.min(l2Entries, Math.ceil((within + range.length) / clusterSize));
    const high = table[cluster * 2] ?? 0;
    const low = table[cluster * 2 + 1] ?? 0;
    if ((high | low) === 0) return this.#notStored(range, this.#skip(index, range));
    if ((high & packedFlag) !== 0) return this.#packed(high, low, skip, Math.min(range.length, clusterSize - skip));
    const start = this.dataOffset(high, low, index * l2Entries + cluster);
    let end = cluster + 1;
    for (let next = start + clusterSize; end < last; end++, next += clusterSize) {
      const nextHigh = table[end * 2] ?? 0;
      if ((nextHigh & packedFlag) !== 0 || join(nextHigh, table[end * 2 + 1] ?? 0) !== next) break;
      if (next + clusterSize > state.storage.size) break;
    }
    return {
      kind: 'data',
      length: Math.min(range.length, (end - cluster) * clusterSize - skip),
      storage: state.storage,
      offset: start + skip,
      writable: true,
      cipher: state.cipher ?? undefined,
    };
  }

  /** Throws `crypto/locked`. */
  protected requireKey(): void {
    if (this.state.encrypted && this.state.cipher === null) {
      throw new ImageError('crypto/locked', {}, { file: this.name });
    }
  }

  /** Where a plain cluster stands. Throws `qcow/cluster-offset`, `qcow/cluster-beyond-file`. */
  protected dataOffset(high: number, low: number, cluster: number): number {
    const { storage, layout } = this.state;
    const offset = join(high, low);
    const where = { file: this.name, offset, field: `cluster ${cluster}` };
    if (offset % 512 !== 0) throw new ImageError('qcow/cluster-offset', { cluster, offset }, where);
    if (offset + layout.clusterSize > storage.size) {
      throw new ImageError('qcow/cluster-beyond-file', { cluster, offset, size: storage.size }, where);
    }
    return offset;
  }

  #packed(high: number, low: number, skip: number, length: number): Mapping {
    const { layout, storage } = this.state;
    const offset = packedOffset(layout, high, low);
    const storedLength = packedLength(layout, high);
    if (storedLength === 0 || offset + storedLength > storage.size) {
      const detail = { offset, length: storedLength, size: storage.size };
      throw new ImageError('qcow/packed-beyond-file', detail, { file: this.name, offset });
    }
    return { kind: 'packed', length, storage, offset, storedLength, unpackedLength: layout.clusterSize, skip, codec };
  }

  #notStored(range: GuestRange, length: number): Mapping {
    const { backing } = this;
    if (backing === null || range.start >= backing.size) return { kind: 'zero', length, explicit: false };
    return {
      kind: 'below',
      length: Math.min(length, backing.size - range.start),
      node: backing,
      offset: range.start,
    };
  }

  /** Bytes from the start of `range` that are not stored, which begins in L1 entry `index`; a bounded number of tables is asked. */
  #skip(index: number, range: GuestRange): number {
    const { state } = this;
    const { l2Coverage, clusterSize, l2Entries } = state.layout;
    const end = range.start + range.length;
    let at = range.start;
    let tablesLeft = tablesPerCall;
    for (let i = index; at < end; i++) {
      const next = (i + 1) * l2Coverage;
      if (((state.l1[i * 2] ?? 0) | (state.l1[i * 2 + 1] ?? 0)) === 0) {
        at = next;
        continue;
      }
      if (tablesLeft-- === 0) break;
      const table = this.#tableOrNull(i);
      if (table === null) break;
      let cluster = Math.floor((at - i * l2Coverage) / clusterSize);
      while (cluster < l2Entries && ((table[cluster * 2] ?? 0) | (table[cluster * 2 + 1] ?? 0)) === 0) cluster++;
      if (cluster < l2Entries) {
        at = Math.max(at, i * l2Coverage + cluster * clusterSize);
        break;
      }
      at = next;
    }
    return Math.min(at, end) - range.start;
  }

  /** A table that cannot be read ends what is merged: whoever maps it is told. */
  #tableOrNull(index: number): Uint32Array | null {
    try {
      return this.state.l2Table(this.state.l2Offset(index));
    } catch (error) {
      if (error instanceof ImageError) return null;
      throw error;
    }
  }

  protected get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.backing?.close();
    this.state.storage.close();
  }
}

// A qed image, for reading: two levels of tables, read in pieces as they are asked for.
import type { BackingReference, BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { mapDamaged, restOf, type Damage } from '../../block/unreadable.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { isClusterOffset, isTableOffset, layoutFor, type Layout } from './layout.ts';
import { feature, knownFeatures, longestName, qedHeader, zeroCluster, type QedHeader } from './spec.ts';

/** Entries of one piece of a table, and how many pieces are kept. */
const pieceEntries = 8192;
const piecesKept = 64;

/**
 * Reads and checks the header; `tolerant`: the L1 table may reach beyond the end of the file. Throws `qed/magic`, `qed/header`, `qed/features`, `bytes/truncated`, `storage/*`.
 */
export function readHeader(storage: Storage, tolerant = false): { header: QedHeader; layout: Layout } {
  const where: Where = { file: storage.name, offset: 0 };
  const bytes = new Uint8Array(Math.min(qedHeader.size, storage.size));
  storage.readAt(bytes, 0);
  const header = qedHeader.parse(bytes, where);
  const unknown = header.features & ~knownFeatures;
  if (unknown !== 0n) {
    throw new ImageError('qed/features', { found: unknown.toString(16) }, { ...where, offset: 16, field: 'features' });
  }
  const layout = layoutFor(header.cluster_size, header.table_size, header.header_size);
  const refuse = (field: keyof QedHeader, found: number, allowed: string): never => {
    const at = { ...where, offset: qedHeader.fields[field].offset, field };
    throw new ImageError('qed/header', { field, found, allowed }, at);
  };
  if (!isPowerOfTwo(header.cluster_size)) refuse('cluster_size', header.cluster_size, 'a power of two');
  if (!isPowerOfTwo(header.table_size)) refuse('table_size', header.table_size, 'a power of two');
  if (layout.headerBytes > 0xffff_ffff) refuse('header_size', header.header_size, 'less than 4 GiB');
  const largest = Math.min(layout.tableEntries * layout.l2Coverage, Number.MAX_SAFE_INTEGER);
  if (header.image_size % 512 !== 0 || header.image_size > largest) {
    refuse('image_size', header.image_size, `a multiple of 512 up to ${largest}`);
  }
  if (!isTableOffset(layout, header.l1_table_offset, tolerant ? Infinity : storage.size)) {
    refuse('l1_table_offset', header.l1_table_offset, 'the offset of a table within the file');
  }
  return { header, layout };
}

const isPowerOfTwo = (value: number): boolean => (value & (value - 1)) === 0;

/** The layer below as the header names it. Throws `qed/header`, `storage/*`. */
export function readBacking(storage: Storage, header: QedHeader, layout: Layout): BackingReference | null {
  if ((header.features & feature.backingFile) === 0n) return null;
  const { backing_filename_offset: offset, backing_filename_size: length } = header;
  const end = Math.min(layout.headerBytes, storage.size);
  if (offset + length > end || length > longestName) {
    const detail = { field: 'backing_filename_size', found: length, allowed: `${longestName}, within the header` };
    throw new ImageError('qed/header', detail, { file: storage.name, offset: 60, field: 'backing_filename_size' });
  }
  const bytes = new Uint8Array(length);
  storage.readAt(bytes, offset);
  const stop = bytes.indexOf(0);
  const path = Buffer.from(stop < 0 ? bytes : bytes.subarray(0, stop)).toString('utf8');
  return { path, format: (header.features & feature.backingNoProbe) === 0n ? null : 'raw' };
}

/** The image. Owns the storage and the layer below. */
export class QedNode implements BlockNode {
  readonly format = 'qed';
  readonly name: string;
  readonly size: number;
  readonly granularity: number;
  readonly backing: BlockNode | null;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly header: QedHeader;
  readonly layout: Layout;
  readonly reference: BackingReference | null;
  readonly #pieces = new Map<number, DataView>();
  /** Null: it was not opened leniently. */
  readonly #damage: Damage | null;
  #closed = false;

  constructor(
    storage: Storage,
    parsed: { header: QedHeader; layout: Layout },
    below: {
      reference: BackingReference | null;
      node: BlockNode | null;
    },
    lenient = false,
  ) {
    this.storage = storage;
    this.name = storage.name;
    this.header = parsed.header;
    this.layout = parsed.layout;
    this.size = parsed.header.image_size;
    this.granularity = parsed.layout.clusterSize;
    this.reference = below.reference;
    this.backing = below.node;
    this.files = [{ role: 'file', format: 'file', storage }];
    this.#damage = lenient ? this.#damageOf() : null;
  }

  /** Throws `qed/table-offset`, `qed/cluster-offset`, `storage/*`. */
  map(range: GuestRange): Mapping {
    const damage = this.#damage;
    return damage === null ? this.#mapSound(range) : mapDamaged(range, damage, (known) => this.#mapSound(known));
  }

  /** What is known of an image whose tables may not lie in the file. */
  #damageOf(): Damage {
    const { l2Coverage, clusterSize, tableEntries } = this.layout;
    const { l1_table_offset: found } = this.header;
    const inFile = Math.floor(Math.max(0, this.storage.size - found) / 8);
    const isShort = inFile < Math.min(tableEntries, Math.ceil(this.size / l2Coverage));
    const detail = { field: 'l1_table_offset', found, allowed: 'the offset of a table within the file' };
    const where = { file: this.name, offset: qedHeader.fields.l1_table_offset.offset, field: 'l1_table_offset' };
    return {
      known: isShort ? inFile * l2Coverage : Infinity,
      beyond: isShort ? new ImageError('qed/header', detail, where) : null,
      reach: (start, { code }) => restOf(code === 'qed/table-offset' ? l2Coverage : clusterSize, start),
    };
  }

  #mapSound(range: GuestRange): Mapping {
    const { clusterSize, l2Coverage } = this.layout;
    const index = Math.floor(range.start / l2Coverage);
    const within = range.start - index * l2Coverage;
    const table = this.entryAt(this.header.l1_table_offset, index);
    if (table === 0) return this.#unallocated(range, Math.min(range.length, l2Coverage - within));
    if (!isTableOffset(this.layout, table, this.storage.size)) {
      const at = { file: this.name, offset: this.header.l1_table_offset + index * 8, field: 'L1 entry' };
      throw new ImageError('qed/table-offset', { index, found: table }, at);
    }
    const first = Math.floor(within / clusterSize);
    const skip = within - first * clusterSize;
    const most = Math.min(range.length, l2Coverage - within);
    const last = first + Math.ceil((skip + most) / clusterSize);
    const entry = this.entryAt(table, first);
    const step = entry === 0 || entry === zeroCluster ? 0 : clusterSize;
    let next = first + 1;
    // As far as this piece of the table goes; the caller asks again for the rest.
    const end = Math.min(last, first - (first % pieceEntries) + pieceEntries);
    while (next < end && this.entryAt(table, next) === entry + (next - first) * step) {
      if (step > 0 && !isClusterOffset(this.layout, entry + (next - first) * step, this.storage.size)) break;
      next++;
    }
    const length = Math.min((next - first) * clusterSize - skip, most);
    if (entry === 0) return this.#unallocated(range, length);
    if (entry === zeroCluster) return { kind: 'zero', length, explicit: true };
    if (!isClusterOffset(this.layout, entry, this.storage.size)) {
      const at = { file: this.name, offset: table + first * 8, field: 'L2 entry' };
      throw new ImageError('qed/cluster-offset', { guest: range.start, found: entry }, at);
    }
    return { kind: 'data', length, storage: this.storage, offset: entry + skip, writable: false };
  }

  #unallocated(range: GuestRange, length: number): Mapping {
    const { backing } = this;
    if (backing === null || range.start >= backing.size) return { kind: 'zero', length, explicit: false };
    const shared = Math.min(length, backing.size - range.start);
    return { kind: 'below', length: shared, node: backing, offset: range.start };
  }

  /** An entry of a table; what lies past the end of the file is zero. Beyond 2^53 only in a damaged image. */
  entryAt(table: number, index: number): number {
    const piece = Math.floor(index / pieceEntries);
    const view = this.#piece(table + piece * pieceEntries * 8);
    const at = (index - piece * pieceEntries) * 8;
    return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
  }

  #piece(offset: number): DataView {
    const known = this.#pieces.get(offset);
    if (known !== undefined) return known;
    const view = new DataView(readTable(this.storage, offset, pieceEntries));
    if (this.#pieces.size >= piecesKept) {
      for (const oldest of this.#pieces.keys()) {
        this.#pieces.delete(oldest);
        break;
      }
    }
    this.#pieces.set(offset, view);
    return view;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.backing?.close();
    this.storage.close();
  }
}

/** The bytes of `entries` entries from `offset`; what lies past the end of the file is zero. */
export function readTable(storage: Storage, offset: number, entries: number): ArrayBuffer {
  const buffer = new ArrayBuffer(entries * 8);
  const there = Math.max(0, Math.min(entries * 8, storage.size - offset));
  if (there > 0) storage.readAt(new Uint8Array(buffer, 0, there), offset);
  return buffer;
}

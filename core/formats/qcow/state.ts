// What is known of an open qcow image: header, layout, L1 table, and the L2 tables used last.
import type { BackingReference, Cipher } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignDown, type HostOffset } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { join, l1EntriesFor, layoutFor, type Layout } from './layout.ts';
import { header, limit, type Header } from './spec.ts';
import { loadTable } from './tables.ts';

/** L2 tables kept that are as they stand on disk, in bytes. */
const cleanLimit = 16 * 1024 * 1024;

export class QcowState {
  readonly storage: Storage;
  readonly fields: Header;
  readonly layout: Layout;
  /** Set once the passphrase of an encrypted image is there. */
  cipher: Cipher | null = null;
  /** In halves. */
  l1: Uint32Array;
  /** L2 tables by their offset, the ones used last at the end. */
  readonly #l2 = new Map<HostOffset, Uint32Array>();
  /** Offsets of L2 tables that differ from what stands on disk. */
  readonly dirty = new Set<HostOffset>();
  /** Name of the layer below; null: there is none. */
  backingName: string | null;

  /** Reads and checks the header and the L1 table; `tolerant`: as far as the file has it. Throws the `qcow/*` codes with QEMU's sentences, `storage/*`. */
  constructor(storage: Storage, tolerant = false) {
    this.storage = storage;
    this.fields = readHeader(storage);
    const { fields } = this;
    this.layout = layoutFor(fields.cluster_bits, fields.l2_bits);
    const entries = l1EntriesFor(this.layout, fields.size);
    if (entries * 8 > limit.l1Bytes) throw this.fault('qcow/too-large', 'size', { found: fields.size });
    this.l1 = loadTable(storage, fields.l1_table_offset, entries, 'L1 table', tolerant);
    this.backingName = readBackingName(storage, fields);
  }

  fault(code: 'qcow/too-large', field: keyof Header, detail: Record<string, number>): ImageError {
    return new ImageError(code, detail, { file: this.storage.name, offset: header.fields[field].offset, field });
  }

  /** Virtual size in bytes: whole sectors, as QEMU counts. */
  get size(): number {
    return alignDown(this.fields.size, 512);
  }

  get encrypted(): boolean {
    return this.fields.crypt_method !== 0;
  }

  get backingReference(): BackingReference | null {
    const path = this.backingName;
    return path === null || path === '' ? null : { path, format: null };
  }

  /** Where the L2 table of L1 entry `index` stands; 0: there is none. Throws `qcow/table-beyond-file`. */
  l2Offset(index: number): HostOffset {
    const offset = join(this.l1[index * 2] ?? 0, this.l1[index * 2 + 1] ?? 0);
    if (offset === 0 || this.#l2.has(offset)) return offset;
    const { l2Size } = this.layout;
    if (offset + l2Size > this.storage.size) {
      const detail = { table: 'L2 table', length: l2Size, offset, size: this.storage.size };
      const where = { file: this.storage.name, offset: this.fields.l1_table_offset + index * 8, field: `L1[${index}]` };
      throw new ImageError('qcow/table-beyond-file', detail, where);
    }
    return offset;
  }

  /** The L2 table at `offset`, which `l2Offset` gave. */
  l2Table(offset: HostOffset): Uint32Array {
    const known = this.#l2.get(offset);
    if (known !== undefined) return known;
    const table = loadTable(this.storage, offset, this.layout.l2Entries, 'L2 table');
    this.addTable(offset, table);
    return table;
  }

  /** Puts a table into the cache; old ones that stand on disk as they are here are let go. */
  addTable(offset: HostOffset, table: Uint32Array): void {
    this.#l2.set(offset, table);
    let surplus = (this.#l2.size - this.dirty.size) * this.layout.l2Size - cleanLimit;
    if (surplus <= 0) return;
    for (const old of this.#l2.keys()) {
      if (surplus <= 0 || old === offset) break;
      if (this.dirty.has(old)) continue;
      this.#l2.delete(old);
      surplus -= this.layout.l2Size;
    }
  }

  /** Tables must be read again: the file was changed past the cache. */
  forgetTables(): void {
    for (const offset of [...this.#l2.keys()]) if (!this.dirty.has(offset)) this.#l2.delete(offset);
  }
}

function readHeader(storage: Storage): Header {
  const where: Where = { file: storage.name, offset: 0 };
  const head = new Uint8Array(header.size);
  storage.readAt(head.subarray(0, Math.min(head.length, storage.size)), 0);
  try {
    return header.parse(head, where);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'storage/too-large') throw error;
    if (error.where.field === 'size') throw new ImageError('qcow/too-large', error.detail, error.where, error);
    throw new ImageError('qcow/offset', { ...error.detail, field: error.where.field ?? '' }, error.where, error);
  }
}

function readBackingName(storage: Storage, fields: Header): string | null {
  const { backing_file_offset: offset, backing_file_size: length } = fields;
  if (offset === 0) return null;
  const where: Where = { file: storage.name, offset: 16, field: 'backing_file_size' };
  if (length > limit.backingName) throw new ImageError('qcow/backing-name', { found: length }, where);
  if (offset + length > storage.size) {
    throw new ImageError('qcow/backing-place', { offset, length, size: storage.size }, where);
  }
  const bytes = new Uint8Array(length);
  storage.readAt(bytes, offset);
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

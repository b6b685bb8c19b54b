// Tables of 64-bit big-endian entries as arrays of 32-bit halves: entry i is the pair (2i: high, 2i+1: low).
import { endianness } from 'node:os';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';

const swaps = endianness() === 'LE';

/** Between the order of the disk and that of this machine, in place; both ways. */
function swap(bytes: Uint8Array): void {
  if (swaps) Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).swap32();
}

/** What `loadTable` does with entries beyond the end of the file: refuse them, or read them as zeroes (repair). */
export type BeyondEnd = 'refuse' | 'zero';

/**
 * `entries` entries from `offset`. `name` is the table's in messages. The caller has bounded `entries`.
 * Throws `qcow2/table-beyond-file`, `storage/*`.
 */
export function loadTable(
  storage: Storage,
  offset: number,
  entries: number,
  name: string,
  beyond: BeyondEnd = 'refuse',
): Uint32Array {
  const length = entries * 8;
  const there = Math.max(0, Math.min(length, storage.size - offset));
  if (there < length && beyond === 'refuse') {
    const detail = { table: name, length, offset, size: storage.size };
    throw new ImageError('qcow2/table-beyond-file', detail, { file: storage.name, offset, field: name });
  }
  const bytes = new Uint8Array(length);
  if (there > 0) storage.readAt(bytes.subarray(0, there), offset);
  swap(bytes);
  return new Uint32Array(bytes.buffer);
}

/** The bytes of `entries` entries of `table` from `first`, as they stand on disk. */
export function tableBytes(table: Uint32Array, first = 0, entries = table.length / 2 - first): Uint8Array {
  const bytes = new Uint8Array(entries * 8);
  new Uint32Array(bytes.buffer).set(table.subarray(first * 2, (first + entries) * 2));
  swap(bytes);
  return bytes;
}

/** Tables (or blocks) by their host offset, the ones used last kept within `limit` bytes. */
export class TableCache<Table extends { readonly byteLength: number }> {
  readonly #limit: number;
  readonly #tables = new Map<number, Table>();
  #bytes = 0;
  #lastOffset = -1;
  #last: Table | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(offset: number): Table | null {
    if (offset === this.#lastOffset) return this.#last;
    const table = this.#tables.get(offset);
    if (table === undefined) return null;
    this.#tables.delete(offset);
    this.#tables.set(offset, table);
    this.#lastOffset = offset;
    this.#last = table;
    return table;
  }

  put(offset: number, table: Table): void {
    this.drop(offset);
    this.#tables.set(offset, table);
    this.#bytes += table.byteLength;
    this.#lastOffset = offset;
    this.#last = table;
    for (const [oldest, old] of this.#tables) {
      if (this.#bytes <= this.#limit || oldest === offset) break;
      this.#tables.delete(oldest);
      this.#bytes -= old.byteLength;
    }
  }

  clear(): void {
    this.#tables.clear();
    this.#bytes = 0;
    this.#lastOffset = -1;
    this.#last = null;
  }

  drop(offset: number): void {
    const table = this.#tables.get(offset);
    if (table === undefined) return;
    this.#tables.delete(offset);
    this.#bytes -= table.byteLength;
    if (offset === this.#lastOffset) {
      this.#lastOffset = -1;
      this.#last = null;
    }
  }
}

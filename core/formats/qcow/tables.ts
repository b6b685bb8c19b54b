// Tables of 64-bit big-endian entries as arrays of 32-bit halves: entry i is the pair (2i: high, 2i+1: low).
import { endianness } from 'node:os';
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

const swaps = endianness() === 'LE';

function swap(bytes: Uint8Array): void {
  if (swaps) Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).swap32();
}

/**
 * `entries` entries from `offset`; the caller has bounded them. `tolerant`: those beyond the end of the file are zero. Throws
 * `qcow/table-beyond-file`, `storage/*`.
 */
export function loadTable(
  storage: Storage,
  offset: HostOffset,
  entries: number,
  name: string,
  tolerant = false,
): Uint32Array {
  const length = entries * 8;
  if (offset + length > storage.size && !tolerant) throw beyondFile(storage, offset, length, name);
  const bytes = new Uint8Array(length);
  const there = Math.max(0, Math.min(length, storage.size - offset));
  if (there > 0) storage.readAt(bytes.subarray(0, there), offset);
  swap(bytes);
  return new Uint32Array(bytes.buffer);
}

/** What is said of a table of `length` bytes that does not lie within the file. */
export function beyondFile(storage: Storage, offset: HostOffset, length: number, name: string): ImageError {
  const detail = { table: name, length, offset, size: storage.size };
  return new ImageError('qcow/table-beyond-file', detail, { file: storage.name, offset, field: name });
}

/** The bytes of `entries` entries of `table` from `first`, as they stand on disk. */
export function tableBytes(table: Uint32Array, first = 0, entries = table.length / 2 - first): Uint8Array {
  const bytes = new Uint8Array(entries * 8);
  new Uint32Array(bytes.buffer).set(table.subarray(first * 2, (first + entries) * 2));
  swap(bytes);
  return bytes;
}

// The block allocation table (BAT) in memory: big-endian as on the disk, with the parts that wait to be written.
import type { Storage } from '../../block/storage.ts';
import { KiB, MiB, type HostOffset } from '../../block/units.ts';
import { tableLength } from './layout.ts';
import { unallocated } from './spec.ts';

/** Entries held at most: 64 MiB of them. 2040 GiB in blocks of 2 MiB need a million. */
export const largestTable = 16 * MiB;
const page = 4 * KiB;

/** Entries count sectors of the file; `unallocated`: the block is not in the file. */
export class BlockTable {
  offset: HostOffset;
  entries: number;
  /** Entries that lie in the file; all but in a damaged image that is looked at. */
  readonly inFile: number;
  #bytes: Uint8Array;
  #view: DataView;
  readonly #dirty = new Set<number>();

  private constructor(offset: HostOffset, entries: number, inFile: number, bytes: Uint8Array) {
    this.offset = offset;
    this.entries = entries;
    this.inFile = inFile;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Reads `entries` entries, as far as the file has them; the caller has checked that they fit `largestTable`. Throws `storage/*`. */
  static read(storage: Storage, offset: HostOffset, entries: number): BlockTable {
    const bytes = new Uint8Array(tableLength(entries)).fill(0xff);
    const held = Math.max(0, Math.min(bytes.length, storage.size - offset));
    if (held > 0) storage.readAt(bytes.subarray(0, held), offset);
    return new BlockTable(offset, entries, Math.min(entries, Math.floor(held / 4)), bytes);
  }

  get(block: number): number {
    return this.#view.getUint32(block * 4);
  }

  set(block: number, entry: number): void {
    this.#view.setUint32(block * 4, entry);
    this.#dirty.add(Math.floor((block * 4) / page));
  }

  /** How many blocks from `block` on, at most `limit`, are not in the file. */
  freeRun(block: number, limit: number): number {
    const end = Math.min(this.entries, block + limit);
    let at = block;
    while (at < end && this.#view.getUint32(at * 4) === unallocated) at++;
    return at - block;
  }

  /** `entries` entries from now on; new ones are unallocated. All of it waits to be written when the table has moved to `offset`. */
  resize(entries: number, offset: HostOffset): void {
    const bytes = new Uint8Array(tableLength(entries)).fill(0xff);
    bytes.set(this.#bytes.subarray(0, Math.min(this.entries, entries) * 4));
    const before = this.entries;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.entries = entries;
    const first = offset === this.offset ? Math.floor((Math.min(before, entries) * 4) / page) : 0;
    this.offset = offset;
    for (const old of this.#dirty) if (old * page >= bytes.length) this.#dirty.delete(old);
    for (let at = first; at * page < bytes.length; at++) this.#dirty.add(at);
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Writes what has changed, neighbours in one piece. Throws `storage/write`; what was not written stays waiting. */
  write(storage: Storage): void {
    const pages = [...this.#dirty].sort((a, b) => a - b);
    for (let first = 0; first < pages.length;) {
      let next = first + 1;
      while (next < pages.length && pages[next] === (pages[next - 1] ?? 0) + 1) next++;
      const start = (pages[first] ?? 0) * page;
      const end = Math.min(((pages[next - 1] ?? 0) + 1) * page, this.#bytes.length);
      storage.writeAt(this.#bytes.subarray(start, end), this.offset + start);
      for (let i = first; i < next; i++) this.#dirty.delete(pages[i] ?? 0);
      first = next;
    }
  }
}

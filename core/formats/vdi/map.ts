// The block map: for each block its place in the file, or that it is free or zero. Read in pieces, a bounded number of them kept.
import type { Storage } from '../../block/storage.ts';
import { KiB, type HostOffset } from '../../block/units.ts';

/** Entries per piece: 256 KiB of the file. */
const pieceEntries = 64 * KiB;
/** Clean pieces kept: 16 MiB, the map of 4 TiB. */
const keptPieces = 64;

interface Piece {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty: boolean;
}

export class BlockMap {
  readonly #storage: Storage;
  readonly #pieces = new Map<number, Piece>();
  #dirty = 0;
  /** Walks ask for one block after the other. */
  #last: { readonly index: number; readonly piece: Piece } | null = null;
  #offset: HostOffset;
  #entries: number;

  /** `entries` entries at `offset`; the caller has checked that they lie in the file. */
  constructor(storage: Storage, offset: HostOffset, entries: number) {
    this.#storage = storage;
    this.#offset = offset;
    this.#entries = entries;
  }

  get entries(): number {
    return this.#entries;
  }

  get offset(): HostOffset {
    return this.#offset;
  }

  get isDirty(): boolean {
    return this.#dirty > 0;
  }

  /** Throws `storage/*`. */
  get(block: number): number {
    return this.#pieceOf(block).view.getUint32((block % pieceEntries) * 4, true);
  }

  set(block: number, entry: number): void {
    const piece = this.#pieceOf(block);
    piece.view.setUint32((block % pieceEntries) * 4, entry, true);
    if (!piece.dirty) this.#dirty++;
    piece.dirty = true;
  }

  /** How many blocks from `block` on, at most `limit`, have the same entry as it. */
  equalRun(block: number, limit: number): number {
    const entry = this.get(block);
    const end = Math.min(this.#entries, block + limit);
    let at = block + 1;
    while (at < end && this.get(at) === entry) at++;
    return at - block;
  }

  /** How many blocks from `block` on, at most `limit`, follow each other in the file. */
  placedRun(block: number, limit: number): number {
    const entry = this.get(block);
    const end = Math.min(this.#entries, block + limit);
    let at = block + 1;
    while (at < end && this.get(at) === entry + (at - block)) at++;
    return at - block;
  }

  /** Another number of entries; new ones are free, and are in the file at once. Throws `storage/write`. */
  resize(entries: number): void {
    const before = this.#entries;
    if (entries > before) {
      const start = before % pieceEntries;
      this.#pieces.get(Math.floor(before / pieceEntries))?.bytes.fill(0xff, start * 4);
      writeFree(this.#storage, this.#offset + before * 4, entries - before);
    }
    this.#entries = entries;
    for (const [index, piece] of this.#pieces) {
      if (index * pieceEntries < entries) continue;
      if (piece.dirty) this.#dirty--;
      this.#drop(index);
    }
  }

  /** The map is at `offset` from now on and has `entries` entries: it has been written there. */
  moved(offset: HostOffset, entries: number): void {
    this.#pieces.clear();
    this.#last = null;
    this.#dirty = 0;
    this.#offset = offset;
    this.#entries = entries;
  }

  /** Writes what has changed. Throws `storage/write`; what was not written stays waiting. */
  write(): void {
    if (this.#dirty === 0) return;
    const waiting = [...this.#pieces].filter(([, piece]) => piece.dirty).sort(([a], [b]) => a - b);
    for (const [index, piece] of waiting) {
      const start = index * pieceEntries * 4;
      const length = Math.min(piece.bytes.length, this.#entries * 4 - start);
      this.#storage.writeAt(piece.bytes.subarray(0, length), this.#offset + start);
      piece.dirty = false;
      this.#dirty--;
    }
  }

  #pieceOf(block: number): Piece {
    const index = Math.floor(block / pieceEntries);
    if (this.#last?.index === index) return this.#last.piece;
    const piece = this.#pieces.get(index) ?? this.#load(index);
    this.#last = { index, piece };
    return piece;
  }

  #load(index: number): Piece {
    const start = index * pieceEntries;
    const bytes = new Uint8Array(pieceEntries * 4).fill(0xff);
    const length = Math.min(pieceEntries, this.#entries - start) * 4;
    const offset = this.#offset + start * 4;
    const held = Math.max(0, Math.min(length, this.#storage.size - offset));
    this.#storage.readAt(bytes.subarray(0, held), offset);
    const piece = { bytes, view: new DataView(bytes.buffer), dirty: false };
    if (this.#pieces.size - this.#dirty >= keptPieces) this.#dropOne();
    this.#pieces.set(index, piece);
    return piece;
  }

  #dropOne(): void {
    for (const [index, piece] of this.#pieces) {
      if (piece.dirty) continue;
      this.#drop(index);
      return;
    }
  }

  #drop(index: number): void {
    this.#pieces.delete(index);
    if (this.#last?.index === index) this.#last = null;
  }
}

/** Writes `count` free entries at `offset`. Throws `storage/write`. */
export function writeFree(storage: Storage, offset: HostOffset, count: number): void {
  const piece = new Uint8Array(Math.min(count * 4, 1024 * KiB)).fill(0xff);
  for (let done = 0; done < count * 4;) {
    const length = Math.min(piece.length, count * 4 - done);
    storage.writeAt(piece.subarray(0, length), offset + done);
    done += length;
  }
}

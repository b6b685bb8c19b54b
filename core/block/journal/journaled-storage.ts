// A file of an image that a verb changes: readers see every change at once, the host only after the journal has what it overwrites.
import { ImageError } from '../../errors/image-error.ts';
import type { Provision, Storage, StorageExtent } from '../storage.ts';
import { alignDown, alignUp, type HostOffset, MiB } from '../units.ts';
import { Coverage } from './coverage.ts';
import { sectorSize } from './spec.ts';
import type { UndoJournal } from './undo-journal.ts';
import { sectorChecksums } from './write.ts';

/** Checksums of the sectors that a change touches, as it leaves them; `length` ends at the old end of the file at the latest. */
interface Sums {
  readonly offset: number;
  readonly length: number;
  readonly checksums: Uint32Array;
}

/** A change that was not made yet. `sums` null: it lies beyond the old end. */
export type HeldChange =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array; readonly sums: Sums | null }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number; readonly sums: Sums | null }
  | { readonly kind: 'flush' };

const pageSize = 4096;
/** What is longer than this is zeroed at once, not held back. */
const longZero = MiB;
/** Writes are held in pieces of this size. */
const longWrite = 4 * MiB;
/** Stretches remembered to be given back at the end; what comes after them stays. */
const mostDiscards = 1024 * 1024;

export class JournaledStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  /** The bulk plane would go past the journal. */
  readonly descriptor = null;
  readonly identity: string | null;
  readonly inner: Storage;
  readonly id: number;
  readonly role: string;
  /** What of the old file the journal has. */
  readonly kept = new Coverage();
  size: number;
  /** It was changed, or will be. */
  touched = false;
  readonly #journal: UndoJournal;
  /** Pages as they will be when the changes held back are made. */
  readonly #pages = new Map<number, Uint8Array>();
  #unflushed = false;
  /** Stretches that nothing refers to once the change is done. */
  #discards: { readonly offset: number; readonly length: number }[] = [];

  constructor(inner: Storage, journal: UndoJournal, id: number, role: string) {
    this.inner = inner;
    this.name = inner.name;
    this.writable = inner.writable;
    this.identity = inner.identity;
    this.size = inner.size;
    this.id = id;
    this.role = role;
    this.#journal = journal;
  }

  readAt(into: Uint8Array, offset: HostOffset): void {
    const end = offset + into.length;
    if (this.#pages.size === 0 || end > this.size) {
      if (end <= this.inner.size || this.#pages.size === 0) {
        this.inner.readAt(into, offset);
        return;
      }
      const detail = { found: Math.max(0, this.size - offset), length: into.length, size: this.size };
      throw new ImageError('storage/short-read', detail, { file: this.name, offset });
    }
    const first = Math.floor(offset / pageSize);
    const last = Math.ceil(end / pageSize);
    let wholly = true;
    for (let page = first; page < last && wholly; page++) wholly = this.#pages.has(page);
    if (!wholly) readPadded(this.inner, into, offset);
    for (let page = first; page < last; page++) {
      const bytes = this.#pages.get(page);
      if (bytes === undefined) continue;
      const from = Math.max(offset, page * pageSize);
      const to = Math.min(end, (page + 1) * pageSize);
      into.set(bytes.subarray(from - page * pageSize, to - page * pageSize), from - offset);
    }
  }

  writeAt(from: Uint8Array, offset: HostOffset): void {
    this.#begin(offset);
    if (from.length === 0) return;
    if (this.#passes(offset)) {
      this.#journal.beyond(() => this.inner.writeAt(from, offset));
      this.#changed(offset + from.length);
      return;
    }
    for (let done = 0; done < from.length; done += longWrite) {
      // A copy: the caller uses its buffer again before this is written (`slice` of a Buffer would be a view).
      const bytes = Uint8Array.from(from.subarray(done, done + longWrite));
      const at = offset + done;
      this.#fill(at, bytes.length, (page, start, source) =>
        page.set(bytes.subarray(source, source + page.length - start), start),
      );
      this.#changed(at + bytes.length);
      this.#journal.hold(this, { kind: 'write', offset: at, bytes, sums: this.#sums(at, bytes.length) });
    }
  }

  zeroAt(offset: HostOffset, length: number): void {
    this.#begin(offset);
    if (length === 0) return;
    const end = offset + length;
    if (this.#passes(offset)) {
      this.#journal.beyond(() => this.inner.zeroAt(offset, length));
      this.#changed(end);
    } else if (length <= longZero) this.#holdZero(offset, length);
    else {
      const from = alignUp(offset, sectorSize);
      const to = alignDown(end, sectorSize);
      this.#holdZero(offset, from - offset);
      this.#journal.direct(this, from, to, () => this.inner.zeroAt(from, to - from));
      this.#changed(to);
      this.#holdZero(to, end - to);
    }
  }

  truncate(size: number): void {
    this.#begin(size);
    const before = Math.min(this.size, this.#journal.sizeBefore(this));
    const edge = Math.min(before, alignUp(size, sectorSize));
    // The rest of the sector at the new end goes first: what stands in it is then known by its checksum.
    if (size < edge && this.#journal.watching) this.#holdZero(size, edge - size);
    this.#journal.direct(this, Math.min(edge, before), before, () => this.inner.truncate(size));
    this.touched = true;
    this.#unflushed = true;
    this.size = this.inner.size;
  }

  /** Once the change cannot be taken back; what is kept for that is kept here. */
  discard(offset: HostOffset, length: number): void {
    this.#journal.checkUsable();
    if (this.#discards.length < mostDiscards) this.#discards.push({ offset, length });
  }

  /** The change is done, and nothing can put it back any more. */
  giveSpaceBack(): void {
    const discards = this.#discards;
    this.#discards = [];
    try {
      for (const { offset, length } of discards) this.inner.discard?.(offset, length);
    } catch (error) {
      // The change itself is done; the space stays taken, which harms nobody.
      if (!(error instanceof ImageError)) throw error;
    }
  }

  provide(offset: HostOffset, length: number, how: Provision): void {
    this.#begin(offset);
    if (length === 0) return;
    const end = offset + length;
    const before = this.#journal.sizeBefore(this);
    if (how === 'falloc' || offset >= before) {
      this.#journal.direct(this, end, end, () => this.inner.provide(offset, length, how));
    } else {
      const from = Math.min(end, alignUp(offset, sectorSize));
      const to = end >= before ? end : Math.max(from, alignDown(end, sectorSize));
      this.#write(offset, from - offset);
      if (to > from) this.#journal.direct(this, from, to, () => this.inner.provide(from, to - from, how));
      this.#changed(to);
      this.#write(to, end - to);
    }
    this.#changed(end);
  }

  flush(): void {
    this.#journal.checkUsable();
    if (this.#journal.isClear(this)) {
      this.inner.flush();
      this.#unflushed = false;
    } else if (this.touched && !this.#journal.endsWithFlush(this)) this.#journal.hold(this, { kind: 'flush' });
  }

  extentAt(offset: HostOffset, limit: number): StorageExtent {
    const rest = Math.max(0, Math.min(limit, this.size - offset));
    // What is held back is data as far as anybody can tell now.
    if (this.#pages.size > 0 || offset >= this.inner.size) return { kind: 'data', length: rest };
    return this.inner.extentAt(offset, rest);
  }

  allocated(): number {
    return this.inner.allocated();
  }

  /** A changed file stays open until the journal ends: something may have to be put back. */
  close(): void {
    if (this.touched && this.#journal.watching) return;
    this.giveSpaceBack();
    this.inner.close();
  }

  /** The changes held back were made, or will never be. */
  forgetHeld(): void {
    this.#pages.clear();
    this.size = this.inner.size;
  }

  flushIfChanged(): void {
    if (this.#unflushed) this.inner.flush();
    this.#unflushed = false;
  }

  /** Throws `storage/read-only`, what an earlier change threw, and what the file itself says of a bad offset. */
  #begin(offset: number): void {
    this.#journal.checkUsable();
    if (!this.writable) throw new ImageError('storage/read-only', {}, { file: this.name, offset });
    if (offset < 0 || !Number.isSafeInteger(offset)) throw new RangeError(`offset ${offset} of ${this.name}`);
  }

  /** A change from `offset` on needs no journal and overtakes nothing. */
  #passes(offset: number): boolean {
    return this.#journal.isClear(this) && (!this.#journal.watching || offset >= this.#journal.sizeBefore(this));
  }

  #changed(end: number): void {
    this.touched = true;
    this.#unflushed = true;
    this.size = Math.max(this.size, end);
  }

  #write(offset: number, length: number): void {
    if (length > 0) this.writeAt(new Uint8Array(length), offset);
  }

  #holdZero(offset: number, length: number): void {
    if (length <= 0) return;
    this.#fill(offset, length, (page, start) => page.fill(0, start));
    this.#changed(offset + length);
    this.#journal.hold(this, { kind: 'zero', offset, length, sums: this.#sums(offset, length) });
  }

  /** Hands each page of a stretch to `set`: the page up to the stretch's end in it, where in it the stretch begins, and where that is in the stretch. */
  #fill(offset: number, length: number, set: (page: Uint8Array, start: number, source: number) => void): void {
    const end = offset + length;
    for (let at = offset; at < end;) {
      const page = Math.floor(at / pageSize);
      const start = at - page * pageSize;
      const stop = Math.min(pageSize, end - page * pageSize);
      set(this.#page(page, start === 0 && stop === pageSize).subarray(0, stop), start, at - offset);
      at = page * pageSize + stop;
    }
  }

  #page(page: number, overwritten: boolean): Uint8Array {
    let bytes = this.#pages.get(page);
    if (bytes === undefined) {
      bytes = new Uint8Array(pageSize);
      if (!overwritten) readPadded(this.inner, bytes, page * pageSize);
      this.#pages.set(page, bytes);
    }
    return bytes;
  }

  #sums(offset: number, length: number): Sums | null {
    if (!this.#journal.watching) return null;
    const from = alignDown(offset, sectorSize);
    const to = Math.min(this.#journal.sizeBefore(this), alignUp(offset + length, sectorSize));
    if (to <= from) return null;
    const bytes = new Uint8Array(to - from);
    this.#readHeld(bytes, from);
    return { offset: from, length: to - from, checksums: sectorChecksums(bytes) };
  }

  /** As `readAt`, with zeroes past the end. */
  #readHeld(into: Uint8Array, offset: number): void {
    const there = Math.max(0, Math.min(into.length, this.size - offset));
    if (there > 0) this.readAt(into.subarray(0, there), offset);
    into.fill(0, there);
  }
}

/** Reads as zeroes past the end. */
function readPadded(storage: Storage, into: Uint8Array, offset: number): void {
  const there = Math.max(0, Math.min(into.length, storage.size - offset));
  if (there > 0) storage.readAt(into.subarray(0, there), offset);
  into.fill(0, there);
}

// The place of a new disk in its archive, with a digest that grows while the disk is written from front to back.
import crypto from 'node:crypto';
import { StorageWindow } from '../../block/storage-window.ts';
import { MiB, type HostOffset } from '../../block/units.ts';

/**
 * As long as every byte behind the first one that is noted is written once and in order, the digest costs no second reading; what stands
 * before that byte is read when it is met.
 */
export class DigestWindow extends StorageWindow {
  #hash = crypto.createHash('sha256');
  /** Bytes that are in the digest; null: they were not written in order, and must be read. */
  #hashed: number | null = 0;

  /** Bytes that are written at `offset`, by us or by the copy plane. */
  note(bytes: Uint8Array, offset: HostOffset): void {
    if (this.#hashed === 0 && offset <= this.size) this.#read(offset);
    if (offset !== this.#hashed) {
      this.#hashed = null;
      return;
    }
    this.#hash.update(bytes);
    this.#hashed += bytes.length;
  }

  override writeAt(from: Uint8Array, offset: HostOffset): void {
    this.note(from, offset);
    super.writeAt(from, offset);
  }

  override truncate(size: number): void {
    super.truncate(size);
    if (this.#hashed !== size) this.#hashed = null;
  }

  override zeroAt(offset: HostOffset, length: number): void {
    super.zeroAt(offset, length);
    this.#hashed = null;
  }

  /** The digest of the whole disk, in hexadecimal digits. */
  digest(): string {
    if (this.#hashed !== this.size) {
      this.#hash = crypto.createHash('sha256');
      this.#hashed = 0;
      this.#read(this.size);
    }
    return this.#hash.copy().digest('hex');
  }

  /** Takes the bytes up to `end`, which are in the file, into the digest. */
  #read(end: HostOffset): void {
    const buffer = new Uint8Array(Math.min(MiB, end));
    for (let at = this.#hashed ?? 0; at < end; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, end - at));
      this.readAt(part, at);
      this.#hash.update(part);
    }
    this.#hashed = end;
  }
}

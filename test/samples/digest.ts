// Digests of a disk's content: SHA-256, and the sparse digest `sd64k` that the foreign images are recorded with.
import { createHash } from 'node:crypto';
import { openFile } from '../../core/block/file.ts';

const block = 64 * 1024;
const zeroes = Buffer.alloc(block);

/**
 * `sd64k`: SHA-256 over, for each 64 KiB block with a byte that is not zero, in order, its index (8 bytes, big-endian) and the
 * SHA-256 of the block (the last one padded with zeroes); at the end the total size (8 bytes, big-endian).
 */
export interface Digest {
  readonly size: number;
  readonly sd64k: string;
  /** Blocks of 64 KiB with a byte that is not zero. */
  readonly nonzeroBlocks: number;
}

/** Takes a disk's bytes in order, in pieces of any length. */
export class SparseDigest {
  readonly #outer = createHash('sha256');
  readonly #block = Buffer.alloc(block);
  #filled = 0;
  #size = 0;
  #nonzero = 0;

  add(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const count = Math.min(block - this.#filled, bytes.length - done);
      this.#block.set(bytes.subarray(done, done + count), this.#filled);
      this.#filled += count;
      this.#size += count;
      done += count;
      if (this.#filled === block) this.#closeBlock();
    }
  }

  /** `length` zero bytes. */
  addZeroes(length: number): void {
    let left = length;
    while (left > 0) {
      if (this.#filled === 0 && left >= block) {
        const whole = left - (left % block);
        this.#size += whole;
        left -= whole;
      } else {
        const count = Math.min(block - this.#filled, left);
        this.add(zeroes.subarray(0, count));
        left -= count;
      }
    }
  }

  finish(): Digest {
    if (this.#filled > 0) this.#closeBlock();
    this.#outer.update(bigEndian(this.#size));
    return { size: this.#size, sd64k: this.#outer.digest('hex'), nonzeroBlocks: this.#nonzero };
  }

  #closeBlock(): void {
    this.#block.fill(0, this.#filled);
    if (!this.#block.equals(zeroes)) {
      this.#outer.update(bigEndian(Math.floor((this.#size - this.#filled) / block)));
      this.#outer.update(createHash('sha256').update(this.#block).digest());
      this.#nonzero++;
    }
    this.#filled = 0;
  }
}

function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** The digest of a whole file. Its holes are skipped, which makes large sparse ones quick. */
export function digestOfFile(path: string): Digest {
  const file = openFile(path, { writable: false, lock: 'none' });
  try {
    const digest = new SparseDigest();
    const piece = Buffer.alloc(4 * 1024 * 1024);
    for (let at = 0; at < file.size;) {
      const { kind, length } = file.extentAt(at, file.size - at);
      if (kind === 'hole') digest.addZeroes(length);
      for (let done = 0; kind === 'data' && done < length; done += piece.length) {
        const part = piece.subarray(0, Math.min(piece.length, length - done));
        file.readAt(part, at + done);
        digest.add(part);
      }
      at += length;
    }
    return digest.finish();
  } finally {
    file.close();
  }
}

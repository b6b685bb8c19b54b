// Buffers as 32-bit words, so that four bytes are combined at once.
import { endianness } from 'node:os';

const isLittle = endianness() === 'LE';

/** The words of `bytes`, whose place in its buffer is a multiple of four; values are in this machine's byte order. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** True when `wordsOf` can be asked. */
export function isAligned(bytes: Uint8Array): boolean {
  return bytes.byteOffset % 4 === 0;
}

/** Turns words that were computed as little-endian numbers into bytes in that order, or back. Nothing to do on most machines. */
export function swapToLittle(words: Uint32Array): void {
  if (!isLittle) Buffer.from(words.buffer, words.byteOffset, words.byteLength).swap32();
}

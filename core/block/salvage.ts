// A damaged packed unit: the prefix of it that can still be decoded.
import { Inflate } from 'pako';
import type { Codec } from './node.ts';

/**
 * The guest bytes at the start of a unit of `unpackedLength` bytes that come out of `stored` before the damage. pako hands out what it
 * has in pieces of `chunkSize`; node:zlib keeps all of it back. A zstd frame gives nothing: its blocks are of use only whole.
 */
export function decodablePrefix(codec: Codec, stored: Uint8Array, unpackedLength: number): Uint8Array {
  if (codec.id === 'zstd') return new Uint8Array(0);
  const inflate = new Inflate({ raw: codec.id === 'deflate-raw', chunkSize: 512 });
  const pieces: Uint8Array[] = [];
  let length = 0;
  inflate.onData = (piece: Uint8Array): void => {
    const part = piece.subarray(0, unpackedLength - length);
    if (part.length > 0) pieces.push(part.slice());
    length += part.length;
  };
  inflate.onEnd = (): void => {};
  // In small steps: a step that meets the damage loses what it has decoded itself, and nothing from before it.
  for (let at = 0; at < stored.length && length < unpackedLength; at += step) {
    if (!inflate.push(stored.subarray(at, at + step), flushMode) || Number(inflate.err) !== 0) break;
  }
  return Buffer.concat(pieces, length);
}

/** Z_SYNC_FLUSH: what is decoded comes out at once. */
const flushMode = 2;
/** Stored bytes per step. */
const step = 64;

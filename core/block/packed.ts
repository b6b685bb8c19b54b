// Packed units (compressed clusters and grains) in both directions: what a codec's name means.
import zlib from 'node:zlib';
import { ImageError, type Where } from '../errors/image-error.ts';
import { InflateError, inflater } from './inflate.ts';
import type { Codec } from './node.ts';

/**
 * Fills `into`, the whole unit, with the guest bytes that `stored` holds. Bytes after the end of the stream are ignored, and so is
 * what would go beyond the unit: nothing larger than `into` is ever made. Throws `packed/damaged` when the stream is broken or
 * gives too little; what it gave before that is in `into`.
 */
export function unpackInto(codec: Codec, stored: Uint8Array, into: Uint8Array, where: Where): void {
  let given: number;
  try {
    given = codec.id === 'zstd' ? zstdInto(stored, into) : inflater(codec.id === 'deflate-raw')(stored, into);
  } catch (error) {
    if (!(error instanceof InflateError)) throw error;
    throw new ImageError('packed/damaged', { codec: codec.id, reason: error.message }, where, error);
  }
  if (given < into.length) {
    const reason = `it holds ${given} bytes, not ${into.length}`;
    throw new ImageError('packed/damaged', { codec: codec.id, reason }, where);
  }
}

function zstdInto(stored: Uint8Array, into: Uint8Array): number {
  let whole: Buffer;
  try {
    whole = zlib.zstdDecompressSync(stored, {
      maxOutputLength: into.length,
      chunkSize: Math.max(64, into.length),
      finishFlush: zlib.constants.ZSTD_e_flush,
    });
  } catch (error) {
    throw new InflateError(error instanceof Error ? error.message : String(error));
  }
  into.set(whole);
  return whole.length;
}

/** `unpackInto` a new buffer of `unpackedLength` bytes. */
export function unpack(codec: Codec, stored: Uint8Array, unpackedLength: number, where: Where): Uint8Array {
  const unpacked = new Uint8Array(unpackedLength);
  unpackInto(codec, stored, unpacked, where);
  return unpacked;
}

/** The packed form of one unit. */
export function pack(codec: Codec, unit: Uint8Array): Uint8Array {
  const level = codec.level ?? zlib.constants.Z_DEFAULT_COMPRESSION;
  switch (codec.id) {
    case 'deflate-raw':
      return zlib.deflateRawSync(unit, { level, memLevel: 9, windowBits: codec.windowBits ?? 15 });
    case 'zlib':
      return zlib.deflateSync(unit, { level, memLevel: 9 });
    case 'zstd':
      return zlib.zstdCompressSync(unit);
  }
}

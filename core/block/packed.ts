// Packed units (compressed clusters and grains) in both directions: what a codec's name means.
import zlib from 'node:zlib';
import { ImageError, type Where } from '../errors/image-error.ts';
import { InflateError, inflater } from './inflate.ts';
import type { Codec } from './node.ts';
import { zstdFrameLength } from './zstd-frame.ts';

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
    if (error instanceof ImageError) throw error.at(where);
    if (!(error instanceof InflateError)) throw error;
    throw new ImageError('packed/damaged', { codec: codec.id, reason: error.message }, where, error);
  }
  if (given < into.length) {
    const reason = `it holds ${given} bytes, not ${into.length}`;
    throw new ImageError('packed/damaged', { codec: codec.id, reason }, where);
  }
}

/** Frames one after the other until `into` is full; the decoder itself would go on into what stands behind them. */
function zstdInto(stored: Uint8Array, into: Uint8Array): number {
  let rest = stored;
  let done = 0;
  while (done < into.length && rest.length > 0) {
    const length = zstdFrameLength(rest);
    const piece = zstdFrame(rest.subarray(0, length), into.length - done);
    into.set(piece, done);
    rest = rest.subarray(length);
    done += piece.length;
  }
  return done;
}

function zstdFrame(stored: Uint8Array, limit: number): Uint8Array {
  try {
    return zlib.zstdDecompressSync(stored, {
      maxOutputLength: limit,
      chunkSize: Math.max(64, limit),
      finishFlush: zlib.constants.ZSTD_e_flush,
    });
  } catch (error) {
    throw new InflateError(error instanceof Error ? error.message : String(error));
  }
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

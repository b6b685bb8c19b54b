// Packed units (compressed clusters and grains) in both directions: what a codec's name means.
import zlib from 'node:zlib';
import { ImageError, type Where } from '../errors/image-error.ts';
import type { Codec } from './node.ts';
import { zstdFrameLength } from './zstd-frame.ts';

/**
 * The `unpackedLength` guest bytes that `stored` holds. Bytes after the end of the stream are ignored; the output is bounded.
 * Throws `packed/damaged` when the stream is broken, or gives fewer bytes, or more.
 */
export function unpack(codec: Codec, stored: Uint8Array, unpackedLength: number, where: Where): Uint8Array {
  let unpacked: Uint8Array;
  try {
    unpacked = inflate(codec, stored, unpackedLength);
  } catch (error) {
    if (error instanceof ImageError) throw error.at(where);
    if (!(error instanceof Error && 'code' in error)) throw error;
    throw new ImageError('packed/damaged', { codec: codec.id, reason: error.message }, where, error);
  }
  if (unpacked.length !== unpackedLength) {
    const reason = `it holds ${unpacked.length} bytes, not ${unpackedLength}`;
    throw new ImageError('packed/damaged', { codec: codec.id, reason }, where);
  }
  return unpacked;
}

function inflate(codec: Codec, stored: Uint8Array, unpackedLength: number): Uint8Array {
  switch (codec.id) {
    case 'deflate-raw':
      return zlib.inflateRawSync(stored, {
        maxOutputLength: unpackedLength,
        chunkSize: Math.max(64, unpackedLength),
        finishFlush: zlib.constants.Z_SYNC_FLUSH,
        ...(codec.windowBits === undefined ? {} : { windowBits: codec.windowBits }),
      });
    case 'zlib':
      return zlib.inflateSync(stored, {
        maxOutputLength: unpackedLength,
        chunkSize: Math.max(64, unpackedLength),
        finishFlush: zlib.constants.Z_SYNC_FLUSH,
      });
    case 'zstd':
      return inflateFrames(stored, unpackedLength);
  }
}

/** Frames one after the other until `unpackedLength` bytes are there; the decoder itself would go on into what stands behind them. */
function inflateFrames(stored: Uint8Array, unpackedLength: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  let rest = stored;
  let left = unpackedLength;
  while (left > 0 && rest.length > 0) {
    const length = zstdFrameLength(rest);
    const piece = zlib.zstdDecompressSync(rest.subarray(0, length), {
      maxOutputLength: left,
      chunkSize: Math.max(64, left),
      finishFlush: zlib.constants.ZSTD_e_flush,
    });
    pieces.push(piece);
    rest = rest.subarray(length);
    left -= piece.length;
  }
  const [only] = pieces;
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
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

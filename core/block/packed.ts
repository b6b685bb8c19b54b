// Packed units (compressed clusters and grains) in both directions: what a codec's name means.
import { ImageError, type Where } from '../errors/image-error.ts';
import { DecodeError, decoder } from './decode.ts';
import { encoder } from './encode.ts';
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
    given = codec.id === 'zstd' ? zstdInto(stored, into) : decoder(codec.id)(stored, into);
  } catch (error) {
    if (error instanceof ImageError) throw error.at(where);
    if (!(error instanceof DecodeError)) throw error;
    throw new ImageError('packed/damaged', { codec: codec.id, reason: error.message }, where, error);
  }
  if (given < into.length) {
    const reason = `it holds ${given} bytes, not ${into.length}`;
    throw new ImageError('packed/damaged', { codec: codec.id, reason }, where);
  }
}

/** Frames one after the other until `into` is full; the decoder itself would go on into what stands behind them. */
function zstdInto(stored: Uint8Array, into: Uint8Array): number {
  const decode = decoder('zstd');
  let rest = stored;
  let done = 0;
  while (done < into.length && rest.length > 0) {
    const length = zstdFrameLength(rest);
    done += decode(rest.subarray(0, length), into.subarray(done));
    rest = rest.subarray(length);
  }
  return done;
}

/** `unpackInto` a new buffer of `unpackedLength` bytes. */
export function unpack(codec: Codec, stored: Uint8Array, unpackedLength: number, where: Where): Uint8Array {
  const unpacked = new Uint8Array(unpackedLength);
  unpackInto(codec, stored, unpacked, where);
  return unpacked;
}

/** Packs `unit` into the start of `into`; the stored length, or null when it does not fit there. */
export function packInto(codec: Codec, unit: Uint8Array, into: Uint8Array): number | null {
  return encoder(codec)(unit, into);
}

/** The packed form of one unit. It may be a little longer than the unit. */
export function pack(codec: Codec, unit: Uint8Array): Uint8Array {
  const into = new Uint8Array(unit.length + (unit.length >> 8) + 256);
  const length = packInto(codec, unit, into);
  if (length === null) throw new Error(`a unit of ${unit.length} bytes grew beyond ${into.length} when packed`);
  return into.slice(0, length);
}

// Packing many small units: one encoder per codec is kept and reset, and writes straight into the buffer that is wanted.
import zlib from 'node:zlib';
import { keepStream } from './kept-stream.ts';
import type { Codec } from './node.ts';

/** Packs `unit` into the start of `into`; the stored length, or null when it does not fit there. */
export type Encode = (unit: Uint8Array, into: Uint8Array) => number | null;

const { Z_FINISH, Z_DEFAULT_COMPRESSION, ZSTD_e_end } = zlib.constants;

/** One codec: the documented call, the stream object, the way back for the trial. */
interface Kind {
  readonly call: (unit: Uint8Array) => Buffer;
  readonly stream: () => unknown;
  readonly back: (stored: Uint8Array) => Buffer;
  readonly finish: number;
}

function kindOf(codec: Codec): Kind {
  const level = codec.level ?? Z_DEFAULT_COMPRESSION;
  switch (codec.id) {
    case 'deflate-raw': {
      const options = { level, memLevel: 9, windowBits: codec.windowBits ?? 15 };
      return {
        call: (unit) => zlib.deflateRawSync(unit, options),
        stream: () => zlib.createDeflateRaw(options),
        back: (stored) => zlib.inflateRawSync(stored),
        finish: Z_FINISH,
      };
    }
    case 'zlib': {
      const options = { level, memLevel: 9 };
      return {
        call: (unit) => zlib.deflateSync(unit, options),
        stream: () => zlib.createDeflate(options),
        back: (stored) => zlib.inflateSync(stored),
        finish: Z_FINISH,
      };
    }
    case 'zstd':
      return {
        call: (unit) => zlib.zstdCompressSync(unit),
        stream: () => zlib.createZstdCompress(),
        back: (stored) => zlib.zstdDecompressSync(stored),
        finish: ZSTD_e_end,
      };
  }
}

function plainEncode(kind: Kind): Encode {
  return (unit, into) => {
    const stored = kind.call(unit);
    if (stored.length > into.length) return null;
    into.set(stored);
    return stored.length;
  };
}

function keptEncode(kind: Kind): Encode | null {
  const stream = keepStream(kind.stream());
  if (stream === null) return null;
  return (unit, into) => {
    const { inputLeft, outputLeft, fault } = stream(kind.finish, unit, into);
    if (fault !== null) throw new Error(`packing failed: ${fault}`);
    // A full buffer does not say whether the stream had come to its end.
    return inputLeft > 0 || outputLeft === 0 ? null : into.length - outputLeft;
  };
}

/** Does the documented way back give the unit again, more than once, and does a small buffer count as not fitting? */
function isTrustworthy(encode: Encode, kind: Kind): boolean {
  const sample = Buffer.alloc(9000, 'platter tries its encoder ');
  const into = Buffer.alloc(9100);
  for (let round = 0; round < 3; round++) {
    const unit = sample.subarray(round * 100);
    const length = encode(unit, into);
    if (length === null || !kind.back(into.subarray(0, length)).equals(unit)) return false;
    if (encode(unit, into.subarray(0, 10)) !== null) return false;
  }
  return true;
}

const chosen = new Map<string, Encode>();

/** The encoder for `codec`. */
export function encoder(codec: Codec): Encode {
  const key = `${codec.id} ${codec.windowBits ?? ''} ${codec.level ?? ''}`;
  let encode = chosen.get(key);
  if (encode === undefined) {
    encode = choose(kindOf(codec));
    chosen.set(key, encode);
  }
  return encode;
}

function choose(kind: Kind): Encode {
  try {
    const kept = keptEncode(kind);
    if (kept !== null && isTrustworthy(kept, kind)) return kept;
  } catch {
    // whatever it was, the documented way serves
  }
  return plainEncode(kind);
}

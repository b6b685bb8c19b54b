// Decoding many small streams: one decoder per kind is kept and reset, where Node's zlib lets us; else one call each.
import zlib from 'node:zlib';
import { keepStream } from './kept-stream.ts';

/** A broken stream; `message` is the decoder's. */
export class DecodeError extends Error {}

/** Fills `into` from the start of `stored`; how many bytes the stream gave (it may go on). Throws `DecodeError`. */
export type Decode = (stored: Uint8Array, into: Uint8Array) => number;

/** One kind of stream: the documented call, the stream object with the handle, and how to make a sample. */
interface Kind {
  readonly call: (stored: Uint8Array, options: zlib.ZlibOptions & zlib.ZstdOptions) => Buffer;
  readonly stream: () => unknown;
  readonly encode: (plain: Buffer) => Buffer;
  /** Tells the decoder to give what it has. */
  readonly flush: number;
  /** The documented call refuses a stream that gives more than fits; the trial does not ask for that. */
  readonly cuts: boolean;
}

const { Z_SYNC_FLUSH, ZSTD_e_flush } = zlib.constants;

const kinds = {
  'deflate-raw': {
    call: zlib.inflateRawSync,
    stream: () => zlib.createInflateRaw(),
    encode: (plain) => zlib.deflateRawSync(plain),
    flush: Z_SYNC_FLUSH,
    cuts: true,
  },
  zlib: {
    call: zlib.inflateSync,
    stream: () => zlib.createInflate(),
    encode: (plain) => zlib.deflateSync(plain),
    flush: Z_SYNC_FLUSH,
    cuts: true,
  },
  zstd: {
    call: zlib.zstdDecompressSync,
    stream: () => zlib.createZstdDecompress(),
    encode: (plain) => zlib.zstdCompressSync(plain),
    flush: ZSTD_e_flush,
    cuts: false,
  },
} as const satisfies Record<string, Kind>;

/** One call of the documented interface per stream. */
function plainDecode(kind: Kind): Decode {
  return (stored, into) => {
    let whole: Buffer;
    try {
      whole = kind.call(stored, {
        maxOutputLength: into.length,
        chunkSize: Math.max(64, into.length),
        finishFlush: kind.flush,
      });
    } catch (error) {
      throw new DecodeError(error instanceof Error ? error.message : String(error));
    }
    into.set(whole);
    return whole.length;
  };
}

function keptDecode(kind: Kind): Decode | null {
  const stream = keepStream(kind.stream());
  if (stream === null) return null;
  return (stored, into) => {
    const { outputLeft, fault } = stream(kind.flush, stored, into);
    if (fault !== null) throw new DecodeError(fault);
    return into.length - outputLeft;
  };
}

/** Does the kept decoder give what was encoded, for good, cut and broken streams, more than once? */
function isTrustworthy(decode: Decode, kind: Kind): boolean {
  const sample = Buffer.alloc(3000, 'platter tries its decoder ');
  const stored = kind.encode(sample);
  const broken = Buffer.from(stored.map((byte, i) => (i > 4 ? byte ^ 0x55 : byte)));
  const into = Buffer.alloc(sample.length);
  for (let round = 0; round < 2; round++) {
    into.fill(0);
    if (decode(stored, into) !== sample.length || !into.equals(sample)) return false;
    if (kind.cuts) {
      const part = into.subarray(0, 1000).fill(0);
      if (decode(stored, part) !== part.length || !part.equals(sample.subarray(0, 1000))) return false;
    }
    try {
      into.fill(0);
      if (decode(broken, into) === sample.length && into.equals(sample)) return false;
    } catch (error) {
      if (!(error instanceof DecodeError)) return false;
    }
  }
  return true;
}

function choose(kind: Kind): Decode {
  try {
    const kept = keptDecode(kind);
    if (kept !== null && isTrustworthy(kept, kind)) return kept;
  } catch {
    // whatever it was, the documented way serves
  }
  return plainDecode(kind);
}

const chosen = new Map<string, Decode>();

/** The decoder for one kind of stream. Streams that give more than fits are cut there, or refused. */
export function decoder(id: keyof typeof kinds): Decode {
  let decode = chosen.get(id);
  if (decode === undefined) {
    decode = choose(kinds[id]);
    chosen.set(id, decode);
  }
  return decode;
}

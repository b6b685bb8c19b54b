// Inflating many small streams: one decoder is kept and reset, where Node's zlib lets us; else one call each.
import zlib from 'node:zlib';

/**
 * What Node's zlib streams keep behind `_handle` and `_writeState`. Neither is documented: it is used only after a trial has shown
 * that it works here (docs/decisions/0005), and saves a quarter of the time of a 64 KiB cluster.
 */
interface RawHandle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
  reset(): void;
  onerror: (message: string) => void;
}

interface RawStream {
  readonly _handle?: RawHandle;
  readonly _writeState?: Uint32Array;
}

/** A broken stream; `message` is zlib's. */
export class InflateError extends Error {}

/** Fills `into` from the start of `stored`; how many bytes the stream gave (it may go on). Throws `InflateError`. */
export type Inflate = (stored: Uint8Array, into: Uint8Array) => number;

const { Z_SYNC_FLUSH } = zlib.constants;

/** One call of the documented interface per stream. */
function plainInflate(raw: boolean): Inflate {
  const call = raw ? zlib.inflateRawSync : zlib.inflateSync;
  return (stored, into) => {
    const options = { maxOutputLength: into.length, chunkSize: Math.max(64, into.length), finishFlush: Z_SYNC_FLUSH };
    let whole: Buffer;
    try {
      whole = call(stored, options);
    } catch (error) {
      throw new InflateError(error instanceof Error ? error.message : String(error));
    }
    into.set(whole);
    return whole.length;
  };
}

function keptInflate(raw: boolean): Inflate | null {
  const stream = (raw ? new zlib.InflateRaw() : new zlib.Inflate()) as unknown as RawStream;
  const { _handle: handle, _writeState: state } = stream;
  if (handle === undefined || state === undefined || typeof handle.writeSync !== 'function') return null;
  let fault: string | null = null;
  handle.onerror = (message) => (fault = message);
  return (stored, into) => {
    handle.reset();
    fault = null;
    handle.writeSync(Z_SYNC_FLUSH, stored, 0, stored.length, into, 0, into.length);
    if (fault !== null) throw new InflateError(fault);
    return into.length - (state[0] ?? 0);
  };
}

/** Does the kept decoder give what the documented one gives, for good and for broken streams, more than once? */
function isTrustworthy(inflate: Inflate, raw: boolean): boolean {
  const sample = Buffer.alloc(3000, 'platter tries its decoder ');
  const stored = raw ? zlib.deflateRawSync(sample) : zlib.deflateSync(sample);
  const broken = Buffer.from(stored.map((byte, i) => (i > 4 ? byte ^ 0x55 : byte)));
  const into = Buffer.alloc(sample.length);
  for (let round = 0; round < 2; round++) {
    into.fill(0);
    if (inflate(stored, into) !== sample.length || !into.equals(sample)) return false;
    const part = into.subarray(0, 1000).fill(0);
    if (inflate(stored, part) !== part.length || !part.equals(sample.subarray(0, 1000))) return false;
    try {
      if (inflate(broken, into) === sample.length && into.equals(sample)) return false;
    } catch (error) {
      if (!(error instanceof InflateError)) return false;
    }
  }
  return true;
}

function choose(raw: boolean): Inflate {
  try {
    const kept = keptInflate(raw);
    if (kept !== null && isTrustworthy(kept, raw)) return kept;
  } catch {
    // whatever it was, the documented way serves
  }
  return plainInflate(raw);
}

let rawInflate: Inflate | null = null;
let zlibInflate: Inflate | null = null;

/** The decoder for raw deflate streams, or for ones in zlib's wrapping. Streams that give more than fits are cut there. */
export function inflater(raw: boolean): Inflate {
  if (raw) return (rawInflate ??= choose(true));
  return (zlibInflate ??= choose(false));
}

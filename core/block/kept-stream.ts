// What Node's zlib streams keep behind them: one object is kept and reset instead of one being built for each of many small units.

/** Not documented: used only after a trial has shown that it works here (docs/decisions/0005). */
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

/** What one step left over. */
export interface Step {
  readonly inputLeft: number;
  readonly outputLeft: number;
  /** The library's message; null: all went well. */
  readonly fault: string | null;
}

/** Runs a whole unit through the stream from its start: all of `input`, into `output`. */
export type KeptStream = (flush: number, input: Uint8Array, output: Uint8Array) => Step;

/** `stream` (of `zlib.create…`) as a function; null where its inside is not what we know. */
export function keepStream(stream: unknown): KeptStream | null {
  const { _handle: handle, _writeState: state } = stream as RawStream;
  if (handle === undefined || state === undefined || typeof handle.writeSync !== 'function') return null;
  let fault: string | null = null;
  handle.onerror = (message) => (fault = message);
  return (flush, input, output) => {
    handle.reset();
    fault = null;
    handle.writeSync(flush, input, 0, input.length, output, 0, output.length);
    return { outputLeft: state[0] ?? 0, inputLeft: state[1] ?? 0, fault };
  };
}

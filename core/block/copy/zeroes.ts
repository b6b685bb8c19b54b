// Finding zeroes: at memory speed, and decided by the first byte most of the time.

const zeroBlock = Buffer.alloc(64 * 1024);

/** True when `length` bytes of `bytes` from `offset` are all zero. */
export function isZero(bytes: Buffer, offset: number, length: number): boolean {
  if (length === 0) return true;
  if (bytes[offset] !== 0 || bytes[offset + length - 1] !== 0) return false;
  let at = offset;
  const end = offset + length;
  while (at < end) {
    const piece = Math.min(zeroBlock.length, end - at);
    if (bytes.compare(zeroBlock, 0, piece, at, at + piece) !== 0) return false;
    at += piece;
  }
  return true;
}

/** A stretch of a buffer. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

/**
 * The stretches of `[from, to)` of `bytes` in which no aligned granule is zero; granules are counted from `origin`, so that a
 * buffer that starts in the middle of one is judged by its part of it. In order, neighbours merged.
 */
export function nonZeroSpans(bytes: Buffer, from: number, to: number, granule: number, origin: number): Span[] {
  const spans: Span[] = [];
  let start = -1;
  let at = from;
  while (at < to) {
    const next = Math.min(to, at + granule - ((((at - origin) % granule) + granule) % granule));
    const zero = isZero(bytes, at, next - at);
    if (zero && start >= 0) {
      spans.push({ offset: start, length: at - start });
      start = -1;
    } else if (!zero && start < 0) {
      start = at;
    }
    at = next;
  }
  if (start >= 0) spans.push({ offset: start, length: to - start });
  return spans;
}

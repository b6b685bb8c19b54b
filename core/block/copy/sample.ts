// A cheap look at a unit before it is compressed: data that does not compress costs the most and gains nothing.

const sampled = 4096;
const counts = new Uint16Array(256);

/**
 * True when bytes spread over `unit` are as evenly distributed as random ones: encrypted, compressed or media data. A unit that
 * holds both kinds is compressed. Judged by the sum of squares of the byte counts: about n + n²/256 for random bytes.
 */
export function looksIncompressible(unit: Uint8Array): boolean {
  if (unit.length < 2 * sampled) return false;
  // Four windows, so that a half-filled unit is not judged by its first half.
  const windows = 4;
  const length = sampled / windows;
  const stride = Math.floor((unit.length - length) / (windows - 1));
  for (let w = 0; w < windows; w++) {
    if (!evenlySpread(unit, w * stride, length)) return false;
  }
  return true;
}

function evenlySpread(unit: Uint8Array, offset: number, length: number): boolean {
  counts.fill(0);
  for (let i = offset; i < offset + length; i++) {
    const byte = unit[i] ?? 0;
    counts[byte] = (counts[byte] ?? 0) + 1;
  }
  let squares = 0;
  for (const count of counts) squares += count * count;
  const expected = length + (length * length) / 256;
  return squares < expected * 1.2;
}

// Bytes that say where they belong: each 512 bytes hold their own guest offset and a layer number, so that a wrong byte tells its origin.

const unit = 512;

/** `length` bytes of the pattern as it stands at guest offset `start` (any offset) in layer `layer` (1…255). */
export function positionCoded(start: number, length: number, layer: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const first = start - (start % unit);
  const sector = new Uint8Array(unit);
  const view = new DataView(sector.buffer);
  for (let at = first; at < start + length; at += unit) {
    // A running byte fills the sector; every eighth word repeats offset and layer.
    sector.fill((layer * 37 + at / unit) & 0xff);
    for (let word = 0; word < unit; word += 64) {
      view.setUint32(word, Math.floor(at / 0x1_0000_0000));
      view.setUint32(word + 4, at >>> 0);
      view.setUint32(word + 8, (0x4c00_0000 | layer) >>> 0);
    }
    const from = Math.max(at, start);
    const to = Math.min(at + unit, start + length);
    bytes.set(sector.subarray(from - at, to - at), from - start);
  }
  return bytes;
}

/** Where 512 bytes come from, in words: for the message of a test that found wrong ones. */
export function originOf(sector: Uint8Array): string {
  if (sector.every((byte) => byte === 0)) return 'zeroes';
  const view = new DataView(sector.buffer, sector.byteOffset, sector.length);
  if (sector.length < 12 || view.getUint32(8) >>> 24 !== 0x4c) return `foreign bytes ${sector[0]}, ${sector[1]}, …`;
  const offset = view.getUint32(0) * 0x1_0000_0000 + view.getUint32(4);
  return `layer ${view.getUint32(8) & 0xff_ffff}, guest offset ${offset}`;
}

/** Null when both are equal; otherwise the first differing sector and where its bytes come from. `start`: guest offset. */
export function difference(found: Uint8Array, expected: Uint8Array, start = 0): string | null {
  if (found.length !== expected.length) return `${found.length} bytes in place of ${expected.length}`;
  if (Buffer.compare(found, expected) === 0) return null;
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  const sector = at - ((start + at) % unit);
  const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(Math.max(0, sector), sector + unit);
  return `at guest offset ${start + at}: found ${originOf(cut(found))}, expected ${originOf(cut(expected))}`;
}

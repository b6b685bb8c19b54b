// Checksums that formats use. CRC-32C (Castagnoli): eight tables, eight bytes a step.

const polynomial = 0x82f63b78;

/** Table k gives what a byte followed by k zero bytes adds to the checksum. */
const tables = makeTables();

function makeTables(): Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ polynomial;
    first[byte] = value >>> 0;
  }
  const all = [first];
  for (let k = 1; k < 8; k++) {
    const before = all[k - 1] as Uint32Array;
    all.push(before.map((value) => ((value >>> 8) ^ (first[value & 0xff] as number)) >>> 0));
  }
  return all;
}

/**
 * CRC-32C of `bytes` (RFC 3720, appendix B.4). `before`: the checksum of what stands in front of them, so that a long text can be
 * summed in pieces.
 */
export function crc32c(bytes: Uint8Array, before = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let crc = ~before;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const low = crc ^ view.getUint32(at, true);
    const high = view.getUint32(at + 4, true);
    crc =
      (t7[low & 0xff] as number) ^
      (t6[(low >>> 8) & 0xff] as number) ^
      (t5[(low >>> 16) & 0xff] as number) ^
      (t4[low >>> 24] as number) ^
      (t3[high & 0xff] as number) ^
      (t2[(high >>> 8) & 0xff] as number) ^
      (t1[(high >>> 16) & 0xff] as number) ^
      (t0[high >>> 24] as number);
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ (t0[(crc ^ (bytes[at] as number)) & 0xff] as number);
  return ~crc >>> 0;
}

/** CRC-32C of `bytes` with the four bytes at `hole` (where the checksum itself stands) taken as zeroes. */
export function crc32cWithHole(bytes: Uint8Array, hole: number): number {
  const before = crc32c(bytes.subarray(0, hole));
  return crc32c(bytes.subarray(hole + 4), crc32c(new Uint8Array(4), before));
}

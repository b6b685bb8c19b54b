// CRC-32C against the vectors of RFC 3720 (B.4), against its definition bit by bit, and in pieces.
import { describe, expect, it } from 'vitest';
import { crc32c, crc32cWithHole } from '../../../../core/bytes/checksum.ts';
import { SeededRandom } from '../../../seeded-random.ts';

/** The definition, one bit at a time. */
function plain(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f6_3b78;
  }
  return ~crc >>> 0;
}

describe('CRC-32C', () => {
  it('has the values of RFC 3720', () => {
    const rising = Uint8Array.from({ length: 32 }, (_, index) => index);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a91_36aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8_ab43);
    expect(crc32c(rising)).toBe(0x46dd_794e);
    expect(crc32c(rising.toReversed())).toBe(0x113f_db5c);
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe306_9283);
  });

  it('is the same for every length, place and cut', () => {
    const bytes = new SeededRandom(7).bytes(300);
    for (let length = 0; length < 100; length++) {
      for (const start of [0, 1, 5, 8]) {
        const piece = bytes.subarray(start, start + length);
        expect(crc32c(piece)).toBe(plain(piece));
      }
      expect(crc32c(bytes.subarray(length), crc32c(bytes.subarray(0, length)))).toBe(plain(bytes));
    }
  });

  it('takes the four bytes of its own place as zeroes', () => {
    const bytes = new SeededRandom(8).bytes(64);
    const blank = bytes.slice();
    blank.fill(0, 4, 8);
    expect(crc32cWithHole(bytes, 4)).toBe(plain(blank));
  });
});

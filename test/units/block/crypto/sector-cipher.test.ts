// Sector ciphers in batches against OpenSSL sector by sector, and against the vectors of the standard.
import crypto from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { initialValues, type IvGenerator } from '../../../../core/block/crypto/initial-values.ts';
import {
  aesSectors,
  byGuestOffset,
  byHostOffset,
  legacyAes,
  type CipherMode,
} from '../../../../core/block/crypto/sector-cipher.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';

/** One sector by OpenSSL's own mode, with the initial value computed from its definition. */
function openssl(mode: CipherMode, key: Uint8Array, iv: Uint8Array | null, plain: Uint8Array): Uint8Array {
  const bits = (mode === 'xts' ? key.length / 2 : key.length) * 8;
  return crypto.createCipheriv(`aes-${bits}-${mode}`, key, iv).setAutoPadding(false).update(plain);
}

function plainValue(sector: number, bits: 32 | 64): Buffer {
  const value = Buffer.alloc(16);
  value.writeBigUInt64LE(bits === 32 ? BigInt(sector) % (1n << 32n) : BigInt(sector));
  return value;
}

function expectedValue(generator: IvGenerator, key: Uint8Array, sector: number): Uint8Array {
  if (generator !== 'essiv') return plainValue(sector, generator === 'plain' ? 32 : 64);
  const hashed = crypto.createHash('sha256').update(key).digest();
  return crypto.createCipheriv('aes-256-ecb', hashed, null).setAutoPadding(false).update(plainValue(sector, 64));
}

const seed = chosenSeed('sector-cipher');
const sectorsFrom = [0, 1, 5, 2 ** 31, 2 ** 32 - 2, 2 ** 32, 2 ** 40 + 3];

describe('sectors', () => {
  for (const mode of ['xts', 'cbc', 'ctr', 'ecb'] as const) {
    for (const length of mode === 'xts' ? [32, 64] : [16, 24, 32]) {
      for (const generator of ['plain', 'plain64', 'essiv'] as const) {
        it(`${mode} with ${length} bytes of key and ${generator} are what OpenSSL makes of each`, () => {
          const random = new SeededRandom(seed);
          const key = random.bytes(length);
          const cipher = aesSectors(
            { mode, generator, generatorHash: generator === 'essiv' ? 'sha256' : null },
            Uint8Array.from(key),
          );
          for (const first of sectorsFrom) {
            const count = random.pick([1, 2, 7, 128, 129, 300]);
            const room = random.bytes(count * 512 + 8);
            // At any place in a buffer, and in memory that threads share.
            const at = random.below(8);
            const bytes = Buffer.from(new SharedArrayBuffer(room.length)).subarray(at, at + count * 512);
            bytes.set(room.subarray(0, bytes.length));
            const plain = Buffer.from(bytes);
            cipher.encrypt(bytes, first);
            for (const sector of [0, 1, 127, 128, count - 1].filter((i) => i < count)) {
              const iv = mode === 'ecb' ? null : expectedValue(generator, key, first + sector);
              const one = plain.subarray(sector * 512, sector * 512 + 512);
              const found = bytes.subarray(sector * 512, sector * 512 + 512);
              expect(Buffer.compare(found, openssl(mode, key, iv, one)), `sector ${first + sector}`).toBe(0);
            }
            cipher.decrypt(bytes, first);
            expect(Buffer.compare(bytes, plain)).toBe(0);
          }
        });
      }
    }
  }

  it('XTS with 192 bits, which OpenSSL lacks, is made of its two keys', () => {
    const key = crypto.randomBytes(48);
    const plain = crypto.randomBytes(512);
    const bytes = Buffer.from(plain);
    aesSectors({ mode: 'xts', generator: 'plain64', generatorHash: null }, key).encrypt(bytes, 77);
    const ecb = (part: Uint8Array, block: Uint8Array): Buffer =>
      crypto.createCipheriv('aes-192-ecb', part, null).setAutoPadding(false).update(block);
    let tweak = BigInt(
      `0x${Buffer.from(ecb(key.subarray(24), plainValue(77, 64)))
        .reverse()
        .toString('hex')}`,
    );
    for (let at = 0; at < 512; at += 16) {
      const mask = Buffer.from(tweak.toString(16).padStart(32, '0'), 'hex').reverse();
      const mixed = Buffer.from(plain.subarray(at, at + 16).map((byte, i) => byte ^ (mask[i] ?? 0)));
      const block = ecb(key.subarray(0, 24), mixed).map((byte, i) => byte ^ (mask[i] ?? 0));
      expect(Buffer.compare(bytes.subarray(at, at + 16), block)).toBe(0);
      tweak <<= 1n;
      if (tweak >> 128n !== 0n) tweak = (tweak & ((1n << 128n) - 1n)) ^ 0x87n;
    }
  });

  it('XTS gives vector 4 of IEEE 1619', () => {
    const hex = (text: string): Buffer => Buffer.from(text, 'hex');
    const key = hex('2718281828459045235360287471352631415926535897932384626433832795');
    const plain = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff));
    aesSectors({ mode: 'xts', generator: 'plain64', generatorHash: null }, key).encrypt(plain, 0);
    expect(plain.subarray(0, 32).toString('hex')).toBe(
      '27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c',
    );
  });

  it('refuses keys and hashes that no AES has', () => {
    const spec = { mode: 'cbc', generator: 'plain64', generatorHash: null } as const;
    expect(() => aesSectors(spec, new Uint8Array(20))).toThrow(expect.objectContaining({ code: 'crypto/key-size' }));
    for (const [hash, code] of [
      ['sha1', 'crypto/essiv-key'],
      ['sha512', 'crypto/essiv-key'],
      [null, 'crypto/essiv-hash'],
    ] as const) {
      expect(() => initialValues('essiv', new Uint8Array(32), hash)).toThrow(expect.objectContaining({ code }));
    }
  });

  it('are numbered by their place on the disk or in the file', () => {
    const inner = aesSectors({ mode: 'xts', generator: 'plain64', generatorHash: null }, crypto.randomBytes(64));
    const plain = crypto.randomBytes(1024);
    const expected = Buffer.from(plain);
    inner.encrypt(expected, 9);
    for (const [cipher, guest, host] of [
      [byGuestOffset(inner), 9 * 512, 77 * 512],
      [byHostOffset(inner), 5 * 512, 9 * 512],
    ] as const) {
      const bytes = Buffer.from(plain);
      cipher.encrypt(bytes, guest, host);
      expect(Buffer.compare(bytes, expected)).toBe(0);
      cipher.decrypt(bytes, guest, host);
      expect(Buffer.compare(bytes, plain)).toBe(0);
    }
  });

  it('of the old method take the first 16 bytes of the passphrase', () => {
    const plain = crypto.randomBytes(512);
    for (const [text, key] of [
      ['short', Buffer.from('short'.padEnd(16, '\0'))],
      ['exactly 16 bytes', Buffer.from('exactly 16 bytes')],
      ['more than sixteen bytes', Buffer.from('more than sixteen bytes').subarray(0, 16)],
    ] as const) {
      const bytes = Buffer.from(plain);
      legacyAes(Buffer.from(text)).encrypt(bytes, 3 * 512, 0);
      expect(Buffer.compare(bytes, openssl('cbc', key, plainValue(3, 64), plain))).toBe(0);
    }
  });
});

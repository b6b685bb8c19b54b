// XTS over many sectors at once: three calls of the block cipher for a whole piece.
import type { BlockCipher } from './block-cipher.ts';
import type { InitialValues } from './initial-values.ts';
import type { PieceCipher } from './sector-cipher.ts';
import { swapToLittle, wordsOf } from './words.ts';

/**
 * XTS (IEEE 1619) with a data unit of `sectorSize` bytes. Every block is encrypted between two additions of its tweak; the tweak of
 * a sector is its encrypted initial value, and each block of the sector multiplies it by the primitive element once more.
 */
export function xts(
  data: BlockCipher,
  tweak: BlockCipher,
  values: InitialValues,
  sectorSize: number,
  pieceSize: number,
): PieceCipher {
  const blocks = sectorSize / 16;
  const tweakBytes = new Uint8Array(pieceSize);
  const mixedBytes = new Uint8Array(pieceSize);
  const tweaks = wordsOf(tweakBytes);
  const mixed = wordsOf(mixedBytes);

  const fillTweaks = (sector: number, count: number): void => {
    const first = wordsOf(tweak.encryptBlocks(values(sector, count)));
    swapToLittle(first);
    let at = 0;
    for (let i = 0; i < count * 4; i += 4) {
      let a = first[i] as number;
      let b = first[i + 1] as number;
      let c = first[i + 2] as number;
      let d = first[i + 3] as number;
      for (let block = 0; block < blocks; block++) {
        tweaks[at] = a;
        tweaks[at + 1] = b;
        tweaks[at + 2] = c;
        tweaks[at + 3] = d;
        at += 4;
        const carry = (d >> 31) & 0x87;
        d = (d << 1) | (c >>> 31);
        c = (c << 1) | (b >>> 31);
        b = (b << 1) | (a >>> 31);
        a = (a << 1) ^ carry;
      }
    }
    swapToLittle(tweaks.subarray(0, at));
  };

  const run = (bytes: Uint8Array, sector: number, work: (blocks: Uint8Array) => Uint8Array): void => {
    fillTweaks(sector, bytes.length / sectorSize);
    const words = wordsOf(bytes);
    const { length } = words;
    for (let i = 0; i < length; i++) mixed[i] = (words[i] as number) ^ (tweaks[i] as number);
    const done = wordsOf(work(mixedBytes.subarray(0, bytes.length)));
    for (let i = 0; i < length; i++) words[i] = (done[i] as number) ^ (tweaks[i] as number);
  };

  return {
    encrypt: (bytes, sector) => run(bytes, sector, (mix) => data.encryptBlocks(mix)),
    decrypt: (bytes, sector) => run(bytes, sector, (mix) => data.decryptBlocks(mix)),
  };
}

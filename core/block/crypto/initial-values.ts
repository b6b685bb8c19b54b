// Initial values of sectors: what makes equal sectors differ. Made for many sectors at once.
import crypto from 'node:crypto';
import { ImageError } from '../../errors/image-error.ts';
import { aes } from './block-cipher.ts';
import { wordsOf, swapToLittle } from './words.ts';

/** dm-crypt's names: the sector number in 32 or 64 bits, or the latter encrypted with the hash of the key. */
export type IvGenerator = 'plain' | 'plain64' | 'essiv';

/** One block of 16 bytes for each of `count` sectors from `sector` on. The result may be overwritten by the next call. */
export type InitialValues = (sector: number, count: number) => Uint8Array;

function sectorNumbers(bits: 32 | 64): InitialValues {
  let blocks = new Uint8Array(0);
  return (sector, count) => {
    if (blocks.length < count * 16) blocks = new Uint8Array(count * 16);
    const used = blocks.subarray(0, count * 16);
    const words = wordsOf(used);
    for (let i = 0; i < count; i++) {
      words[i * 4] = (sector + i) % 0x1_0000_0000;
      words[i * 4 + 1] = bits === 64 ? Math.floor((sector + i) / 0x1_0000_0000) : 0;
    }
    swapToLittle(words);
    return used;
  };
}

/**
 * The generator for a key. `hash` is that of ESSIV; its digest is the key of an AES of that size, whatever the size of the cipher's
 * own key is, as in dm-crypt. Throws `crypto/essiv-key`.
 */
export function initialValues(generator: IvGenerator, key: Uint8Array, hash: string | null): InitialValues {
  if (generator !== 'essiv') return sectorNumbers(generator === 'plain' ? 32 : 64);
  if (hash === null) throw new ImageError('crypto/essiv-hash');
  const digest = crypto.createHash(hash).update(key).digest();
  if (![16, 24, 32].includes(digest.length)) throw new ImageError('crypto/essiv-key', { found: digest.length });
  const numbers = sectorNumbers(64);
  const cipher = aes(digest);
  return (sector, count) => cipher.encryptBlocks(numbers(sector, count));
}

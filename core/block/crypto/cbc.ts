// CBC over many sectors at once: the chains of all sectors advance block by block together.
import type { BlockCipher } from './block-cipher.ts';
import type { InitialValues } from './initial-values.ts';
import type { PieceCipher } from './sector-cipher.ts';
import { wordsOf } from './words.ts';

/** CBC (SP 800-38A) that begins anew with an initial value in every sector of `sectorSize` bytes. */
export function cbc(cipher: BlockCipher, values: InitialValues, sectorSize: number, pieceSize: number): PieceCipher {
  const sectorWords = sectorSize / 4;
  const columnBytes = new Uint8Array((pieceSize / sectorSize) * 16);
  const column = wordsOf(columnBytes);

  return {
    /** A block needs the one before it: so the first blocks of all sectors go together, then the second ones, … */
    encrypt(bytes, sector) {
      const count = bytes.length / sectorSize;
      const words = wordsOf(bytes);
      let before = wordsOf(values(sector, count));
      for (let block = 0; block < sectorWords; block += 4) {
        for (let s = 0, at = block; s < count * 4; s += 4, at += sectorWords) {
          column[s] = (words[at] as number) ^ (before[s] as number);
          column[s + 1] = (words[at + 1] as number) ^ (before[s + 1] as number);
          column[s + 2] = (words[at + 2] as number) ^ (before[s + 2] as number);
          column[s + 3] = (words[at + 3] as number) ^ (before[s + 3] as number);
        }
        before = wordsOf(cipher.encryptBlocks(columnBytes.subarray(0, count * 16)));
        for (let s = 0, at = block; s < count * 4; s += 4, at += sectorWords) {
          words[at] = before[s] as number;
          words[at + 1] = before[s + 1] as number;
          words[at + 2] = before[s + 2] as number;
          words[at + 3] = before[s + 3] as number;
        }
      }
    },

    decrypt(bytes, sector) {
      const count = bytes.length / sectorSize;
      const words = wordsOf(bytes);
      const first = wordsOf(values(sector, count));
      const opened = wordsOf(cipher.decryptBlocks(bytes));
      // From the end: the block before is still as it was stored.
      for (let s = count - 1; s >= 0; s--) {
        const start = s * sectorWords;
        for (let i = start + sectorWords - 1; i >= start + 4; i--) {
          words[i] = (opened[i] as number) ^ (words[i - 4] as number);
        }
        for (let i = 0; i < 4; i++) words[start + i] = (opened[start + i] as number) ^ (first[s * 4 + i] as number);
      }
    },
  };
}

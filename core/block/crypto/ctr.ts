// CTR over many sectors at once: the counters of all blocks are encrypted together.
import type { BlockCipher } from './block-cipher.ts';
import type { InitialValues } from './initial-values.ts';
import type { PieceCipher } from './sector-cipher.ts';
import { wordsOf } from './words.ts';

/** CTR (SP 800-38A) whose counter begins in every sector with the initial value, a big-endian number of 128 bits. */
export function ctr(cipher: BlockCipher, values: InitialValues, sectorSize: number, pieceSize: number): PieceCipher {
  const counterBytes = new Uint8Array(pieceSize);
  const view = new DataView(counterBytes.buffer);

  const run = (bytes: Uint8Array, sector: number): void => {
    const count = bytes.length / sectorSize;
    const first = values(sector, count);
    for (let s = 0, at = 0; s < count; s++) {
      for (let block = 0; block < sectorSize / 16; block++, at += 16) {
        counterBytes.set(first.subarray(s * 16, s * 16 + 16), at);
        let carry = block;
        for (let word = 12; word >= 0 && carry > 0; word -= 4) {
          const sum = view.getUint32(at + word) + carry;
          view.setUint32(at + word, sum % 0x1_0000_0000);
          carry = sum >= 0x1_0000_0000 ? 1 : 0;
        }
      }
    }
    const stream = wordsOf(cipher.encryptBlocks(counterBytes.subarray(0, bytes.length)));
    const words = wordsOf(bytes);
    for (let i = 0; i < words.length; i++) words[i] = (words[i] as number) ^ (stream[i] as number);
  };

  return { encrypt: run, decrypt: run };
}

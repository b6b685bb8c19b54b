// A block cipher over many independent 16-byte blocks at once: what every mode here is made of.
import crypto from 'node:crypto';
import { ImageError } from '../../errors/image-error.ts';

/** Bytes of a block. */
export const blockSize = 16;

/** Both directions on whole blocks, each by itself (ECB). The results are new buffers. */
export interface BlockCipher {
  encryptBlocks(blocks: Uint8Array): Uint8Array;
  decryptBlocks(blocks: Uint8Array): Uint8Array;
}

/**
 * AES (FIPS 197) with a key of 16, 24 or 32 bytes. A cipher without chaining keeps nothing between two calls, so that one object of
 * node:crypto serves for ever: a call of its own per sector is what makes sector ciphers slow.
 */
export function aes(key: Uint8Array): BlockCipher {
  const name = `aes-${key.length * 8}-ecb`;
  if (![16, 24, 32].includes(key.length)) {
    throw new ImageError('crypto/key-size', { cipher: 'aes', found: key.length });
  }
  let encrypting: crypto.Cipheriv | null = null;
  let decrypting: crypto.Decipheriv | null = null;
  return {
    encryptBlocks(blocks) {
      encrypting ??= crypto.createCipheriv(name, key, null).setAutoPadding(false);
      return encrypting.update(blocks);
    },
    decryptBlocks(blocks) {
      decrypting ??= crypto.createDecipheriv(name, key, null).setAutoPadding(false);
      return decrypting.update(blocks);
    },
  };
}

// Encryption of whole sectors at rest: cipher, mode and initial values put together, in pieces that fit the processor's cache.
import type { Cipher } from '../node.ts';
import { aes } from './block-cipher.ts';
import { cbc } from './cbc.ts';
import { ctr } from './ctr.ts';
import { initialValues, type IvGenerator } from './initial-values.ts';
import { isAligned } from './words.ts';
import { xts } from './xts.ts';

/** How sectors are encrypted. */
export interface SectorCipherSpec {
  readonly mode: CipherMode;
  readonly generator: IvGenerator;
  /** The hash of ESSIV; null with the other generators. */
  readonly generatorHash: string | null;
}

export type CipherMode = 'ecb' | 'cbc' | 'xts' | 'ctr';

/** Encrypts and decrypts whole sectors in place; `sector` is the number of the first one. */
export interface SectorCipher {
  encrypt(bytes: Uint8Array, sector: number): void;
  decrypt(bytes: Uint8Array, sector: number): void;
}

/** The same for at most `pieceSize` bytes whose words can be seen in place. */
export type PieceCipher = SectorCipher;

/** Bytes of a sector: in LUKS version 1 and in qcow always these. */
export const cipherSector = 512;

const pieceSize = 64 * 1024;

/**
 * AES with this key in this way. XTS takes two keys one behind the other. Throws `crypto/key-size`, `crypto/essiv-key`.
 */
export function aesSectors(spec: SectorCipherSpec, key: Uint8Array): SectorCipher {
  return inPieces(pieceCipher(spec, key));
}

function pieceCipher(spec: SectorCipherSpec, key: Uint8Array): PieceCipher {
  const { mode } = spec;
  if (mode === 'ecb') {
    const cipher = aes(key);
    return {
      encrypt: (bytes) => bytes.set(cipher.encryptBlocks(bytes)),
      decrypt: (bytes) => bytes.set(cipher.decryptBlocks(bytes)),
    };
  }
  const values = initialValues(spec.generator, key, spec.generatorHash);
  switch (mode) {
    case 'cbc':
      return cbc(aes(key), values, cipherSector, pieceSize);
    case 'ctr':
      return ctr(aes(key), values, cipherSector, pieceSize);
    case 'xts': {
      const half = key.length / 2;
      return xts(aes(key.subarray(0, half)), aes(key.subarray(half)), values, cipherSector, pieceSize);
    }
  }
}

function inPieces(cipher: PieceCipher): SectorCipher {
  const aligned = new Uint8Array(pieceSize);
  const run = (bytes: Uint8Array, sector: number, work: PieceCipher['encrypt']): void => {
    if (bytes.length % cipherSector !== 0) throw new Error(`${bytes.length} bytes are not whole sectors`);
    for (let at = 0; at < bytes.length; at += pieceSize) {
      const piece = bytes.subarray(at, at + pieceSize);
      if (isAligned(piece)) {
        work(piece, sector + at / cipherSector);
        continue;
      }
      const copy = aligned.subarray(0, piece.length);
      copy.set(piece);
      work(copy, sector + at / cipherSector);
      piece.set(copy);
    }
  };
  return {
    encrypt: (bytes, sector) => run(bytes, sector, (piece, first) => cipher.encrypt(piece, first)),
    decrypt: (bytes, sector) => run(bytes, sector, (piece, first) => cipher.decrypt(piece, first)),
  };
}

/** The cipher of an image whose sectors are numbered by their place on the guest's disk. */
export function byGuestOffset(cipher: SectorCipher): Cipher {
  return {
    sectorSize: cipherSector,
    encrypt: (bytes, guest) => cipher.encrypt(bytes, guest / cipherSector),
    decrypt: (bytes, guest) => cipher.decrypt(bytes, guest / cipherSector),
  };
}

/** The cipher of an image whose sectors are numbered by their place in the file. */
export function byHostOffset(cipher: SectorCipher): Cipher {
  return {
    sectorSize: cipherSector,
    encrypt: (bytes, _guest, host) => cipher.encrypt(bytes, host / cipherSector),
    decrypt: (bytes, _guest, host) => cipher.decrypt(bytes, host / cipherSector),
  };
}

/**
 * The encryption of qcow and of qcow2's old method: AES-128 in CBC mode, the key being the first 16 bytes of the passphrase. No
 * passphrase is ever wrong; with another one the disk reads as noise.
 */
export function legacyAes(passphrase: Uint8Array): Cipher {
  const key = new Uint8Array(16);
  key.set(passphrase.subarray(0, 16));
  return byGuestOffset(aesSectors({ mode: 'cbc', generator: 'plain64', generatorHash: null }, key));
}

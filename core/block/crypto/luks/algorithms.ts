// The names of ciphers, modes and hashes: in the header, in options, in node:crypto.
import crypto from 'node:crypto';
import { ImageError } from '../../../errors/image-error.ts';
import type { IvGenerator } from '../initial-values.ts';
import { aesSectors, type CipherMode, type SectorCipher, type SectorCipherSpec } from '../sector-cipher.ts';

/** What the names in a header, or in options, come to. */
export interface LuksAlgorithms {
  /** Name of the cipher in the header: `aes`, `serpent`, `twofish`, `cast5`. */
  readonly cipher: string;
  /** Bytes of the cipher's key; of the master key half in XTS mode. */
  readonly keyLength: number;
  readonly mode: CipherMode;
  readonly generator: IvGenerator;
  /** The hash after the colon of the mode; null: none. Only ESSIV uses it. */
  readonly generatorHash: string | null;
  readonly hash: string;
}

/** Key lengths in bytes by the cipher's name, as LUKS knows them. */
const ciphers: Readonly<Record<string, readonly number[]>> = {
  aes: [16, 24, 32],
  cast5: [16],
  serpent: [16, 24, 32],
  twofish: [16, 24, 32],
};

/** Ciphers that qemu knows by name, but no LUKS header. */
const otherCiphers = ['des', '3des', 'sm4'];
const modes = ['ecb', 'cbc', 'xts', 'ctr'] as const satisfies readonly CipherMode[];
const generators = ['plain', 'plain64', 'essiv'] as const satisfies readonly IvGenerator[];
/** Hashes by name with the bytes of their digests. */
const hashes: Readonly<Record<string, number>> = {
  md5: 16,
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
};

function pick<T extends string>(name: string, known: readonly T[]): T | null {
  return known.find((one) => one === name) ?? null;
}

/** Bytes of the master key. */
export function masterKeyLength(algorithms: LuksAlgorithms): number {
  return algorithms.mode === 'xts' ? 2 * algorithms.keyLength : algorithms.keyLength;
}

/** The text of the header's cipher_mode. */
export function modeText({ mode, generator, generatorHash }: LuksAlgorithms): string {
  return `${mode}-${generator}${generatorHash === null ? '' : `:${generatorHash}`}`;
}

/** `aes-256`: how options and info name the cipher. */
export function cipherText({ cipher, keyLength }: LuksAlgorithms): string {
  return `${cipher}-${keyLength * 8}`;
}

/** What a header says. Throws `luks/mode-format`, `luks/mode`, `luks/generator`, `luks/hash`, `luks/cipher`, `crypto/essiv-*`. */
export function readAlgorithms(names: {
  readonly cipher: string;
  readonly mode: string;
  readonly hash: string;
  readonly keyBytes: number;
}): LuksAlgorithms {
  const dash = names.mode.indexOf('-');
  if (dash < 0) throw new ImageError('luks/mode-format', { found: names.mode }, { field: 'cipher_mode' });
  const modeName = names.mode.slice(0, dash);
  const rest = names.mode.slice(dash + 1);
  const colon = rest.indexOf(':');
  const generatorName = colon < 0 ? rest : rest.slice(0, colon);
  const generatorHash = colon < 0 ? null : knownHash(rest.slice(colon + 1), 'cipher_mode');
  const mode = pick(modeName, modes);
  if (mode === null) throw new ImageError('luks/mode', { found: modeName }, { field: 'cipher_mode' });
  const keyLength = mode === 'xts' ? Math.floor(names.keyBytes / 2) : names.keyBytes;
  if (ciphers[names.cipher]?.includes(keyLength) !== true || (mode === 'xts' && names.keyBytes % 2 !== 0)) {
    throw new ImageError('luks/cipher', { cipher: names.cipher, found: keyLength }, { field: 'cipher_name' });
  }
  const hash = knownHash(names.hash, 'hash_spec');
  const generator = pick(generatorName, generators);
  if (generator === null) throw new ImageError('luks/generator', { found: generatorName }, { field: 'cipher_mode' });
  const algorithms = { cipher: names.cipher, keyLength, mode, generator, generatorHash, hash };
  checkEssiv(algorithms);
  return algorithms;
}

function knownHash(name: string, field: string): string {
  if (hashes[name] === undefined) throw new ImageError('luks/hash', { found: name }, { field });
  return name;
}

function checkEssiv({ generator, generatorHash, keyLength }: LuksAlgorithms): void {
  if (generator !== 'essiv') return;
  if (generatorHash === null) throw new ImageError('crypto/essiv-hash');
  const digest = hashes[generatorHash] ?? 0;
  if (digest !== keyLength && ![16, 24, 32].includes(digest))
    throw new ImageError('crypto/essiv-key', { found: digest });
}

/** The names that creation options may give; null: not given. */
export interface AlgorithmChoice {
  readonly cipher: string | null;
  readonly mode: string | null;
  readonly generator: string | null;
  readonly generatorHash: string | null;
  readonly hash: string | null;
}

/** The names among creation options; `prefix` is what stands before them (`encrypt.` in qcow2). */
export function namedAlgorithms(
  options: Readonly<Record<string, string | number | boolean>>,
  prefix = '',
): AlgorithmChoice {
  const text = (name: string): string | null => {
    const value = options[prefix + name];
    return value === undefined ? null : String(value);
  };
  return {
    cipher: text('cipher-alg'),
    mode: text('cipher-mode'),
    generator: text('ivgen-alg'),
    generatorHash: text('ivgen-hash-alg'),
    hash: text('hash-alg'),
  };
}

/**
 * The algorithms of a new header, with QEMU's defaults. Throws `luks/choice` for a value that is none, `luks/cipher-unknown` for a
 * cipher that LUKS has no name for, `luks/cipher-missing` for one that cannot be done here, `luks/mode-cipher`, `crypto/essiv-*`.
 */
export function chooseAlgorithms(choice: AlgorithmChoice): LuksAlgorithms {
  const cipherName = choice.cipher ?? 'aes-256';
  const [, cipher = '', bits = ''] = /^([a-z0-9]+)-([0-9]+)$/.exec(cipherName) ?? [];
  const known = ciphers[cipher]?.includes(Number(bits) / 8) === true;
  if (!known && !otherCiphers.includes(cipherName)) refuse('cipher-alg', cipherName);
  const mode = pick(choice.mode ?? 'xts', modes) ?? refuse('cipher-mode', choice.mode);
  const generator = pick(choice.generator ?? 'plain64', generators) ?? refuse('ivgen-alg', choice.generator);
  const hash = choice.hash ?? 'sha256';
  if (hashes[hash] === undefined) refuse('hash-alg', hash);
  const given = choice.generatorHash;
  if (given !== null && hashes[given] === undefined) refuse('ivgen-hash-alg', given);
  if (!known) throw new ImageError('luks/cipher-unknown', { found: cipherName });
  const generatorHash = given ?? (generator === 'essiv' ? 'sha256' : null);
  const algorithms = { cipher, keyLength: Number(bits) / 8, mode, generator, generatorHash, hash };
  checkEssiv(algorithms);
  if (mode === 'xts' && cipher === 'cast5') throw new ImageError('luks/mode-cipher', { found: mode });
  requireHere(algorithms);
  return algorithms;
}

function refuse(parameter: string, found: string | null): never {
  throw new ImageError('luks/choice', { parameter, found: found ?? '' });
}

/** Throws `luks/cipher-missing`, `luks/hash-missing` for what node:crypto does not do. */
export function requireHere({ cipher, hash, generator, generatorHash }: LuksAlgorithms): void {
  if (cipher !== 'aes') throw new ImageError('luks/cipher-missing', { cipher });
  const available = crypto.getHashes();
  for (const name of [hash, ...(generator === 'essiv' && generatorHash !== null ? [generatorHash] : [])]) {
    if (!available.includes(name)) throw new ImageError('luks/hash-missing', { hash: name });
  }
}

/** The cipher of a disk, or of the key material of a slot. The caller has asked `requireHere`. */
export function sectorsUnder(algorithms: LuksAlgorithms, key: Uint8Array): SectorCipher {
  const { mode, generator, generatorHash } = algorithms;
  const spec: SectorCipherSpec = { mode, generator, generatorHash };
  return aesSectors(spec, key);
}

// Keys from passphrases: PBKDF2, and how many rounds of it this machine does in a time.
import crypto from 'node:crypto';

/** PBKDF2 (RFC 8018, section 5.2) with HMAC of `hash`. */
export function deriveKey(
  hash: string,
  passphrase: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number,
): Uint8Array {
  return crypto.pbkdf2Sync(passphrase, salt, iterations, length, hash);
}

/** A measurement shorter than this (milliseconds) says little. */
const shortest = 100;
const startIterations = 1 << 15;
const mostIterations = 2 ** 28;

/**
 * How many rounds for a key of `length` bytes take a second of this thread's processor time. Measures one block of output until the
 * time is long enough to mean something; each further block costs the same again.
 */
export function iterationsPerSecond(hash: string, length: number): number {
  const block = crypto.createHash(hash).digest().length;
  const passphrase = new Uint8Array(16);
  const salt = new Uint8Array(32);
  for (let iterations = startIterations; ; iterations *= 2) {
    const start = process.threadCpuUsage();
    crypto.pbkdf2Sync(passphrase, salt, iterations, block, hash);
    const { user, system } = process.threadCpuUsage(start);
    const milliseconds = (user + system) / 1000;
    if (milliseconds >= shortest || iterations >= mostIterations) {
      return Math.floor((iterations * 1000) / Math.max(1, milliseconds) / Math.ceil(length / block));
    }
  }
}

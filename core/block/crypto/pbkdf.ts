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

/** Rounds per second for one block of output, by hash: this machine stays the one it is. */
const measured = new Map<string, number>();

/** How many rounds for a key of `length` bytes take a second of this thread's processor time. */
export function iterationsPerSecond(hash: string, length: number): number {
  const block = crypto.createHash(hash).digest().length;
  const speed = measured.get(hash) ?? measure(hash, block);
  measured.set(hash, speed);
  return Math.floor(speed / Math.ceil(length / block));
}

/** Rounds per second for `length` bytes. Goes on until the time is long enough to mean something. */
function measure(hash: string, length: number): number {
  const passphrase = new Uint8Array(16);
  const salt = new Uint8Array(32);
  for (let iterations = startIterations; ; iterations *= 2) {
    const start = process.threadCpuUsage();
    crypto.pbkdf2Sync(passphrase, salt, iterations, length, hash);
    const { user, system } = process.threadCpuUsage(start);
    const milliseconds = (user + system) / 1000;
    if (milliseconds >= shortest || iterations >= mostIterations)
      return (iterations * 1000) / Math.max(1, milliseconds);
  }
}

// The anti-forensic splitter of LUKS: a key spread so that losing a few bytes of it loses all of it.
import crypto from 'node:crypto';

/** Hashes `block` in steps of the digest's length, each with its number in front (LUKS on-disk format 1.2.3, section 2.4). */
function diffuse(block: Uint8Array, hash: string): void {
  const step = crypto.createHash(hash).digest().length;
  const number = new Uint8Array(4);
  const view = new DataView(number.buffer);
  for (let at = 0, index = 0; at < block.length; at += step, index++) {
    view.setUint32(0, index);
    const part = block.subarray(at, at + step);
    part.set(crypto.createHash(hash).update(number).update(part).digest().subarray(0, part.length));
  }
}

function addTo(block: Uint8Array, stripe: Uint8Array): void {
  for (let i = 0; i < block.length; i++) block[i] = (block[i] as number) ^ (stripe[i] as number);
}

/** `stripes` times as many bytes as `key`, random but for the last stripe, that give it back through `mergeKey`. */
export function splitKey(key: Uint8Array, stripes: number, hash: string): Uint8Array {
  const split = new Uint8Array(key.length * stripes);
  const last = split.length - key.length;
  crypto.randomFillSync(split, 0, last);
  const block = new Uint8Array(key.length);
  for (let at = 0; at < last; at += key.length) {
    addTo(block, split.subarray(at, at + key.length));
    diffuse(block, hash);
  }
  addTo(block, key);
  split.set(block, last);
  return split;
}

/** The key of `keyLength` bytes that was spread into `split`. */
export function mergeKey(split: Uint8Array, keyLength: number, hash: string): Uint8Array {
  const last = split.length - keyLength;
  const block = new Uint8Array(keyLength);
  for (let at = 0; at < last; at += keyLength) {
    addTo(block, split.subarray(at, at + keyLength));
    diffuse(block, hash);
  }
  addTo(block, split.subarray(last));
  return block;
}

// Key slots of LUKS: a passphrase opens one, a new one is closed with a passphrase, an old one is destroyed.
import crypto from 'node:crypto';
import { ImageError, type Where } from '../../../errors/image-error.ts';
import { mergeKey, splitKey } from '../anti-forensic.ts';
import { deriveKey, iterationsPerSecond } from '../pbkdf.ts';
import { masterKeyLength, requireHere, sectorsUnder } from './algorithms.ts';
import { headerBytes, materialRange, type HeaderPlace, type LuksHeader } from './header.ts';
import { digestLength, keySlot, leastIterations, partitionHeader, saltLength, slotState, stripes } from './spec.ts';

/**
 * Rounds of PBKDF2 at most, in what is read and in what is written: with more, a header could keep this program busy for hours. On a
 * fast machine this is half a minute of work.
 */
export const mostIterations = 2 ** 28;

/** Enabled slots. */
export function activeSlots(header: LuksHeader): number[] {
  return header.slots.flatMap((slot, i) => (slot.active === slotState.enabled ? [i] : []));
}

function slotPlace(place: HeaderPlace, slot: number): Where {
  return { file: place.storage.name, offset: place.base + partitionHeader.size + slot * keySlot.size };
}

function checkIterations(found: number, where: Where): void {
  if (found > mostIterations) throw new ImageError('crypto/iterations', { found, allowed: mostIterations }, where);
}

/**
 * The master key, if `passphrase` opens slot `slot` (specification: section 3.2); null when it does not, or the slot is disabled.
 * Throws `crypto/iterations`, `luks/cipher-missing`, `luks/hash-missing`, `storage/*`.
 */
export function openSlot(
  place: HeaderPlace,
  header: LuksHeader,
  slot: number,
  passphrase: Uint8Array,
): Uint8Array | null {
  const { algorithms, fields } = header;
  const entry = header.slots[slot];
  if (entry === undefined || entry.active !== slotState.enabled) return null;
  requireHere(algorithms);
  checkIterations(entry.iterations, { ...slotPlace(place, slot), field: 'iterations' });
  checkIterations(fields.mk_digest_iter, { file: place.storage.name, offset: place.base, field: 'mk_digest_iter' });
  const length = masterKeyLength(algorithms);
  const range = materialRange(header, slot);
  const split = new Uint8Array(range.length);
  place.storage.readAt(split, place.base + range.start);
  const slotKey = deriveKey(algorithms.hash, passphrase, entry.salt, entry.iterations, length);
  sectorsUnder(algorithms, slotKey).decrypt(split, 0);
  const key = mergeKey(split.subarray(0, length * stripes), length, algorithms.hash);
  slotKey.fill(0);
  split.fill(0);
  if (isMasterKey(header, key)) return key;
  key.fill(0);
  return null;
}

function isMasterKey({ fields, algorithms }: LuksHeader, key: Uint8Array): boolean {
  const digest = deriveKey(algorithms.hash, key, fields.mk_digest_salt, fields.mk_digest_iter, digestLength);
  return crypto.timingSafeEqual(digest, fields.mk_digest);
}

/** The master key, from the first slot that `passphrase` opens. Throws `crypto/password`, and what `openSlot` throws. */
export function openAnySlot(place: HeaderPlace, header: LuksHeader, passphrase: Uint8Array): Uint8Array {
  requireHere(header.algorithms);
  for (const slot of activeSlots(header)) {
    const key = openSlot(place, header, slot, passphrase);
    if (key !== null) return key;
  }
  throw new ImageError('crypto/password', {}, { file: place.storage.name, offset: place.base });
}

/** Rounds for a key of `length` bytes that take `milliseconds` here. Throws `crypto/iterations`. */
export function iterationsFor(hash: string, length: number, milliseconds: number, where: Where): number {
  const found = Math.floor((iterationsPerSecond(hash, length) * milliseconds) / 1000);
  checkIterations(found, where);
  return Math.max(leastIterations, found);
}

/**
 * Closes slot `slot` with `passphrase`: `milliseconds` of work per attempt to guess it. The key material is on the disk before the
 * header says that it is there. Throws `crypto/iterations`, `storage/*`.
 */
export function fillSlot(
  place: HeaderPlace,
  header: LuksHeader,
  slot: number,
  masterKey: Uint8Array,
  passphrase: Uint8Array,
  milliseconds: number,
): void {
  const { algorithms } = header;
  const entry = header.slots[slot];
  if (entry === undefined) throw new Error(`there is no slot ${slot}`);
  const salt = crypto.randomBytes(saltLength);
  const iterations = iterationsFor(algorithms.hash, masterKey.length, milliseconds, slotPlace(place, slot));
  const slotKey = deriveKey(algorithms.hash, passphrase, salt, iterations, masterKey.length);
  const range = materialRange(header, slot);
  const split = new Uint8Array(range.length);
  split.set(splitKey(masterKey, stripes, algorithms.hash));
  sectorsUnder(algorithms, slotKey).encrypt(split, 0);
  slotKey.fill(0);
  place.storage.writeAt(split, place.base + range.start);
  place.storage.flush();
  header.slots[slot] = { ...entry, active: slotState.enabled, iterations, salt, stripes };
  writeHeader(place, header);
}

/** How often the key material of a slot is overwritten: disks do not always write where they wrote before. */
const erasures = 8;

/**
 * Destroys what slot `slot` holds and disables it. The material goes first: whatever a power cut leaves opens nothing that it should
 * not. Throws `storage/*`.
 */
export function eraseSlot(place: HeaderPlace, header: LuksHeader, slot: number): void {
  const entry = header.slots[slot];
  if (entry === undefined) throw new Error(`there is no slot ${slot}`);
  const { start, length } = materialRange(header, slot);
  for (let i = 0; i < erasures; i++) {
    place.storage.writeAt(crypto.randomBytes(length), place.base + start);
    place.storage.flush();
  }
  header.slots[slot] = { ...entry, active: slotState.disabled, iterations: 0, salt: new Uint8Array(saltLength) };
  writeHeader(place, header);
}

/** Writes the header with its slots and waits for the disk. */
export function writeHeader(place: HeaderPlace, header: LuksHeader): void {
  place.storage.writeAt(headerBytes(header), place.base);
  place.storage.flush();
}

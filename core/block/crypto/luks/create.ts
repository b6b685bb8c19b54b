// A new LUKS header: a random master key in the first slot, the other seven free.
import crypto from 'node:crypto';
import { chooseAlgorithms, masterKeyLength, modeText, type AlgorithmChoice } from './algorithms.ts';
import { deriveKey } from '../pbkdf.ts';
import { payloadOffset, placesFor, type HeaderPlace, type LuksHeader } from './header.ts';
import { fillSlot, iterationsFor } from './key-slots.ts';
import { digestLength, magic, saltLength, sectorSize, slotState, stripes } from './spec.ts';

/** Milliseconds of PBKDF2 for the passphrase when nothing is said. */
export const usualIterTime = 2000;

/** Bytes from the start of the header to the disk that a header with these algorithms will have. Throws what `chooseAlgorithms` throws. */
export function newPayloadOffset(choice: AlgorithmChoice): number {
  return placesFor(masterKeyLength(chooseAlgorithms(choice))).payload * sectorSize;
}

/** A new header, and its key. */
export interface NewLuks {
  readonly header: LuksHeader;
  readonly masterKey: Uint8Array;
}

/**
 * Writes a header that `passphrase` opens to `place`, whose storage is large enough, or may grow. `iterTime`: milliseconds of work per
 * attempt to guess the passphrase, an eighth of that for the master key. Throws what `chooseAlgorithms` throws, `crypto/iterations`,
 * `storage/*`.
 */
export function createLuks(
  place: HeaderPlace,
  choice: AlgorithmChoice,
  passphrase: Uint8Array,
  iterTime: number | null,
): NewLuks {
  const algorithms = chooseAlgorithms(choice);
  const milliseconds = iterTime ?? usualIterTime;
  const where = { file: place.storage.name };
  const masterKey = crypto.randomBytes(masterKeyLength(algorithms));
  const salt = crypto.randomBytes(saltLength);
  const iterations = iterationsFor(algorithms.hash, digestLength, milliseconds / 8, where);
  const places = placesFor(masterKey.length);
  const header: LuksHeader = {
    fields: {
      magic,
      version: 1,
      cipher_name: algorithms.cipher,
      cipher_mode: modeText(algorithms),
      hash_spec: algorithms.hash,
      payload_offset: places.payload,
      key_bytes: masterKey.length,
      mk_digest: deriveKey(algorithms.hash, masterKey, salt, iterations, digestLength),
      mk_digest_salt: salt,
      mk_digest_iter: iterations,
      uuid: crypto.randomUUID(),
    },
    slots: places.slots.map((key_material_offset) => ({
      active: slotState.disabled,
      iterations: 0,
      salt: new Uint8Array(saltLength),
      key_material_offset,
      stripes,
    })),
    algorithms,
  };
  const end = place.base + payloadOffset(header);
  if (place.storage.size < end) place.storage.truncate(end);
  fillSlot(place, header, 0, masterKey, passphrase, milliseconds);
  return { header, masterKey };
}

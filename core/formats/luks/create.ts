// Writes an empty LUKS image: the header, and the room of the disk behind it. What was never written reads as noise.
import { namedAlgorithms } from '../../block/crypto/luks/algorithms.ts';
import { createLuks, newPayloadOffset } from '../../block/crypto/luks/create.ts';
import { askSecret } from '../../block/crypto/secret.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, MeasureRequest, Measurement } from '../driver.ts';

/**
 * Options: those of the rows, and the file's preallocation. Throws `crypto/*`, `luks/choice`, `luks/cipher-*`, `luks/hash-missing`,
 * `create/value`, `storage/*`.
 */
export function createLuksImage(request: CreateRequest): void {
  const { storage, options, size, name } = request;
  const choice = namedAlgorithms(options);
  const payload = newPayloadOffset(choice);
  const time = options['iter-time'];
  const milliseconds = typeof time === 'number' ? time : null;
  const how = options.preallocation ?? 'off';
  if (how !== 'off' && how !== 'metadata' && how !== 'falloc' && how !== 'full') {
    throw new ImageError('create/value', { name: 'preallocation', found: String(how) });
  }
  const passphrase = askSecret(request.secret, {
    file: name,
    parameter: 'key-secret',
    id: secretName(options['key-secret']),
    isNew: true,
  });
  if (how === 'falloc' || how === 'full') storage.provide(0, payload + size, how);
  else storage.truncate(payload + size);
  createLuks({ storage, base: 0 }, choice, passphrase, milliseconds).masterKey.fill(0);
}

function secretName(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** Exact. Asks for the secret as QEMU does, though no key is made. Throws what `createLuksImage` throws of its options. */
export function measureLuks(request: MeasureRequest): Measurement {
  const bytes = newPayloadOffset(namedAlgorithms(request.options)) + request.size;
  const id = secretName(request.options['key-secret']);
  askSecret(request.secret, { file: '', parameter: 'key-secret', id, isNew: true });
  return { required: bytes, fullyAllocated: bytes };
}

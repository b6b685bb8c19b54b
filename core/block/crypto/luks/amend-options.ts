// The options with which key slots are amended (state, keyslot, old-secret, new-secret, iter-time), read under QEMU's rules.
import { ImageError } from '../../../errors/image-error.ts';
import { askSecret, type SecretSource } from '../secret.ts';
import { amendKeys } from './amend.ts';
import type { HeaderPlace, LuksHeader } from './header.ts';

/** What was asked, as options; their names begin with `prefix`. */
export interface KeyOptions {
  readonly options: Readonly<Record<string, string | number | boolean>>;
  readonly prefix: '' | 'encrypt.';
  /** The setting that names the secret which opens the image, and the secret it named; null: none. */
  readonly openedBy: string;
  readonly openedWith: string | null;
  readonly force: boolean;
  readonly secret?: SecretSource | undefined;
}

/**
 * Does what the options say. Throws `amend/key-state-missing`, `amend/key-state`, `amend/key-iter-time`, `crypto/*`, and what `amendKeys`
 * throws.
 */
export function amendKeysAsAsked(place: HeaderPlace, header: LuksHeader, asked: KeyOptions): void {
  const { options, prefix, secret } = asked;
  const where = { file: place.storage.name, offset: place.base };
  const state = options[`${prefix}state`];
  if (state === undefined) throw new ImageError('amend/key-state-missing', {}, where);
  if (state !== 'active' && state !== 'inactive')
    throw new ImageError('amend/key-state', { found: String(state) }, where);
  const iterTime = options[`${prefix}iter-time`];
  const newSecret = options[`${prefix}new-secret`];
  if (state === 'inactive' && newSecret === undefined && iterTime !== undefined) {
    throw new ImageError('amend/key-iter-time', {}, where);
  }
  const passphrase = (name: string): Uint8Array | null => {
    const id = options[prefix + name];
    if (id === undefined) return null;
    return askSecret(secret, {
      file: where.file,
      parameter: prefix + name,
      id: String(id),
      isNew: name === 'new-secret',
    });
  };
  const slot = options[`${prefix}keyslot`];
  const request = {
    state,
    // QEMU counts slots without a sign.
    slot: slot === undefined ? null : Number(slot) < 0 ? Number(slot) + 2 ** 32 : Number(slot),
    newPassphrase: passphrase('new-secret'),
    oldPassphrase: passphrase('old-secret'),
    iterTime: typeof iterTime === 'number' ? iterTime : null,
    force: asked.force,
  } as const;
  const present =
    state === 'inactive'
      ? new Uint8Array(0)
      : askSecret(secret, { file: where.file, parameter: asked.openedBy, id: asked.openedWith, isNew: false });
  amendKeys(place, header, present, request);
}

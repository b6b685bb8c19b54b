// Passphrases: who asks, who answers, and what a bad answer is called. They are held in memory only and are in no message.
import { ImageError } from '../../errors/image-error.ts';

/** What an encrypted image asks of the one who opens or creates it. */
export interface SecretNeed {
  /** The image. */
  readonly file: string;
  /** The setting that names the secret (`key-secret`, `encrypt.key-secret`). */
  readonly parameter: string;
  /** The name that was given; null: none, whoever answers may ask the user. */
  readonly id: string | null;
  /** It will protect something new: a typing mistake would lose the data. */
  readonly isNew: boolean;
}

/** Hands out passphrases by name. Null: there is none. Never called for an image that needs none. */
export type SecretSource = (need: SecretNeed) => Uint8Array | null;

/**
 * The passphrase that `need` speaks of. Throws `crypto/secret-required` when none was named, `crypto/no-secret` when there is none of
 * that name, `crypto/secret-text` when it is not text in UTF-8, as QEMU wants it.
 */
export function askSecret(source: SecretSource | null | undefined, need: SecretNeed): Uint8Array {
  const secret = source?.(need) ?? null;
  const where = { file: need.file };
  if (secret === null) {
    if (need.id === null) throw new ImageError('crypto/secret-required', { parameter: need.parameter }, where);
    throw new ImageError('crypto/no-secret', { id: need.id }, where);
  }
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(secret);
  } catch {
    throw new ImageError('crypto/secret-text', { id: need.id ?? '' }, where);
  }
  if (secret.includes(0)) throw new ImageError('crypto/secret-text', { id: need.id ?? '' }, where);
  return secret;
}

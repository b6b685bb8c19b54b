// `--object`: what options refer to by name. There is one kind, `secret`; its content stays in memory and is never printed.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { parseKeyValues } from './key-values.ts';
import { actsAsQemuImg } from './level.ts';
import { CommandError } from './print.ts';

/** Secrets by id. */
export class Secrets extends Map<string, Uint8Array> {
  /** Ids of those that are for one image (by its path) or, under `*`, for any, where the image's description names none. */
  readonly ofImages = new Map<string, string>();
}

/** Reads the `--object` arguments. Throws `CommandError` in qemu-img's words. */
export function readObjects(definitions: readonly string[], exitCode = 1): Secrets {
  const secrets = new Secrets();
  for (const definition of definitions) {
    const { id, content, image } = readSecret(definition, secrets, (text) => new CommandError(text, { exitCode }));
    secrets.set(id, content);
    if (image !== null) secrets.ofImages.set(image === anyImage ? image : path.resolve(image), id);
  }
  return secrets;
}

interface ReadSecret {
  readonly id: string;
  readonly content: Uint8Array;
  /** The image that it is for; `*`: any; null: those that name it. */
  readonly image: string | null;
}

/** In place of a path: whichever image needs a passphrase and names none. */
export const anyImage = '*';

function readSecret(definition: string, known: Secrets, refuse: (text: string) => CommandError): ReadSecret {
  const given = new Map<string, string>();
  for (const { name, value } of parseKeyValues(definition, { implied: 'qom-type' })) given.set(name, value);
  const take = (name: string): string | null => {
    const value = given.get(name) ?? null;
    given.delete(name);
    return value;
  };
  const type = take('qom-type');
  if (type === null) throw refuse("Parameter 'qom-type' is missing");
  if (type !== 'secret') throw refuse(`Parameter 'qom-type' does not accept value '${type}'`);
  const id = take('id');
  if (id === null) throw refuse("Parameter 'id' is missing");
  const data = take('data');
  const file = take('file');
  const format = take('format') ?? 'raw';
  const keyId = take('keyid');
  const iv = take('iv');
  // Our own: qemu-img knows no such parameter.
  const image = actsAsQemuImg ? null : take('image');
  if (image === '') throw refuse("Parameter 'image' expects a path");
  const extra = [...given.keys()][0];
  if (extra !== undefined) throw refuse(`Parameter '${extra}' is unexpected`);
  if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) {
    throw refuse(
      "Parameter 'id' expects an identifier\n" +
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    );
  }
  if (format !== 'raw' && format !== 'base64') throw refuse(`Parameter 'format' does not accept value '${format}'`);
  if (data !== null && file !== null) throw refuse("'file' and 'data' are mutually exclusive");
  if (data === null && file === null) throw refuse("Either 'file' or 'data' must be provided");
  const raw = data === null ? readSecretFile(file ?? '', refuse) : Buffer.from(data, 'utf8');
  const content = format === 'raw' ? raw : readBase64(raw.toString('latin1'), refuse);
  if (keyId === null) return { id, content, image };
  const key = known.get(keyId);
  if (key === undefined) throw refuse(`No secret with id '${keyId}'`);
  return { id, content: decrypt(content, key, iv, refuse), image };
}

function readBase64(text: string, refuse: (text: string) => CommandError): Buffer {
  if (!/^[A-Za-z0-9+/=\s]*$/.test(text)) throw refuse('Base64 data contains invalid characters');
  return Buffer.from(text, 'base64');
}

/** A secret that another one (`keyid`) encrypts: AES-256 in CBC mode, the last byte saying how many are padding. */
function decrypt(
  content: Buffer,
  key: Uint8Array,
  ivText: string | null,
  refuse: (text: string) => CommandError,
): Buffer {
  if (key.length !== 32) throw refuse('Key should be 32 bytes in length');
  if (ivText === null) throw refuse('IV is required to decrypt secret');
  const iv = readBase64(ivText, refuse);
  if (iv.length !== 16) throw refuse(`IV should be 16 bytes in length not ${iv.length}`);
  if (content.length % 16 !== 0) throw refuse(`Length ${content.length} must be a multiple of block size 16`);
  const plain = crypto.createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false).update(content);
  const padding = plain.at(-1) ?? 0;
  if (padding === 0 || padding > 16) {
    throw refuse(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
  }
  return plain.subarray(0, plain.length - padding);
}

/** The longest secret file that is read. */
const longestSecret = 1024 * 1024;

function readSecretFile(file: string, refuse: (text: string) => CommandError): Buffer {
  try {
    const descriptor = fs.openSync(file, 'r');
    try {
      const buffer = Buffer.alloc(longestSecret);
      let length = 0;
      for (;;) {
        const count = fs.readSync(descriptor, buffer, length, buffer.length - length, null);
        if (count === 0) return buffer.subarray(0, length);
        length += count;
      }
    } finally {
      fs.closeSync(descriptor);
    }
  } catch (error) {
    throw refuse(`Unable to read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

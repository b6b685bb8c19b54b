// Encryption inside qcow2: the old AES method, and a LUKS header in clusters of its own; opened with a passphrase, set up for a new image.
import { namedAlgorithms, sectorsUnder, type AlgorithmChoice } from '../../block/crypto/luks/algorithms.ts';
import { createLuks, newPayloadOffset } from '../../block/crypto/luks/create.ts';
import {
  luksFacts,
  payloadOffset,
  readHeader,
  type HeaderPlace,
  type LuksHeader,
} from '../../block/crypto/luks/header.ts';
import { openAnySlot } from '../../block/crypto/luks/key-slots.ts';
import { askSecret } from '../../block/crypto/secret.ts';
import { byHostOffset, legacyAes } from '../../block/crypto/sector-cipher.ts';
import type { Cipher } from '../../block/node.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, FactTree, OpenRequest, OptionValue } from '../driver.ts';
import { findExtension } from './header.ts';
import { withExtension, writeHeader } from './header-write.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { encryptionHeader, extensionType } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** Values of crypt_method. */
const method = { aes: 1, luks: 2 } as const;

const secretParameter = 'encrypt.key-secret';

/** A LUKS header in the image: where it is, and what it says. */
export interface LuksInside {
  readonly place: HeaderPlace;
  readonly header: LuksHeader;
}

/**
 * Reads the LUKS header, if there is one, and gets the cipher with the passphrase that the setting `encrypt.key-secret` names; who
 * asks for no guest data needs none. Throws `qcow2/crypto-missing`, `qcow2/crypto-format`, `luks/*`, `crypto/*`, `storage/*`.
 */
export function openEncryption(state: Qcow2State, request: OpenRequest): void {
  const { runtime } = request;
  const stated = runtime['encrypt.format'] ?? null;
  const where = { file: state.storage.name, offset: 32, field: 'crypt_method' };
  if (!state.encrypted) {
    if (stated !== null) throw new ImageError('qcow2/crypto-none', { stated }, where);
    return;
  }
  if (stated !== null && stated !== state.cryptName) {
    throw new ImageError('qcow2/crypto-format', { found: state.cryptName, stated }, where);
  }
  if (state.header.fields.crypt_method === method.luks) state.luks = readLuks(state);
  const id = runtime[secretParameter] ?? null;
  if (request.guestData === false || (id === null && request.forRepair)) return;
  const need = { file: state.storage.name, parameter: secretParameter, id, isNew: false };
  state.cipher = cipherOf(state, askSecret(request.secret, need));
}

function cipherOf({ luks }: Qcow2State, passphrase: Uint8Array): Cipher {
  if (luks === null) return legacyAes(passphrase);
  return byHostOffset(sectorsUnder(luks.header.algorithms, openAnySlot(luks.place, luks.header, passphrase)));
}

function readLuks(state: Qcow2State): LuksInside {
  const { storage } = state;
  const extension = findExtension(state.header, extensionType.encryptionHeader);
  if (extension === null) {
    throw new ImageError('qcow2/crypto-missing', { method: state.cryptName }, { file: storage.name });
  }
  const where = { file: storage.name, offset: extension.offset };
  const pointer = encryptionHeader.parse(extension.data, where);
  const place = { storage, base: pointer.offset };
  const header = readHeader(place);
  if (payloadOffset(header) > pointer.length) {
    const detail = { found: payloadOffset(header), allowed: pointer.length };
    throw new ImageError('qcow2/crypto-outside', detail, { ...where, field: 'length' });
  }
  return { place, header };
}

/** What info says of the encryption. */
export function encryptionFacts(state: Qcow2State): FactTree {
  const { luks } = state;
  return { format: state.cryptName, ...(luks === null ? {} : luksFacts(luks.header)) };
}

/** The encryption that creation options ask for. */
export interface EncryptionChoice {
  readonly method: 'aes' | 'luks';
  /** Name of the secret; null: not given. */
  readonly secret: string | null;
  readonly algorithms: AlgorithmChoice;
  /** Milliseconds of PBKDF2; null: not given. */
  readonly iterTime: number | null;
}

function refuse(reason: string): never {
  throw new ImageError('request/invalid-value', { reason });
}

/** Null: none. Throws `request/invalid-value` with QEMU's sentences. */
export function chooseEncryption(options: Readonly<Record<string, OptionValue>>): EncryptionChoice | null {
  const format = options['encrypt.format'];
  if (format !== undefined && options.encryption !== undefined) {
    refuse("'encrypt.format' and its alias 'encryption' can't be used at the same time");
  }
  if (format !== undefined && format !== 'aes' && format !== 'luks') {
    refuse(`Parameter 'format' does not accept value '${String(format)}'`);
  }
  const named = Object.keys(options).filter((name) => name.startsWith('encrypt.'));
  const chosen = format ?? (options.encryption === true ? 'aes' : null);
  if (chosen === null) return named.length === 0 ? null : refuse("Parameter 'encrypt.format' is missing");
  const unexpected = named.find((name) => name !== 'encrypt.format' && name !== secretParameter);
  if (chosen === 'aes' && unexpected !== undefined) refuse(`Parameter '${unexpected}' is unexpected`);
  const secret = options[secretParameter];
  const time = options['encrypt.iter-time'];
  return {
    method: chosen,
    secret: secret === undefined ? null : String(secret),
    algorithms: namedAlgorithms(options, 'encrypt.'),
    iterTime: typeof time === 'number' ? time : null,
  };
}

/**
 * Makes a new image an encrypted one: for LUKS, clusters for the header, which the passphrase of `request` will open. Throws
 * `crypto/*`, `luks/*`, `storage/*`.
 */
export function setUpEncryption(
  state: Qcow2State,
  metadata: Qcow2Metadata,
  choice: EncryptionChoice,
  request: CreateRequest,
): void {
  const { storage, header, layout } = state;
  const need = { file: request.name, parameter: secretParameter, id: choice.secret, isNew: true };
  const passphrase = askSecret(request.secret, need);
  header.fields.crypt_method = method[choice.method];
  if (choice.method === 'luks') {
    const length = newPayloadOffset(choice.algorithms);
    const offset = metadata.allocateMetadata(Math.ceil(length / layout.clusterSize));
    const end = offset + alignUp(length, layout.clusterSize);
    if (storage.size < end) storage.truncate(end);
    createLuks({ storage, base: offset }, choice.algorithms, passphrase, choice.iterTime).masterKey.fill(0);
    const pointer = encryptionHeader.serialise({ offset, length });
    header.extensions = withExtension(header.extensions, extensionType.encryptionHeader, pointer);
  }
  writeHeader(state);
}

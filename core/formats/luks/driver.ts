// LUKS version 1 as an image format of its own: the table of its functions.
import { sectorsUnder } from '../../block/crypto/luks/algorithms.ts';
import {
  looksLikeLuks,
  luksFacts,
  payloadOffset,
  readHeader,
  type LuksHeader,
} from '../../block/crypto/luks/header.ts';
import { openAnySlot } from '../../block/crypto/luks/key-slots.ts';
import { askSecret } from '../../block/crypto/secret.ts';
import { byGuestOffset } from '../../block/crypto/sector-cipher.ts';
import type { BlockNode, Cipher } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import { notCompacted } from '../compact-driver.ts';
import type { FormatDriver, OpenRequest } from '../driver.ts';
import { amendLuks, luksAmendOptions } from './amend.ts';
import { checkLuks } from './check.ts';
import { createLuksImage, measureLuks } from './create.ts';
import { LuksNode, WritableLuksNode } from './node.ts';
import { luksOptions } from './options.ts';
import { luksRegions } from './regions.ts';
import { partitionHeader } from './spec.ts';

/**
 * Opens the image; asks for the passphrase that the setting `key-secret` names, unless no guest data are wanted. Throws `luks/*`,
 * `crypto/*`, `storage/*`.
 */
function openLuks(storage: Storage, request: OpenRequest): BlockNode {
  try {
    const named = request.runtime['key-secret'] ?? null;
    const unknown = Object.keys(request.runtime).find((name) => name !== 'key-secret');
    if (unknown !== undefined) throw new ImageError('request/invalid-option', { name: unknown });
    const locked = request.guestData === false || (named === null && request.forRepair);
    const passphrase = locked
      ? null
      : askSecret(request.secret, { file: storage.name, parameter: 'key-secret', id: named, isNew: false });
    const header = readHeader({ storage, base: 0 });
    const payload = payloadOffset(header);
    if (payload > storage.size && !request.forRepair) {
      const where = { file: storage.name, offset: 104, field: 'payload_offset' };
      throw new ImageError('luks/short', { found: storage.size, needed: payload }, where);
    }
    const cipher = passphrase === null ? null : unlock(storage, header, passphrase);
    return request.writable ? new WritableLuksNode(storage, header, cipher) : new LuksNode(storage, header, cipher);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function unlock(storage: Storage, header: LuksHeader, passphrase: Uint8Array): Cipher {
  const key = openAnySlot({ storage, base: 0 }, header, passphrase);
  return byGuestOffset(sectorsUnder(header.algorithms, key));
}

function nodeOf(node: BlockNode): LuksNode {
  if (!(node instanceof LuksNode)) throw new Error(`${node.name} was not opened as luks`);
  return node;
}

export const luks: FormatDriver = {
  id: 'luks',
  label: 'LUKS',
  extensions: ['luks', 'img'],
  hasBacking: false,
  options: luksOptions,
  probe: looksLikeLuks,
  open: openLuks,
  create: createLuksImage,
  startsAsZeroes: () => false,
  compact: notCompacted('every sector of an encrypted disk is stored, zeroes too'),
  provisions: () => ['falloc', 'full'],
  facts: (node) => ({
    clusterSize: null,
    encrypted: true,
    dirty: false,
    backing: null,
    specific: { type: 'luks', data: luksFacts(nodeOf(node).header) },
    snapshots: [],
    further: null,
  }),
  heads: [{ at: 0, label: 'LUKS header', rows: partitionHeader }],
  regions: (node, role = 'file') => luksRegions(nodeOf(node), role),
  check: (node) => checkLuks(nodeOf(node)),
  measure: measureLuks,
  amendOptions: luksAmendOptions,
  amend: (node, request) => amendLuks(nodeOf(node), request),
};

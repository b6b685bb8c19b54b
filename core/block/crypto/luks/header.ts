// The header of LUKS version 1: read and held against QEMU's rules, written, described.
import { alignUp } from '../../units.ts';
import type { HostOffset } from '../../units.ts';
import { ImageError, type Where } from '../../../errors/image-error.ts';
import type { Annotation } from '../../../bytes/struct.ts';
import type { Storage } from '../../storage.ts';
import { cipherText, masterKeyLength, readAlgorithms, type LuksAlgorithms } from './algorithms.ts';
import {
  alignSectors,
  headerLength,
  keySlot,
  magic,
  partitionHeader,
  sectorSize,
  slotCount,
  slotState,
  stripes,
  type KeySlot,
  type PartitionHeader,
} from './spec.ts';

/** Where a LUKS header stands: in a file of its own format at 0, in a qcow2 image where its extension says. */
export interface HeaderPlace {
  readonly storage: Storage;
  readonly base: HostOffset;
}

/** A header and what its names come to. */
export interface LuksHeader {
  readonly fields: PartitionHeader;
  readonly slots: KeySlot[];
  readonly algorithms: LuksAlgorithms;
}

/** Bytes from the start of the header to the encrypted disk. */
export function payloadOffset(header: LuksHeader): number {
  return header.fields.payload_offset * sectorSize;
}

/** The sectors that the split key of a slot takes. */
export function materialSectors(keyBytes: number): number {
  return Math.ceil((keyBytes * stripes) / sectorSize);
}

/** Where the slots and the disk of a new header stand, in sectors: every slot begins at a multiple of 4096 bytes. */
export function placesFor(keyBytes: number): { readonly slots: readonly number[]; readonly payload: number } {
  const each = alignUp(materialSectors(keyBytes), alignSectors);
  const slots = Array.from({ length: slotCount }, (_, i) => alignSectors + i * each);
  return { slots, payload: alignSectors + slotCount * each };
}

/** True for the first bytes of a LUKS file of version 1. */
export function looksLikeLuks(head: Uint8Array): boolean {
  if (head.length < headerLength) return false;
  for (let i = 0; i < magic.length; i++) if (head[i] !== magic.charCodeAt(i)) return false;
  return head[6] === 0 && head[7] === 1;
}

/**
 * Reads and checks the header (specification: section 2.1, figure 1). What the file is too short for reads as zeroes. Throws
 * `luks/*` with QEMU's sentences, `crypto/essiv-*`.
 */
export function readHeader({ storage, base }: HeaderPlace): LuksHeader {
  const head = new Uint8Array(headerLength);
  const there = Math.max(0, Math.min(headerLength, storage.size - base));
  if (there > 0) storage.readAt(head.subarray(0, there), base);
  const where: Where = { file: storage.name, offset: base };
  const fields = partitionHeader.parse(head, where);
  checkFields(head, fields, where);
  const slots: KeySlot[] = [];
  for (let i = 0; i < slotCount; i++) {
    const at = partitionHeader.size + i * keySlot.size;
    slots.push(keySlot.parse(head.subarray(at), { ...where, offset: base + at }));
  }
  checkSlots(fields, slots, where);
  try {
    const { cipher_name: cipher, cipher_mode: mode, hash_spec: hash, key_bytes: keyBytes } = fields;
    return { fields, slots, algorithms: readAlgorithms({ cipher, mode, hash, keyBytes }) };
  } catch (error) {
    throw error instanceof ImageError ? error.at(where) : error;
  }
}

function checkFields(head: Uint8Array, fields: PartitionHeader, where: Where): void {
  const at = (field: keyof PartitionHeader): Where => {
    const { offset } = partitionHeader.fields[field];
    return { ...where, offset: (where.offset ?? 0) + offset, field };
  };
  const names = { cipher_name: 'cipher name', cipher_mode: 'cipher mode', hash_spec: 'hash spec' } as const;
  for (const field of ['cipher_name', 'cipher_mode', 'hash_spec'] as const) {
    const { offset, type } = partitionHeader.fields[field];
    if (!head.subarray(offset, offset + type.width).includes(0)) {
      throw new ImageError('luks/unended', { name: names[field] }, at(field));
    }
  }
  if (fields.payload_offset < alignSectors) throw new ImageError('luks/payload-early', {}, at('payload_offset'));
  if (fields.mk_digest_iter === 0) throw new ImageError('luks/no-iterations', {}, at('mk_digest_iter'));
}

function checkSlots(fields: PartitionHeader, slots: readonly KeySlot[], where: Where): void {
  const length = materialSectors(fields.key_bytes);
  for (const [i, slot] of slots.entries()) {
    const at = { ...where, offset: (where.offset ?? 0) + partitionHeader.size + i * keySlot.size };
    const start = slot.key_material_offset;
    if (slot.active !== slotState.enabled && slot.active !== slotState.disabled) {
      throw new ImageError('luks/slot-state', { slot: i, found: slot.active }, { ...at, field: 'active' });
    }
    if (slot.active === slotState.enabled && slot.iterations === 0) {
      throw new ImageError('luks/slot-iterations', { slot: i }, { ...at, field: 'iterations' });
    }
    if (slot.stripes !== stripes) {
      const detail = { slot: i, found: slot.stripes | 0, allowed: stripes };
      throw new ImageError('luks/slot-stripes', detail, { ...at, field: 'stripes' });
    }
    const place = { ...at, field: 'key_material_offset' };
    if (start < alignSectors) throw new ImageError('luks/slot-early', { slot: i, found: start }, place);
    if (start + length > fields.payload_offset)
      throw new ImageError('luks/slot-late', { slot: i, found: start }, place);
    for (let j = i + 1; j < slots.length; j++) {
      const other = slots[j]?.key_material_offset ?? 0;
      if (start + length > other && other + length > start) {
        throw new ImageError('luks/slots-overlap', { slot: i, other: j }, place);
      }
    }
  }
}

/** The bytes of the header with its slots. */
export function headerBytes(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(headerLength);
  partitionHeader.patch(bytes, header.fields);
  header.slots.forEach((slot, i) => {
    const at = partitionHeader.size + i * keySlot.size;
    keySlot.patch(bytes.subarray(at, at + keySlot.size), slot);
  });
  return bytes;
}

/** What a header says, in qemu-img's spelling. Offsets count from the header's start. */
export type LuksFacts = ReturnType<typeof luksFacts>;

/** The facts of `info`; without the passphrase. */
export function luksFacts(header: LuksHeader) {
  const { algorithms, fields, slots } = header;
  const essiv = algorithms.generator === 'essiv' && algorithms.generatorHash !== null;
  return {
    'ivgen-alg': algorithms.generator,
    'hash-alg': algorithms.hash,
    'cipher-alg': cipherText(algorithms),
    uuid: fields.uuid,
    ...(essiv ? { 'ivgen-hash-alg': algorithms.generatorHash ?? '' } : {}),
    'cipher-mode': algorithms.mode as string,
    slots: slots.map((slot) => {
      const active = slot.active === slotState.enabled;
      return {
        active,
        ...(active ? { iters: slot.iterations } : {}),
        'key-offset': slot.key_material_offset * sectorSize,
        ...(active ? { stripes: slot.stripes } : {}),
      };
    }),
    'payload-offset': payloadOffset(header),
    'master-key-iters': fields.mk_digest_iter,
  };
}

/** The key material of slot `i` in bytes from the header's start: whole sectors, as they are encrypted. */
export function materialRange(header: LuksHeader, i: number): { readonly start: number; readonly length: number } {
  const start = (header.slots[i]?.key_material_offset ?? 0) * sectorSize;
  return { start, length: materialSectors(masterKeyLength(header.algorithms)) * sectorSize };
}

/** The fields of the header for the hex view; `bytes` are its first bytes, `at` is their place in the file. */
export function annotateHeader(bytes: Uint8Array, at: number): Annotation[] {
  const notes = partitionHeader.annotate(bytes, at).map((one) => fromHeader(one, at));
  for (let i = 0; i < slotCount; i++) {
    const from = partitionHeader.size + i * keySlot.size;
    if (from >= bytes.length) break;
    for (const note of keySlot.annotate(bytes.subarray(from), at + from).map((one) => fromHeader(one, at))) {
      notes.push({ ...note, structure: `${note.structure} ${i}`, path: `luks.slot[${i}].${note.field}` });
    }
  }
  return notes;
}

/** What a field points to counts from the header's start, wherever that is. */
function fromHeader(note: Annotation, at: number): Annotation {
  return note.target === undefined ? note : { ...note, target: { offset: note.target.offset + at } };
}

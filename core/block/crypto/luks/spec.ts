// On-disk structures of LUKS version 1 (LUKS on-disk format specification 1.2.3), big-endian, byte for byte.
import { struct, field, type ValuesOf } from '../../../bytes/struct.ts';
import { ascii, bytes, u16, u32 } from '../../../bytes/types.ts';

/** `LUKS` 0xba 0xbe as text of one byte per character. */
export const magic = 'LUKS\xba\xbe';

/** Bytes of a sector: what payload_offset and key-material-offset count. */
export const sectorSize = 512;

/** Key slots of a header. */
export const slotCount = 8;

/** Where the key material of the first slot begins, and what the others are aligned to: 4096 bytes in sectors. */
export const alignSectors = 8;

/** Anti-forensic stripes of every slot. */
export const stripes = 4000;

export const slotState = { enabled: 0x00ac_71f3, disabled: 0x0000_dead } as const;

export const digestLength = 20;
export const saltLength = 32;

/** The fewest rounds of PBKDF2 that are used, whatever was measured. */
export const leastIterations = 1000;

/** `phdr` without its key slots. */
export const partitionHeader = struct(
  { name: 'LUKS partition header', path: 'luks', section: 'LUKS1: The partition header' },
  'big',
  208,
  {
    magic: field(0, ascii(6), "'LUKS' 0xba 0xbe", { is: magic, code: 'luks/magic' }),
    version: field(6, u16, 'version: 1', { is: 1, code: 'luks/version' }),
    cipher_name: field(8, ascii(32), 'cipher name: aes, …'),
    cipher_mode: field(40, ascii(32), 'cipher mode and initial values: xts-plain64, cbc-essiv:sha256, …'),
    hash_spec: field(72, ascii(32), 'hash of PBKDF2 and of the anti-forensic splitter'),
    payload_offset: field(104, u32, 'where the encrypted disk begins, in sectors of 512 bytes', { points: 512 }),
    key_bytes: field(108, u32, 'bytes of the master key'),
    mk_digest: field(112, bytes(digestLength), 'PBKDF2 of the master key: shows whether a passphrase was right'),
    mk_digest_salt: field(132, bytes(saltLength), 'salt of that'),
    mk_digest_iter: field(164, u32, 'rounds of that'),
    uuid: field(168, ascii(40), 'UUID of the partition as text'),
  },
);

export type PartitionHeader = ValuesOf<typeof partitionHeader>;

/** `key slot`; eight of them follow the header. */
export const keySlot = struct(
  { name: 'LUKS key slot', path: 'luks.slot', section: 'LUKS1: Key slot layout' },
  'big',
  48,
  {
    active: field(0, u32, '0x00ac71f3: enabled, 0x0000dead: disabled'),
    iterations: field(4, u32, 'rounds of PBKDF2 for the passphrase'),
    salt: field(8, bytes(saltLength), 'salt of that'),
    key_material_offset: field(40, u32, 'where the split and encrypted master key stands, in sectors of 512 bytes', {
      points: 512,
    }),
    stripes: field(44, u32, 'anti-forensic stripes'),
  },
);

export type KeySlot = ValuesOf<typeof keySlot>;

/** Bytes of the header with its slots. */
export const headerLength = partitionHeader.size + slotCount * keySlot.size;

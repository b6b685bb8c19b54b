// On-disk structures of qcow version 1, as QEMU writes them: big-endian, byte for byte.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { bytes, u32, u64, u8 } from '../../bytes/types.ts';

/** `QFI` 0xfb. */
export const magic = 0x5146_49fb;

export const header = struct({ name: 'qcow header', path: 'header', section: 'qcow: Header' }, 'big', 48, {
  magic: field(0, u32, "'QFI' 0xfb", { is: magic, code: 'qcow/magic' }),
  version: field(4, u32, 'version: 1', { is: 1, code: 'qcow/version' }),
  backing_file_offset: field(8, u64, 'where the name of the layer below stands; 0: there is none', { points: 1 }),
  backing_file_size: field(16, u32, 'bytes of that name'),
  mtime: field(20, u32, 'time of the last change of the layer below; nobody writes it'),
  size: field(24, u64, 'virtual size in bytes', { min: 2, code: 'qcow/size' }),
  cluster_bits: field(32, u8, '1 << cluster_bits is the cluster size', { min: 9, max: 16, code: 'qcow/cluster-bits' }),
  l2_bits: field(33, u8, '1 << l2_bits is the number of entries of an L2 table', {
    min: 6,
    max: 13,
    code: 'qcow/l2-bits',
  }),
  padding: field(34, bytes(2), 'unused'),
  crypt_method: field(36, u32, '0: none, 1: AES', { max: 1, code: 'qcow/crypt-method' }),
  l1_table_offset: field(40, u64, 'where the L1 table stands', { points: 1 }),
});

export type Header = ValuesOf<typeof header>;

export const limit = {
  /** Bytes of the name of the layer below. */
  backingName: 1023,
  /**
   * Bytes of the L1 table. QEMU takes 2 GiB; this is enough for 16 TiB with the tables that it makes, and for more with larger ones.
   */
  l1Bytes: 64 * 1024 * 1024,
} as const;

/** The top bit of an L2 entry, as a bit of its high half: the cluster is compressed. */
export const packedFlag = 0x8000_0000;

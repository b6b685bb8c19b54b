// The header of a qed image (QEMU Enhanced Disk, version 1), little-endian, as QEMU's description of the format has it.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { bits64, u32, u64 } from '../../bytes/types.ts';

/** "QED\0" */
export const magic = 0x00444551;

const KiB = 1024;
const MiB = 1024 * KiB;

export const qedHeader = struct({ name: 'QED header', path: 'header', section: 'QED: Header' }, 'little', 64, {
  magic: field(0, u32, 'QED\\0', { is: magic, code: 'qed/magic' }),
  cluster_size: field(4, u32, 'bytes of a cluster, a power of two', {
    min: 4 * KiB,
    max: 64 * MiB,
    code: 'qed/header',
  }),
  table_size: field(8, u32, 'clusters of an L1 or L2 table, a power of two', { min: 1, max: 16, code: 'qed/header' }),
  header_size: field(12, u32, 'clusters of the header', { min: 1, code: 'qed/header' }),
  features: field(16, bits64, 'bits that a reader must know'),
  compat_features: field(24, bits64, 'bits that a reader may ignore'),
  autoclear_features: field(32, bits64, 'bits that a writer clears unless it knows them'),
  l1_table_offset: field(40, u64, 'where the L1 table starts', { points: 1 }),
  image_size: field(48, u64, 'virtual disk size in bytes, a multiple of 512'),
  backing_filename_offset: field(56, u32, 'where the name of the backing file stands, from the start of the header', {
    points: 1,
  }),
  backing_filename_size: field(60, u32, 'length of that name in bytes'),
});
export type QedHeader = ValuesOf<typeof qedHeader>;

/** Bits of features. */
export const feature = {
  backingFile: 1n << 0n,
  /** Not closed cleanly: the tables may refer to clusters twice, or to clusters that were never written. */
  needCheck: 1n << 1n,
  /** The layer below is raw, whatever it looks like. */
  backingNoProbe: 1n << 2n,
} as const;
export const knownFeatures = 0b111n;

/** An L2 entry: the cluster reads as zeroes. */
export const zeroCluster = 1;

/** Longest name of a backing file. */
export const longestName = 1023;

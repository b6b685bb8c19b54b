// On-disk structures of qcow2, versions 2 and 3, in the order and spelling of QEMU's docs/interop/qcow2.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bits64, bytes, u16, u32, u64, u8 } from '../../bytes/types.ts';

/** "QFI\xfb" */
export const magic = 0x514649fb;

const headerRows = {
  magic: field(0, u32, 'QFI\\xfb', { is: magic, code: 'qcow2/magic' }),
  version: field(4, u32, '2 or 3', { oneOf: [2, 3], code: 'qcow2/version' }),
  backing_file_offset: field(8, u64, 'where the name of the backing file stands; 0: there is none', { points: 1 }),
  backing_file_size: field(16, u32, 'length of that name in bytes, at most 1023'),
  cluster_bits: field(20, u32, '1 << cluster_bits is the cluster size', {
    min: 9,
    max: 21,
    code: 'qcow2/cluster-bits',
  }),
  size: field(24, u64, 'virtual disk size in bytes'),
  crypt_method: field(32, u32, '0: none, 1: AES, 2: LUKS', { max: 2, code: 'qcow2/crypt-method' }),
  l1_size: field(36, u32, 'entries of the active L1 table'),
  l1_table_offset: field(40, u64, 'where the active L1 table starts', { points: 1 }),
  refcount_table_offset: field(48, u64, 'where the refcount table starts', { points: 1 }),
  refcount_table_clusters: field(56, u32, 'clusters that the refcount table takes'),
  nb_snapshots: field(60, u32, 'number of internal snapshots'),
  snapshots_offset: field(64, u64, 'where the snapshot table starts', { points: 1 }),
} as const;

/** The header of version 2, and the first 72 bytes of version 3. */
export const headerV2 = struct({ name: 'QCowHeader', path: 'header', section: 'qcow2: Header' }, 'big', 72, headerRows);

/** The header of version 3 as far as every image of that version has it. */
export const headerV3 = struct({ name: 'QCowHeader', path: 'header', section: 'qcow2: Header' }, 'big', 104, {
  ...headerRows,
  incompatible_features: field(72, bits64, 'bits that a reader must know'),
  compatible_features: field(80, bits64, 'bits that a reader may ignore'),
  autoclear_features: field(88, bits64, 'bits that a writer clears unless it knows them'),
  refcount_order: field(96, u32, '1 << refcount_order is the width of a refcount in bits', {
    max: 6,
    code: 'qcow2/refcount-width',
  }),
  header_length: field(100, u32, 'length of the header in bytes', { min: 104, code: 'qcow2/header-short' }),
});
export type HeaderV3 = ValuesOf<typeof headerV3>;

/** What follows where header_length says so (112 and more). */
export const headerAdditional = struct(
  { name: 'QCowHeader additional fields', path: 'header', section: 'qcow2: Additional fields' },
  'big',
  8,
  {
    compression_type: field(0, u8, '0: deflate, 1: zstd'),
    padding: field(1, bytes(7), 'zero'),
  },
);

/** Bits of incompatible_features. */
export const incompatible = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  dataFile: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
export const knownIncompatible = 0b11111n;

/** Bits of compatible_features. */
export const compatible = { lazyRefcounts: 1n << 0n } as const;

/** Bits of autoclear_features. */
export const autoclear = { bitmaps: 1n << 0n, dataFileRaw: 1n << 1n } as const;
export const knownAutoclear = 0b11n;

/** Head of a header extension; the data follows, padded to a multiple of 8. */
export const extensionHead = struct(
  { name: 'Header extension', path: 'extension', section: 'qcow2: Header extensions' },
  'big',
  8,
  {
    type: field(0, u32, 'what the extension is'),
    length: field(4, u32, 'length of its data in bytes, without padding'),
  },
);

/** Types of header extensions. */
export const extensionType = {
  end: 0x00000000,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryptionHeader: 0x0537be77,
  dataFile: 0x44415441,
} as const;

/** A row of the feature name table. */
export const featureName = struct(
  { name: 'Feature name', path: 'feature', section: 'qcow2: Feature name table' },
  'big',
  48,
  {
    type: field(0, u8, '0: incompatible, 1: compatible, 2: autoclear'),
    bit: field(1, u8, 'number of the bit'),
    name: field(2, ascii(46), 'its name'),
  },
);

/** The bitmaps extension. */
export const bitmapsExtension = struct(
  { name: 'Bitmaps extension', path: 'bitmaps', section: 'qcow2: Bitmaps extension' },
  'big',
  24,
  {
    nb_bitmaps: field(0, u32, 'number of bitmaps', { min: 1, max: 65535, code: 'qcow2/bitmaps-count' }),
    reserved: field(4, u32, 'zero', { is: 0, code: 'qcow2/bitmaps-reserved' }),
    bitmap_directory_size: field(8, u64, 'bytes of the bitmap directory'),
    bitmap_directory_offset: field(16, u64, 'where the bitmap directory starts', { points: 1 }),
  },
);

/** The full disk encryption header pointer. */
export const encryptionHeader = struct(
  { name: 'Encryption header pointer', path: 'encryption', section: 'qcow2: Full disk encryption header pointer' },
  'big',
  16,
  {
    offset: field(0, u64, 'where the encryption header starts', { points: 1 }),
    length: field(8, u64, 'its length in bytes'),
  },
);

/** Fixed part of an entry of the bitmap directory; extra data and name follow, padded to a multiple of 8. */
export const bitmapDirectoryEntry = struct(
  { name: 'Bitmap directory entry', path: 'bitmap', section: 'qcow2: Bitmap directory' },
  'big',
  24,
  {
    bitmap_table_offset: field(0, u64, 'where the bitmap table starts', { points: 1 }),
    bitmap_table_size: field(8, u32, 'entries of the bitmap table'),
    flags: field(12, u32, 'bit 0: in_use, bit 1: auto, bit 2: extra_data_compatible'),
    type: field(16, u8, '1: dirty tracking bitmap'),
    granularity_bits: field(17, u8, '1 << granularity_bits guest bytes per bit'),
    name_size: field(18, u16, 'length of the name'),
    extra_data_size: field(20, u32, 'length of the extra data'),
  },
);

/** Bits of the flags of a bitmap directory entry. */
export const bitmapFlag = { inUse: 1, auto: 2, extraDataCompatible: 4 } as const;

/** Fixed part of an entry of the snapshot table; extra data, id and name follow, padded to a multiple of 8. */
export const snapshotEntry = struct(
  { name: 'Snapshot table entry', path: 'snapshot', section: 'qcow2: Snapshots' },
  'big',
  40,
  {
    l1_table_offset: field(0, bits64, 'where the L1 table of the snapshot starts', { points: 1 }),
    l1_size: field(8, u32, 'entries of that table'),
    id_size: field(12, u16, 'length of the unique id'),
    name_size: field(14, u16, 'length of the name'),
    date_sec: field(16, u32, 'when it was taken, seconds since 1970'),
    date_nsec: field(20, u32, 'and nanoseconds'),
    vm_clock_nsec: field(24, bits64, 'guest time since it was started, nanoseconds'),
    vm_state_size: field(32, u32, 'bytes of saved machine state; 0: see the extra data'),
    extra_data_size: field(36, u32, 'length of the extra data'),
  },
);

/** The extra data of a snapshot, as far as it is known; version 3 needs the first 16 bytes. */
export const snapshotExtra = struct(
  { name: 'Snapshot extra data', path: 'snapshot.extra', section: 'qcow2: Snapshots' },
  'big',
  24,
  {
    vm_state_size_large: field(0, bits64, 'bytes of saved machine state'),
    disk_size: field(8, bits64, 'virtual disk size when it was taken'),
    icount: field(16, bits64, 'instruction count of record/replay; all ones: none'),
  },
);

/**
 * Entries of L1, L2 and refcount tables are 64 bits; code that loops over them works on two 32-bit halves, `high` and `low`.
 * Bits 9…55 of an L1 or L2 entry are an offset.
 */
export const entry = {
  /** Bit 63: the refcount is exactly one. */
  copied: 0x8000_0000,
  /** Bit 62 of an L2 entry: a compressed cluster. */
  compressed: 0x4000_0000,
  /** Bit 0 (low half) of a standard L2 entry of version 3 without subclusters: reads as zeroes. */
  zero: 1,
  /** Offset bits of the two halves. */
  offsetHigh: 0x00ff_ffff,
  offsetLow: 0xffff_fe00,
  /** Reserved bits of an L1 entry. */
  l1ReservedHigh: 0x7f00_0000,
  l1ReservedLow: 0x1ff,
  /** Reserved bits of a standard L2 entry. */
  l2ReservedHigh: 0x3f00_0000,
  l2ReservedLow: 0x1fe,
  /** Reserved bits of an entry of the refcount table. */
  refcountReservedLow: 0x1ff,
} as const;

/** What QEMU accepts at most. */
export const limit = {
  /** Bytes of the active L1 table, and of that of a snapshot. */
  l1Bytes: 32 * 1024 * 1024,
  /** Bytes of the refcount table. */
  refcountTableBytes: 8 * 1024 * 1024,
  snapshots: 65536,
  snapshotTableBytes: 1024 * 65536,
  snapshotExtraBytes: 1024,
  backingName: 1023,
  backingFormat: 15,
  bitmaps: 65535,
  bitmapDirectoryBytes: 1024 * 65535,
  bitmapTableEntries: 0x8000000,
} as const;

// On-disk structures of VMDK: hosted sparse, stream markers, ESX server sparse (COWD), seSparse; VMware's Virtual Disk Format 5.0.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bits64, bytes, type FieldType, u16, u32, u64, u8 } from '../../bytes/types.ts';

/** All offsets and sizes on disk count these. */
export const sectorSize = 512;

/** "KDMV", "COWD" as little-endian numbers. */
export const hostedMagic = 0x564d444b;
export const cowdMagic = 0x44574f43;

/** gdOffset of a stream whose real directory offset stands in the footer. */
export const gdAtEnd = -1;

/** A sector number, or all ones (`gdAtEnd`). */
const directorySector: FieldType<number> = {
  width: 8,
  read(view, offset, little, where) {
    const ones = view.getUint32(offset, true) === 0xffffffff && view.getUint32(offset + 4, true) === 0xffffffff;
    return ones ? gdAtEnd : u64.read(view, offset, little, where);
  },
  write(view, offset, value, little) {
    if (value === gdAtEnd) view.setBigUint64(offset, 0xffff_ffff_ffff_ffffn, little);
    else u64.write(view, offset, value, little);
  },
  show: (value) => (value === gdAtEnd ? 'in the footer' : u64.show(value)),
};

/** Header of a hosted sparse extent (section "Hosted Sparse Extents"); the footer of a stream has the same form. */
export const hostedHeader = struct(
  { name: 'SparseExtentHeader', path: 'header', section: 'VMDK 5.0: Hosted Sparse Extent Header' },
  'little',
  512,
  {
    magicNumber: field(0, u32, "'KDMV'", { is: hostedMagic, code: 'vmdk/magic' }),
    version: field(4, u32, '1, 2 (zeroed grains) or 3 (streams, changed block tracking)'),
    flags: field(8, u32, 'bit 0: newline test, 1: redundant table, 2: zeroed grains, 16: compressed, 17: markers'),
    capacity: field(12, u64, 'size of the extent in sectors'),
    grainSize: field(20, u64, 'size of a grain in sectors'),
    descriptorOffset: field(28, u64, 'sector of the embedded descriptor; 0: none', { points: sectorSize }),
    descriptorSize: field(36, u64, 'sectors that the embedded descriptor may take'),
    numGTEsPerGT: field(44, u32, 'entries of a grain table'),
    rgdOffset: field(48, directorySector, 'sector of the redundant grain directory', { points: sectorSize }),
    gdOffset: field(56, directorySector, 'sector of the grain directory; all ones: see the footer', {
      points: sectorSize,
    }),
    overHead: field(64, u64, 'sectors before the first grain', { points: sectorSize }),
    uncleanShutdown: field(72, u8, '1 while a writer has it open'),
    singleEndLineChar: field(73, u8, '\\n'),
    nonEndLineChar: field(74, u8, 'space'),
    doubleEndLineChar1: field(75, u8, '\\r'),
    doubleEndLineChar2: field(76, u8, '\\n'),
    compressAlgorithm: field(77, u16, '0: none, 1: deflate'),
    pad: field(79, bytes(433), 'zero'),
  },
);
export type HostedHeader = ValuesOf<typeof hostedHeader>;

/** Bits of the flags of a hosted sparse extent. */
export const hostedFlag = {
  newlineTest: 1,
  redundantTable: 2,
  zeroedGrains: 4,
  compressed: 0x10000,
  markers: 0x20000,
} as const;

export const compressDeflate = 1;

/** The four bytes after uncleanShutdown that show whether a transfer changed line ends. */
export const newlineBytes = {
  singleEndLineChar: 0x0a,
  nonEndLineChar: 0x20,
  doubleEndLineChar1: 0x0d,
  doubleEndLineChar2: 0x0a,
} as const;

/** Head of a marker in a stream; a grain's bytes follow at once, everything else starts at the next sector. */
export const marker = struct(
  { name: 'Marker', path: 'marker', section: 'VMDK 5.0: Stream-Optimized, Markers' },
  'little',
  16,
  {
    val: field(0, u64, 'grain: its sector on the virtual disk; otherwise: sectors that follow'),
    size: field(8, u32, 'bytes of the compressed grain; 0: not a grain'),
    type: field(12, u32, '0: end of stream, 1: grain table, 2: grain directory, 3: footer'),
  },
);

/** Bytes before the data of a compressed grain: val and size. */
export const grainMarkerLength = 12;

export const markerType = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const;

/** An entry that says: reads as zeroes (only with the flag; always in seSparse as decoded here). */
export const zeroedEntry = 1;

/** Header of an ESX server sparse extent (section "ESX Server Sparse Extents"). */
export const cowdHeader = struct(
  { name: 'COWDisk_Header', path: 'header', section: 'VMDK 5.0: ESX Server Sparse Extents' },
  'little',
  2048,
  {
    magicNumber: field(0, u32, "'COWD'", { is: cowdMagic, code: 'vmdk/magic' }),
    version: field(4, u32, '1'),
    flags: field(8, u32, '3'),
    numSectors: field(12, u32, 'size of the extent in sectors'),
    grainSize: field(16, u32, 'size of a grain in sectors'),
    gdOffset: field(20, u32, 'sector of the grain directory', { points: sectorSize }),
    numGDEntries: field(24, u32, 'entries of the grain directory'),
    freeSector: field(28, u32, 'first free sector of the file'),
    parent: field(32, bytes(1028), 'name and generation of the parent, or the geometry'),
    generation: field(1060, u32, 'generation'),
    name: field(1064, ascii(60), 'name'),
    description: field(1124, ascii(512), 'description'),
    savedGeneration: field(1636, u32, 'saved generation'),
    reserved: field(1640, bytes(8), 'reserved'),
    uncleanShutdown: field(1648, u32, '1 while a writer has it open'),
    padding: field(1652, bytes(396), 'zero'),
  },
);
export type CowdHeader = ValuesOf<typeof cowdHeader>;

/** Entries of a grain table of an ESX server sparse extent. */
export const cowdTableEntries = 4096;

/** Constant header of a seSparse extent (not published; fields as QEMU names them). Sizes and offsets in sectors. */
export const seSparseHeader = struct(
  { name: 'SESparseConstHeader', path: 'header', section: 'seSparse: constant header' },
  'little',
  512,
  {
    magic: field(0, bits64, '0xcafebabe'),
    version: field(8, bits64, '0x200000001'),
    capacity: field(16, u64, 'size of the extent in sectors'),
    grain_size: field(24, u64, '8'),
    grain_table_size: field(32, u64, '64'),
    flags: field(40, bits64, '0'),
    reserved1: field(48, bits64, '0'),
    reserved2: field(56, bits64, '0'),
    reserved3: field(64, bits64, '0'),
    reserved4: field(72, bits64, '0'),
    volatile_header_offset: field(80, u64, 'sector of the volatile header', { points: sectorSize }),
    volatile_header_size: field(88, u64, 'its sectors'),
    journal_header_offset: field(96, u64, 'sector of the journal header', { points: sectorSize }),
    journal_header_size: field(104, u64, 'its sectors'),
    journal_offset: field(112, u64, 'sector of the journal', { points: sectorSize }),
    journal_size: field(120, u64, 'its sectors'),
    grain_dir_offset: field(128, u64, 'sector of the grain directory', { points: sectorSize }),
    grain_dir_size: field(136, u64, 'its sectors'),
    grain_tables_offset: field(144, u64, 'sector of the first grain table', { points: sectorSize }),
    grain_tables_size: field(152, u64, 'their sectors'),
    free_bitmap_offset: field(160, u64, 'sector of the free bitmap', { points: sectorSize }),
    free_bitmap_size: field(168, u64, 'its sectors'),
    backmap_offset: field(176, u64, 'sector of the back map', { points: sectorSize }),
    backmap_size: field(184, u64, 'its sectors'),
    grains_offset: field(192, u64, 'sector of the first grain', { points: sectorSize }),
    grains_size: field(200, u64, 'sectors of all grains'),
    pad: field(208, bytes(304), 'zero'),
  },
);
export type SeSparseHeader = ValuesOf<typeof seSparseHeader>;

export const seSparseMagic = 0xcafebaben;
export const seSparseVersion = 0x2_0000_0001n;

/** Volatile header of a seSparse extent. */
export const seSparseVolatile = struct(
  { name: 'SESparseVolatileHeader', path: 'volatile', section: 'seSparse: volatile header' },
  'little',
  512,
  {
    magic: field(0, bits64, '0xcafecafe'),
    free_gt_number: field(8, bits64, 'first free grain table'),
    next_txn_seq_number: field(16, bits64, 'next transaction'),
    replay_journal: field(24, bits64, 'not 0: the journal must be replayed first'),
    pad: field(32, bytes(480), 'zero'),
  },
);
export const seSparseVolatileMagic = 0xcafecafen;

/** The most that is read of a descriptor, in bytes: as much as QEMU reads. */
export const descriptorLimit = 1024 * 1024 - 1;

/** Files that one image may consist of; a 2 GiB-split disk of 8 TiB has as many. */
export const extentLimit = 4096;

/** QEMU's limit for the size of a grain, in sectors (1 GiB). */
export const grainSectorsLimit = 0x200000;

/** Entries of a grain directory: 32 MiB of memory, 256 TiB of disk in the usual geometry. */
export const directoryLimit = 8 * 1024 * 1024;

/** Grain tables of hosted extents have at most so many entries (QEMU's limit, VMware's usual number). */
export const hostedTableEntries = 512;

/** Sector numbers in tables have 32 bits: a sparse file ends here, in bytes. */
export const sparseFileLimit = 2 ** 32 * sectorSize;

/** CID of "no parent". */
export const noParent = 0xffffffff;

/** Room for an embedded descriptor in a new image, and what is taken where a header does not say it. */
export const newDescriptorLength = 20 * sectorSize;

// VHDX on the disk: the structures of [MS-VHDX] in its order and spelling, with the GUIDs and limits that it names.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bits64, bytes, guid, u16, u32, u64 } from '../../bytes/types.ts';
import { KiB, MiB, TiB } from '../../block/units.ts';

export const zeroGuid = '00000000-0000-0000-0000-000000000000';

/** 2.2: the header section, its five pieces and how far a header's checksum reaches. */
export const headerSectionLength = MiB;
export const headerPieceLength = 64 * KiB;
export const fileIdentifierOffset = 0;
export const headerOffsets = [64 * KiB, 128 * KiB] as const;
export const headerLength = 4 * KiB;
export const regionTableOffsets = [192 * KiB, 256 * KiB] as const;
export const regionTableLength = 64 * KiB;
export const maxRegions = 2047;

/** Everything behind the header section lies at multiples of this. */
export const alignment = MiB;

/** 2.2.1 */
export const fileIdentifier = struct(
  { name: 'File Type Identifier', path: 'file_identifier', section: 'MS-VHDX 2.2.1' },
  'little',
  520,
  {
    Signature: field(0, ascii(8), "'vhdxfile'", { is: 'vhdxfile', code: 'vhdx/not-vhdx' }),
    Creator: field(8, bytes(512), 'who made the file, UTF-16, for people only'),
  },
);

/** 2.2.2. The checksum is over the first 4 KiB of the header's 64 KiB. */
export const header = struct({ name: 'Header', path: 'header', section: 'MS-VHDX 2.2.2' }, 'little', 80, {
  Signature: field(0, ascii(4), "'head'", { is: 'head' }),
  Checksum: field(4, u32, 'CRC-32C of the 4 KiB of this header, taken with this field zero'),
  SequenceNumber: field(8, bits64, 'the valid header with the larger number is the current one'),
  FileWriteGuid: field(16, guid, 'new before the first change that an opener makes to the file'),
  DataWriteGuid: field(32, guid, 'new before the first change that a reader of the disk can see'),
  LogGuid: field(48, guid, 'entries of the log with this GUID are to be replayed; zero: the log is empty'),
  LogVersion: field(64, u16, 'version of the log'),
  Version: field(66, u16, 'version of the file', { is: 1, code: 'vhdx/version' }),
  LogLength: field(68, u32, 'bytes of the log, a multiple of 1 MiB'),
  LogOffset: field(72, u64, 'where the log lies in the file, a multiple of 1 MiB', { points: 1 }),
});
export type Header = ValuesOf<typeof header>;

/** 2.2.3.1. The checksum is over the whole 64 KiB. */
export const regionTableHeader = struct(
  { name: 'Region Table Header', path: 'region_table', section: 'MS-VHDX 2.2.3.1' },
  'little',
  16,
  {
    Signature: field(0, ascii(4), "'regi'", { is: 'regi' }),
    Checksum: field(4, u32, 'CRC-32C of the 64 KiB of this table, taken with this field zero'),
    EntryCount: field(8, u32, 'regions that follow', { max: maxRegions }),
    Reserved: field(12, u32, 'zero'),
  },
);

/** 2.2.3.2 */
export const regionTableEntry = struct(
  { name: 'Region Table Entry', path: 'region_table.entry', section: 'MS-VHDX 2.2.3.2' },
  'little',
  32,
  {
    Guid: field(0, guid, 'what the region is'),
    FileOffset: field(16, u64, 'where it lies in the file, a multiple of 1 MiB', { points: 1 }),
    Length: field(24, u32, 'its bytes, a multiple of 1 MiB'),
    Required: field(28, u32, 'bit 0: whoever does not know the region must not open the file'),
  },
);

export const batRegion = '2dc27766-f623-4200-9d64-115e9bfd4a08';
export const metadataRegion = '8b7ca206-4790-4b9a-b8fe-575f050f886e';

/** 2.3: the log works in sectors of 4 KiB. */
export const logSectorLength = 4 * KiB;
/** What Microsoft's own reader allows; a log in the file is never larger. */
export const maxLogLength = 1024 * MiB;
/** The lowest offset that a log entry may write to: the headers are never logged. */
export const firstLoggable = regionTableOffsets[0];

/** 2.3.1.1 */
export const logEntryHeader = struct(
  { name: 'Log Entry Header', path: 'log_entry', section: 'MS-VHDX 2.3.1.1' },
  'little',
  64,
  {
    Signature: field(0, ascii(4), "'loge'", { is: 'loge' }),
    Checksum: field(4, u32, 'CRC-32C of the whole entry, taken with this field zero'),
    EntryLength: field(8, u32, 'bytes of the entry, a multiple of 4 KiB'),
    Tail: field(12, u32, 'offset within the log of the first entry that must be replayed with this one'),
    SequenceNumber: field(16, bits64, 'one more than that of the entry before'),
    DescriptorCount: field(24, u32, 'descriptors that follow'),
    Reserved: field(28, u32, 'zero'),
    LogGuid: field(32, guid, 'LogGuid of the header; an entry with another one is old'),
    FlushedFileOffset: field(48, u64, 'the file was at least this long when the entry was written'),
    LastFileOffset: field(56, u64, 'all structures of the file fit into this length'),
  },
);
export type LogEntryHeader = ValuesOf<typeof logEntryHeader>;

/** 2.3.1.2, 2.3.1.3 */
export const descriptorLength = 32;
export const zeroDescriptor = struct(
  { name: 'Log Zero Descriptor', path: 'log_entry.zero', section: 'MS-VHDX 2.3.1.2' },
  'little',
  descriptorLength,
  {
    ZeroSignature: field(0, ascii(4), "'zero'", { is: 'zero' }),
    Reserved: field(4, u32, 'zero'),
    ZeroLength: field(8, u64, 'bytes to make zero, a multiple of 4 KiB'),
    FileOffset: field(16, u64, 'where, a multiple of 4 KiB', { points: 1 }),
    SequenceNumber: field(24, bits64, 'that of the entry'),
  },
);
export const dataDescriptor = struct(
  { name: 'Log Data Descriptor', path: 'log_entry.data', section: 'MS-VHDX 2.3.1.3' },
  'little',
  descriptorLength,
  {
    DataSignature: field(0, ascii(4), "'desc'", { is: 'desc' }),
    TrailingBytes: field(4, bytes(4), 'the last 4 bytes of the sector'),
    LeadingBytes: field(8, bytes(8), 'the first 8 bytes of the sector'),
    FileOffset: field(16, u64, 'where the sector belongs, a multiple of 4 KiB', { points: 1 }),
    SequenceNumber: field(24, bits64, 'that of the entry'),
  },
);

/** 2.3.1.4 */
export const dataSector = struct(
  { name: 'Log Data Sector', path: 'log_entry.sector', section: 'MS-VHDX 2.3.1.4' },
  'little',
  logSectorLength,
  {
    DataSignature: field(0, ascii(4), "'data'", { is: 'data' }),
    SequenceHigh: field(4, u32, "upper half of the entry's sequence number"),
    Data: field(8, bytes(4084), 'the sector without its first 8 and last 4 bytes'),
    SequenceLow: field(4092, u32, "lower half of the entry's sequence number"),
  },
);

/** 2.5.1: bits 0…2 of an entry of the BAT are the state, bits 20…63 the offset in MiB. */
export const batEntry = struct('BAT Entry', 'little', 8, {
  Entry: field(0, bits64, 'bits 0…2: state of the block; bits 20…63: its offset in the file in MiB'),
});
export const payloadState = {
  notPresent: 0,
  undefined: 1,
  zero: 2,
  unmapped: 3,
  /** What drafts before version 1.00 wrote for unmapped. */
  unmappedOld: 5,
  fullyPresent: 6,
  partiallyPresent: 7,
} as const;
export const bitmapState = { notPresent: 0, present: 6 } as const;
export const bitmapBlockLength = MiB;
/** 2.4: sectors that one bitmap block describes. */
export const sectorsPerChunk = 2 ** 23;

/** 2.6.1.1 */
export const metadataTableLength = 64 * KiB;
const maxMetadataItems = 2047;
/** Bytes of one item at most. */
export const maxItemLength = MiB;
export const metadataTableHeader = struct(
  { name: 'Metadata Table Header', path: 'metadata_table', section: 'MS-VHDX 2.6.1.1' },
  'little',
  32,
  {
    Signature: field(0, ascii(8), "'metadata'", { is: 'metadata', code: 'vhdx/metadata-table' }),
    Reserved: field(8, u16, 'zero'),
    EntryCount: field(10, u16, 'items that follow', { max: maxMetadataItems }),
    Reserved2: field(12, bytes(20), 'zero'),
  },
);

/** 2.6.1.2 */
export const metadataTableEntry = struct(
  { name: 'Metadata Table Entry', path: 'metadata_table.entry', section: 'MS-VHDX 2.6.1.2' },
  'little',
  32,
  {
    ItemId: field(0, guid, 'what the item is'),
    Offset: field(16, u32, 'where it lies within the metadata region, at least 64 KiB'),
    Length: field(20, u32, 'its bytes'),
    Flags: field(24, u32, 'bit 0: IsUser, bit 1: IsVirtualDisk, bit 2: IsRequired'),
    Reserved2: field(28, u32, 'zero'),
  },
);
export const itemFlags = { isUser: 1, isVirtualDisk: 2, isRequired: 4 } as const;

/** 2.6.2: the items that version 1 knows, and those that Microsoft's own tools write besides. */
export const items = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  virtualDiskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  virtualDiskId: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logicalSectorSize: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSectorSize: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
  chsParameters: 'da02d7bc-3d3a-423c-ac88-2a36ab21479b',
  labelStorageArea: '10e1ae8a-4b7e-4169-a40f-cd70de928393',
  /** Stands in a file whose making has not ended. */
  incompleteFile: '71cc85f0-1b69-4e28-9558-c3bf83ae75d3',
} as const;

export const minBlockSize = MiB;
export const maxBlockSize = 256 * MiB;
export const maxVirtualSize = 64 * TiB;
const blockSizes = Array.from({ length: 9 }, (_, power) => MiB * 2 ** power);

/** 2.6.2.1 */
export const fileParameters = struct(
  { name: 'File Parameters', path: 'file_parameters', section: 'MS-VHDX 2.6.2.1' },
  'little',
  8,
  {
    BlockSize: field(0, u32, 'bytes of a payload block', { oneOf: blockSizes, code: 'vhdx/block-size' }),
    Flags: field(4, u32, 'bit 0: LeaveBlocksAllocated (a fixed disk), bit 1: HasParent'),
  },
);
export const parameterFlags = { leaveBlocksAllocated: 1, hasParent: 2 } as const;

/** 2.6.2.2. The field is covered by no checksum: this limit is all there is. */
export const virtualDiskSize = struct(
  { name: 'Virtual Disk Size', path: 'virtual_disk_size', section: 'MS-VHDX 2.6.2.2' },
  'little',
  8,
  {
    VirtualDiskSize: field(0, u64, 'bytes of the virtual disk', { max: maxVirtualSize, code: 'vhdx/virtual-size' }),
  },
);

/** 2.6.2.3 */
export const virtualDiskId = struct(
  { name: 'Virtual Disk ID', path: 'virtual_disk_id', section: 'MS-VHDX 2.6.2.3' },
  'little',
  16,
  {
    VirtualDiskId: field(0, guid, 'identity of the disk, the same in all layers of a chain'),
  },
);

const sectorSizes = [512, 4096];

/** 2.6.2.4 */
export const logicalSectorSize = struct(
  { name: 'Logical Sector Size', path: 'logical_sector_size', section: 'MS-VHDX 2.6.2.4' },
  'little',
  4,
  {
    LogicalSectorSize: field(0, u32, 'bytes of a sector for the guest', {
      oneOf: sectorSizes,
      code: 'vhdx/sector-size',
    }),
  },
);

/** 2.6.2.5 */
export const physicalSectorSize = struct(
  { name: 'Physical Sector Size', path: 'physical_sector_size', section: 'MS-VHDX 2.6.2.5' },
  'little',
  4,
  {
    PhysicalSectorSize: field(0, u32, 'bytes of a physical sector', { oneOf: sectorSizes, code: 'vhdx/sector-size' }),
  },
);

/** 2.6.2.6.1 */
const maxLocatorEntries = 256;
export const parentLocatorHeader = struct(
  { name: 'Parent Locator Header', path: 'parent_locator', section: 'MS-VHDX 2.6.2.6.1' },
  'little',
  20,
  {
    LocatorType: field(0, guid, 'what kind of parent; VHDX is the only one there is'),
    Reserved: field(16, u16, 'zero'),
    KeyValueCount: field(18, u16, 'pairs that follow', { max: maxLocatorEntries }),
  },
);
export const vhdxLocator = 'b04aefb7-d19e-4a81-b789-25b8e9445913';

/** 2.6.2.6.2 */
export const parentLocatorEntry = struct(
  { name: 'Parent Locator Entry', path: 'parent_locator.entry', section: 'MS-VHDX 2.6.2.6.2' },
  'little',
  12,
  {
    KeyOffset: field(0, u32, 'where the key lies within the item'),
    ValueOffset: field(4, u32, 'where the value lies within the item'),
    KeyLength: field(8, u16, 'bytes of the key, UTF-16LE'),
    ValueLength: field(10, u16, 'bytes of the value, UTF-16LE'),
  },
);

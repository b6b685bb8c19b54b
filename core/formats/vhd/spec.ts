// On-disk structures of VHD: footer, dynamic disk header, parent locator entry ("Virtual Hard Disk Image Format Specification", 1.0).
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bits64, bytes, u16, u32, u64, u8, uuid } from '../../bytes/types.ts';

export const footerCookie = 'conectix';
export const headerCookie = 'cxsparse';

/** The footer as old Virtual PC wrote it lacks the last, unused byte. */
export const footerLengths = [512, 511] as const;
export const sectorSize = 512;

/** `disk_type`. */
export const diskType = { fixed: 2, dynamic: 3, differencing: 4 } as const;

/** BAT entry of a block that is not in the file. */
export const unallocated = 0xffff_ffff;

/** 1 January 2000 0:00 UTC, in seconds since 1970: where time stamps count from. */
export const epoch = 946_684_800;

/** Largest virtual size: 2040 GiB. */
export const largestDisk = 0xff00_0000 * sectorSize;

export const usualBlockSize = 0x20_0000;
export const formatVersion = 0x0001_0000;
/** "No further structure": the text says 0xFFFFFFFF, every writer sets all 64 bits. */
export const noOffset = 0xffff_ffff_ffff_ffffn;

/** "Hard Disk Footer Format": at the end of the file, and for dynamic and differencing disks a copy at its start. */
export const footer = struct(
  { name: 'footer', path: 'footer', section: 'VHD 1.0: Hard Disk Footer Format' },
  'big',
  512,
  {
    cookie: field(0, ascii(8), 'who made it: "conectix"', { is: footerCookie, code: 'vhd/not-vhd' }),
    features: field(8, u32, 'features: 1 temporary, 2 reserved (always set)'),
    file_format_version: field(12, u32, 'version of the format: 1.0'),
    data_offset: field(16, bits64, 'offset of the dynamic disk header; all ones for fixed disks', { points: 1 }),
    time_stamp: field(24, u32, 'creation time, seconds since 2000-01-01 0:00 UTC'),
    creator_application: field(28, ascii(4), 'the program that made it'),
    creator_version: field(32, u32, 'major and minor version of that program'),
    creator_host_os: field(36, ascii(4), 'the system it ran on: Wi2k or Mac'),
    original_size: field(40, u64, 'size of the disk when it was made'),
    current_size: field(48, u64, 'size of the disk now'),
    cylinders: field(56, u16, 'disk geometry: cylinders'),
    heads: field(58, u8, 'disk geometry: heads'),
    sectors_per_track: field(59, u8, 'disk geometry: sectors per track'),
    disk_type: field(60, u32, '2 fixed, 3 dynamic, 4 differencing', { oneOf: [2, 3, 4], code: 'vhd/type' }),
    checksum: field(64, u32, "one's complement of the sum of all other bytes"),
    unique_id: field(68, uuid, 'identity of the disk; its children name it'),
    saved_state: field(84, u8, '1: the machine is in a saved state'),
    reserved: field(85, bytes(427), 'reserved'),
  },
);
export type Footer = ValuesOf<typeof footer>;

/** "Dynamic Disk Header Format". */
export const dynamicHeader = struct(
  { name: 'dynamic disk header', path: 'header', section: 'VHD 1.0: Dynamic Disk Header Format' },
  'big',
  1024,
  {
    cookie: field(0, ascii(8), '"cxsparse"', { is: headerCookie, code: 'vhd/header' }),
    data_offset: field(8, bits64, 'unused: all ones'),
    table_offset: field(16, u64, 'offset of the block allocation table (BAT)', { points: 1 }),
    header_version: field(24, u32, 'version of this header: 1.0'),
    max_table_entries: field(28, u32, 'entries of the BAT'),
    block_size: field(32, u32, 'bytes of guest data per block, without its bitmap'),
    checksum: field(36, u32, "one's complement of the sum of all other bytes"),
    parent_unique_id: field(40, uuid, 'differencing: unique_id of the parent'),
    parent_time_stamp: field(56, u32, 'differencing: time stamp of the parent'),
    reserved: field(60, u32, 'reserved'),
    parent_unicode_name: field(64, bytes(512), 'differencing: name of the parent, UTF-16BE'),
    parent_locator_entry_1: field(576, bytes(24), 'where a name of the parent for one platform stands'),
    parent_locator_entry_2: field(600, bytes(24), 'the same, second'),
    parent_locator_entry_3: field(624, bytes(24), 'the same, third'),
    parent_locator_entry_4: field(648, bytes(24), 'the same, fourth'),
    parent_locator_entry_5: field(672, bytes(24), 'the same, fifth'),
    parent_locator_entry_6: field(696, bytes(24), 'the same, sixth'),
    parent_locator_entry_7: field(720, bytes(24), 'the same, seventh'),
    parent_locator_entry_8: field(744, bytes(24), 'the same, eighth'),
    reserved_2: field(768, bytes(256), 'reserved'),
  },
);
export type DynamicHeader = ValuesOf<typeof dynamicHeader>;

export const locatorCount = 8;
export const firstLocator = dynamicHeader.fields.parent_locator_entry_1.offset;

/** "Parent Locator Entry". The unit of `platform_data_space` is sectors in the text and bytes in most files: it is not relied on. */
export const parentLocator = struct(
  { name: 'parent locator entry', path: 'locator', section: 'VHD 1.0: Parent Locator Entries' },
  'big',
  24,
  {
    platform_code: field(0, ascii(4), 'W2ru relative, W2ku absolute (UTF-16LE); MacX file URL (UTF-8); Mac alias'),
    platform_data_space: field(4, u32, 'room for the name'),
    platform_data_length: field(8, u32, 'length of the name in bytes'),
    reserved: field(12, u32, 'reserved'),
    platform_data_offset: field(16, u64, 'offset of the name in the file', { points: 1 }),
  },
);
export type ParentLocator = ValuesOf<typeof parentLocator>;

/** The checksum of a footer or a dynamic disk header whose checksum field stands at `at`. */
export function checksumOf(structure: Uint8Array, at: number): number {
  let sum = 0;
  for (let i = 0; i < structure.length; i++) if (i < at || i >= at + 4) sum += structure[i] ?? 0;
  return ~sum >>> 0;
}

// On-disk structures of NTFS that lead to its cluster bitmap: boot sector, file record, attributes (as the Linux-NTFS project documented them).
import { field, struct, type ValuesOf } from '../bytes/struct.ts';
import { ascii, bits64, bytes, u16, u32, u64, u8 } from '../bytes/types.ts';

export const oemId = 'NTFS    ';

export const bootSector = struct({ name: 'NTFS boot sector', path: 'ntfs', section: 'NTFS: $Boot' }, 'little', 84, {
  jump: field(0, bytes(3), 'jump over this structure'),
  oem_id: field(3, ascii(8), "'NTFS    '"),
  bytes_per_sector: field(11, u16, 'bytes per sector'),
  sectors_per_cluster: field(13, u8, 'sectors per cluster; from 0xf4 on: 2^(256 - this)'),
  reserved: field(14, bytes(26), 'zero, media type, geometry'),
  number_of_sectors: field(40, u64, 'sectors of the volume'),
  mft_lcn: field(48, u64, 'first cluster of the master file table'),
  mftmirr_lcn: field(56, u64, 'first cluster of its copy'),
  clusters_per_mft_record: field(64, u8, 'clusters of a file record; from 0x80 on: 2^(256 - this) bytes'),
  reserved_2: field(65, bytes(3), 'reserved'),
  clusters_per_index_record: field(68, u8, 'the same for an index record'),
  reserved_3: field(69, bytes(3), 'reserved'),
  volume_serial_number: field(72, bits64, 'serial number'),
  checksum: field(80, u32, 'checksum'),
});

/** Files with a fixed number. */
export const fileNumber = { mft: 0, logFile: 2, volume: 3, root: 5, bitmap: 6 } as const;

export const fileRecord = struct(
  { name: 'file record', path: 'mft.record', section: 'NTFS: FILE record' },
  'little',
  42,
  {
    magic: field(0, ascii(4), "'FILE'"),
    usa_ofs: field(4, u16, 'offset of the update sequence'),
    usa_count: field(6, u16, 'its entries: one more than there are sectors'),
    lsn: field(8, bits64, 'sequence number in the log'),
    sequence_number: field(16, u16, 'how often this record was used'),
    link_count: field(18, u16, 'names of the file'),
    attrs_offset: field(20, u16, 'offset of the first attribute'),
    flags: field(22, u16, '1 in use, 2 a directory'),
    bytes_in_use: field(24, u32, 'bytes of the record that count'),
    bytes_allocated: field(28, u32, 'bytes of the record'),
    base_mft_record: field(32, bits64, 'the record that this one extends; 0: none'),
    next_attr_instance: field(40, u16, 'number of the next attribute'),
  },
);

/** What resident and other attributes begin with. */
export const attributeHead = struct('attribute', 'little', 16, {
  type: field(0, u32, 'type'),
  length: field(4, u32, 'bytes of the attribute'),
  non_resident: field(8, u8, '1: the value is elsewhere'),
  name_length: field(9, u8, 'characters of the name'),
  name_offset: field(10, u16, 'offset of the name'),
  flags: field(12, u16, '1 compressed, 0x4000 encrypted, 0x8000 sparse'),
  instance: field(14, u16, 'number in the record'),
});

export const residentPart = struct('resident attribute', 'little', 24, {
  head: field(0, bytes(16), 'as in every attribute'),
  value_length: field(16, u32, 'bytes of the value'),
  value_offset: field(20, u16, 'offset of the value'),
  resident_flags: field(22, u16, 'indexed'),
});

export const nonResidentPart = struct('non-resident attribute', 'little', 64, {
  head: field(0, bytes(16), 'as in every attribute'),
  lowest_vcn: field(16, u64, 'first cluster of the value that the runs here map'),
  highest_vcn: field(24, bits64, 'last of them'),
  mapping_pairs_offset: field(32, u16, 'offset of the runs'),
  compression_unit: field(34, u16, 'compression, reserved'),
  reserved: field(36, u32, 'reserved'),
  allocated_size: field(40, u64, 'bytes of its clusters'),
  data_size: field(48, u64, 'bytes of the value'),
  initialized_size: field(56, u64, 'bytes of it that were written; the rest reads as zeroes'),
});
export type NonResidentPart = ValuesOf<typeof nonResidentPart>;

export const attributeType = {
  list: 0x20,
  fileName: 0x30,
  volumeInformation: 0x70,
  data: 0x80,
  indexRoot: 0x90,
  indexAllocation: 0xa0,
  end: 0xffff_ffff,
} as const;

/** Entry of an attribute list. */
export const listEntry = struct('attribute list entry', 'little', 26, {
  type: field(0, u32, 'type of the attribute'),
  length: field(4, u16, 'bytes of this entry'),
  name_length: field(6, u8, 'characters of the name'),
  name_offset: field(7, u8, 'offset of the name'),
  lowest_vcn: field(8, u64, 'first cluster of the value'),
  mft_reference_low: field(16, u32, 'record that has the attribute, lower half'),
  mft_reference_high: field(20, u16, 'the same, upper half'),
  sequence: field(22, u16, 'sequence number of that record'),
  instance: field(24, u16, 'number of the attribute in it'),
});

export const volumeFlags = {
  dirty: 0x1,
  resizeLogFile: 0x2,
  upgradeOnMount: 0x4,
  deleteUsnUnderway: 0x10,
  chkdskUnderway: 0x4000,
} as const;

/** A page at the start of the log. */
export const restartPage = struct('restart page', 'little', 30, {
  magic: field(0, ascii(4), "'RSTR', or 'CHKD' after chkdsk"),
  usa_ofs: field(4, u16, 'offset of the update sequence'),
  usa_count: field(6, u16, 'its entries'),
  chkdsk_lsn: field(8, bits64, 'for chkdsk'),
  system_page_size: field(16, u32, 'bytes of this page'),
  log_page_size: field(20, u32, 'bytes of the other pages'),
  restart_area_offset: field(24, u16, 'offset of the restart area'),
  minor_ver: field(26, u16, 'minor version'),
  major_ver: field(28, u16, 'major version'),
});

export const restartArea = struct('restart area', 'little', 16, {
  current_lsn: field(0, bits64, 'last sequence number'),
  log_clients: field(8, u16, 'clients'),
  client_free_list: field(10, u16, 'first free client'),
  client_in_use_list: field(12, u16, 'first client in use; 0xffff: none'),
  flags: field(14, u16, '2: the volume was unmounted cleanly'),
});
export const noClient = 0xffff;
export const volumeIsClean = 2;

// On-disk structures of partition tables: the classic table of the first sector (MBR, EBR) and GPT (UEFI Specification 2.10, chapter 5).
import { field, struct, type ValuesOf } from '../bytes/struct.ts';
import { ascii, bits64, bytes, guid, u16, u32, u64, u8 } from '../bytes/types.ts';

/** Sizes of a logical sector that tables are looked for with. */
export const sectorSizes = [512, 4096] as const;

/** Bytes of the first sector that the tables use, whatever the sector's size. */
export const mbrLength = 512;

/** The last two bytes of `mbrLength`. */
export const mbrSignature = 0xaa55;

/** `system` values with a meaning here. */
export const systemId = { empty: 0x00, protective: 0xee, extended: [0x05, 0x0f, 0x85] as readonly number[] } as const;

/** "Legacy Master Boot Record (MBR)", table 5.1; an extended boot record (EBR) has the same form and uses its first two entries. */
export const mbr = struct({ name: 'mbr', path: 'mbr', section: 'UEFI 5.2.1' }, 'little', mbrLength, {
  boot_code: field(0, bytes(440), 'code that firmware runs'),
  disk_signature: field(440, u32, 'identity of the disk'),
  unknown: field(444, u16, 'unused'),
  partition_records: field(446, bytes(64), 'four partition records'),
  signature: field(510, u16, '0xaa55', { is: mbrSignature }),
});

/** "Legacy MBR Partition Record", table 5.2. */
export const mbrRecord = struct(
  { name: 'partition record', path: 'mbr.partition', section: 'UEFI 5.2.1, table 5.2' },
  'little',
  16,
  {
    boot_indicator: field(0, u8, '0x80: firmware starts this one'),
    starting_chs: field(1, bytes(3), 'first sector as cylinder, head, sector'),
    os_type: field(4, u8, 'kind of partition'),
    ending_chs: field(5, bytes(3), 'last sector as cylinder, head, sector'),
    starting_lba: field(8, u32, 'first sector'),
    size_in_lba: field(12, u32, 'number of sectors'),
  },
);
export type MbrRecord = ValuesOf<typeof mbrRecord>;

export const gptSignature = 'EFI PART';

/** "GPT Header", table 5.5. */
export const gptHeader = struct({ name: 'gpt header', path: 'gpt', section: 'UEFI 5.3.2' }, 'little', 92, {
  signature: field(0, ascii(8), '"EFI PART"', { is: gptSignature }),
  revision: field(8, u32, 'revision of this header: 1.0'),
  header_size: field(12, u32, 'bytes of the header that its checksum covers', { min: 92, max: 4096 }),
  header_crc32: field(16, u32, 'CRC-32 of the header, taken with zero in this field'),
  reserved: field(20, u32, 'zero'),
  my_lba: field(24, u64, 'the sector of this header'),
  alternate_lba: field(32, u64, 'the sector of the other header'),
  first_usable_lba: field(40, u64, 'first sector that a partition may have'),
  last_usable_lba: field(48, u64, 'last sector that a partition may have'),
  disk_guid: field(56, guid, 'identity of the disk'),
  partition_entry_lba: field(72, u64, 'first sector of the entries'),
  number_of_partition_entries: field(80, u32, 'number of entries'),
  size_of_partition_entry: field(84, u32, 'bytes per entry', { min: 128, max: 4096 }),
  partition_entry_array_crc32: field(88, u32, 'CRC-32 of the entries'),
});
export type GptHeader = ValuesOf<typeof gptHeader>;

/** Entries that are read at most, in bytes: 1024 entries of 4096 bytes, or 32768 of the usual 128. */
export const largestEntryArray = 4 * 1024 * 1024;

/** "GPT Partition Entry", table 5.6. */
export const gptEntry = struct({ name: 'gpt entry', path: 'gpt.entry', section: 'UEFI 5.3.3' }, 'little', 128, {
  partition_type_guid: field(0, guid, 'kind of partition; all zero: unused'),
  unique_partition_guid: field(16, guid, 'identity of the partition'),
  starting_lba: field(32, u64, 'first sector'),
  ending_lba: field(40, u64, 'last sector'),
  attributes: field(48, bits64, 'attribute bits'),
  partition_name: field(56, bytes(72), 'name, UTF-16'),
});

export const unusedType = '00000000-0000-0000-0000-000000000000';

// The boot sector of FAT file systems (Microsoft, "FAT File System Specification", BPB of FAT12/16 and of FAT32).
import { field, struct, type ValuesOf } from '../bytes/struct.ts';
import { ascii, bytes, u16, u32, u8 } from '../bytes/types.ts';

const named = { name: 'FAT boot sector', path: 'fat', section: 'FAT: Boot Sector and BPB' };

const start = {
  BS_jmpBoot: field(0, bytes(3), 'jump over this structure: eb xx 90 or e9 xx xx'),
  BS_OEMName: field(3, ascii(8), 'who made it'),
  BPB_BytsPerSec: field(11, u16, 'bytes per sector'),
  BPB_SecPerClus: field(13, u8, 'sectors per cluster'),
  BPB_RsvdSecCnt: field(14, u16, 'sectors before the first FAT'),
  BPB_NumFATs: field(16, u8, 'FATs'),
  BPB_RootEntCnt: field(17, u16, 'entries of the root directory; 0 on FAT32'),
  BPB_TotSec16: field(19, u16, 'sectors, if fewer than 65536'),
  BPB_Media: field(21, u8, 'kind of medium: 0xf0, 0xf8 … 0xff'),
  BPB_FATSz16: field(22, u16, 'sectors of one FAT; 0 on FAT32'),
  BPB_SecPerTrk: field(24, u16, 'geometry'),
  BPB_NumHeads: field(26, u16, 'geometry'),
  BPB_HiddSec: field(28, u32, 'sectors before the volume'),
  BPB_TotSec32: field(32, u32, 'sectors, if 65536 or more'),
};
const end = { BS_Sign: field(510, u16, '0xaa55') };
const wide = {
  BPB_FATSz32: field(36, u32, 'sectors of one FAT'),
  BPB_ExtFlags: field(40, u16, 'bit 7: only the FAT of bits 0…3 is in use'),
  BPB_FSVer: field(42, u16, 'version'),
  BPB_RootClus: field(44, u32, 'first cluster of the root directory'),
  BPB_FSInfo: field(48, u16, 'sector with the count of free clusters'),
  BPB_BkBootSec: field(50, u16, 'sector of the copy of the boot record'),
};

/** What FAT12, FAT16 and FAT32 have in common, and the fields that only FAT32 has. */
export const bootSector = struct(named, 'little', 512, {
  ...start,
  ...wide,
  BPB_Reserved: field(52, bytes(13), 'FAT32: reserved, drive number'),
  BS_Reserved1: field(65, u8, 'FAT32: bit 0: not unmounted cleanly, bit 1: to be tested'),
  BS_rest: field(66, bytes(444), 'serial number, label, boot code'),
  ...end,
});

/** The boot sector of FAT12 and FAT16 as people look at it. */
export const oldBootSector = struct(named, 'little', 512, {
  ...start,
  BS_DrvNum: field(36, u8, 'drive number for the BIOS'),
  BS_Reserved1: field(37, u8, 'bit 0: not unmounted cleanly, bit 1: to be tested'),
  BS_BootSig: field(38, u8, '0x29: the three fields that follow are there'),
  BS_VolID: field(39, u32, 'serial number'),
  BS_VolLab: field(43, ascii(11), 'label'),
  BS_FilSysType: field(54, ascii(8), 'what it calls itself; decides nothing'),
  BS_BootCode: field(62, bytes(448), 'boot code'),
  ...end,
});

/** The boot sector of FAT32 as people look at it. */
export const wideBootSector = struct(named, 'little', 512, {
  ...start,
  ...wide,
  BPB_Reserved: field(52, bytes(12), 'reserved'),
  BS_DrvNum: field(64, u8, 'drive number for the BIOS'),
  BS_Reserved1: field(65, u8, 'bit 0: not unmounted cleanly, bit 1: to be tested'),
  BS_BootSig: field(66, u8, '0x29: the three fields that follow are there'),
  BS_VolID: field(67, u32, 'serial number'),
  BS_VolLab: field(71, ascii(11), 'label'),
  BS_FilSysType: field(82, ascii(8), 'what it calls itself; decides nothing'),
  BS_BootCode: field(90, bytes(420), 'boot code'),
  ...end,
});
export type BootSector = ValuesOf<typeof bootSector>;

export const bootSignature = 0xaa55;

/** Where FAT12 and FAT16 keep what FAT32 keeps in `BS_Reserved1`. */
export const oldStateOffset = 37;

/** Bits of FAT entry 1 that are clear when the volume is dirty or an error was met. */
export const cleanBits = { fat16: 0xc000, fat32: 0x0c00_0000 } as const;

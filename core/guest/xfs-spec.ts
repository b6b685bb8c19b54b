// The superblock of XFS, as far as it tells what the file system is ("XFS Algorithms & Data Structures", chapter "Allocation Groups").
import { field, struct } from '../bytes/struct.ts';
import { ascii, bits64, u16, u32, u64, u8, uuid } from '../bytes/types.ts';

/** "XFSB" */
export const xfsMagic = 0x58465342;

export const superblock = struct({ name: 'XFS superblock', path: 'xfs', section: 'XFS: Superblocks' }, 'big', 160, {
  sb_magicnum: field(0, u32, '"XFSB"', { is: xfsMagic }),
  sb_blocksize: field(4, u32, 'bytes per block'),
  sb_dblocks: field(8, u64, 'blocks of the file system'),
  sb_rblocks: field(16, u64, 'blocks of the real-time device'),
  sb_rextents: field(24, u64, 'extents of the real-time device'),
  sb_uuid: field(32, uuid, 'UUID'),
  sb_logstart: field(48, bits64, 'first block of the journal; 0: it is on another device'),
  sb_rootino: field(56, bits64, 'inode of the root directory'),
  sb_rbmino: field(64, bits64, 'inode of the real-time bitmap'),
  sb_rsumino: field(72, bits64, 'inode of the real-time summary'),
  sb_rextsize: field(80, u32, 'blocks of a real-time extent'),
  sb_agblocks: field(84, u32, 'blocks of an allocation group'),
  sb_agcount: field(88, u32, 'allocation groups'),
  sb_rbmblocks: field(92, u32, 'blocks of the real-time bitmap'),
  sb_logblocks: field(96, u32, 'blocks of the journal'),
  sb_versionnum: field(100, u16, 'version and feature bits'),
  sb_sectsize: field(102, u16, 'bytes of a sector'),
  sb_inodesize: field(104, u16, 'bytes of an inode'),
  sb_inopblock: field(106, u16, 'inodes per block'),
  sb_fname: field(108, ascii(12), 'label'),
  sb_blocklog: field(120, u8, 'log2 of the block size'),
  sb_sectlog: field(121, u8, 'log2 of the sector size'),
  sb_inodelog: field(122, u8, 'log2 of the inode size'),
  sb_inopblog: field(123, u8, 'log2 of the inodes per block'),
  sb_agblklog: field(124, u8, 'log2 of the blocks of an allocation group, rounded up'),
  sb_rextslog: field(125, u8, 'log2 of the real-time extents'),
  sb_inprogress: field(126, u8, '1 while it is being made'),
  sb_imax_pct: field(127, u8, 'percent of the room that inodes may take'),
  sb_icount: field(128, u64, 'inodes'),
  sb_ifree: field(136, u64, 'free inodes'),
  sb_fdblocks: field(144, u64, 'free blocks'),
  sb_frextents: field(152, u64, 'free real-time extents'),
});

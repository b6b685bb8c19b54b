// On-disk structures of ext2, ext3 and ext4 that tell which blocks are free: superblock and group descriptor (kernel documentation, "ext4 Data Structures").
import { field, struct, type ValuesOf } from '../bytes/struct.ts';
import { ascii, bytes, u16, u32, uuid } from '../bytes/types.ts';

export const superblockOffset = 1024;
export const superMagic = 0xef53;

/** `ext4_super_block`, as far as it is needed here. */
export const superblock = struct(
  { name: 'ext superblock', path: 'ext', section: 'ext4: The Super Block' },
  'little',
  0x288,
  {
    s_inodes_count: field(0x0, u32, 'inodes'),
    s_blocks_count_lo: field(0x4, u32, 'blocks, lower half'),
    s_r_blocks_count_lo: field(0x8, u32, 'blocks reserved for the superuser'),
    s_free_blocks_count_lo: field(0xc, u32, 'free blocks, lower half'),
    s_free_inodes_count: field(0x10, u32, 'free inodes'),
    s_first_data_block: field(0x14, u32, 'first block that belongs to a group'),
    s_log_block_size: field(0x18, u32, 'block size is 1024 << this'),
    s_log_cluster_size: field(0x1c, u32, 'cluster size is 1024 << this (bigalloc)'),
    s_blocks_per_group: field(0x20, u32, 'blocks per group'),
    s_clusters_per_group: field(0x24, u32, 'clusters per group'),
    s_inodes_per_group: field(0x28, u32, 'inodes per group'),
    s_mtime: field(0x2c, u32, 'time of the last mount'),
    s_wtime: field(0x30, u32, 'time of the last write'),
    s_mnt_count: field(0x34, u16, 'mounts since the last check'),
    s_max_mnt_count: field(0x36, u16, 'mounts until a check is needed'),
    s_magic: field(0x38, u16, '0xef53'),
    s_state: field(0x3a, u16, '1 cleanly unmounted, 2 errors detected, 4 orphans being recovered'),
    s_errors: field(0x3c, u16, 'what to do on errors'),
    s_minor_rev_level: field(0x3e, u16, 'minor revision'),
    s_lastcheck: field(0x40, u32, 'time of the last check'),
    s_checkinterval: field(0x44, u32, 'time between checks'),
    s_creator_os: field(0x48, u32, 'system that made it'),
    s_rev_level: field(0x4c, u32, '0: no features; 1: the rest of this structure counts'),
    s_def_resuid: field(0x50, u16, 'user of the reserved blocks'),
    s_def_resgid: field(0x52, u16, 'group of the reserved blocks'),
    s_first_ino: field(0x54, u32, 'first inode that is not reserved'),
    s_inode_size: field(0x58, u16, 'bytes of an inode'),
    s_block_group_nr: field(0x5a, u16, 'group of this copy'),
    s_feature_compat: field(0x5c, u32, 'compatible features'),
    s_feature_incompat: field(0x60, u32, 'features that a reader must know'),
    s_feature_ro_compat: field(0x64, u32, 'features that a writer must know'),
    s_uuid: field(0x68, uuid, 'UUID'),
    s_volume_name: field(0x78, ascii(16), 'label'),
    s_last_mounted: field(0x88, ascii(64), 'where it was mounted last'),
    s_algorithm_usage_bitmap: field(0xc8, u32, 'for compression'),
    s_prealloc_blocks: field(0xcc, bytes(2), 'preallocation'),
    s_reserved_gdt_blocks: field(0xce, u16, 'blocks kept for a longer descriptor table'),
    s_journal_uuid: field(0xd0, bytes(16), 'UUID of the journal'),
    s_journal_inum: field(0xe0, u32, 'inode of the journal'),
    s_journal_dev: field(0xe4, u32, 'device of the journal'),
    s_last_orphan: field(0xe8, u32, 'first of the inodes that wait to be deleted'),
    s_hash_seed: field(0xec, bytes(16), 'seed of directory hashes'),
    s_def_hash_version: field(0xfc, bytes(2), 'hash of directories, journal backup'),
    s_desc_size: field(0xfe, u16, 'bytes of a group descriptor (64bit)'),
    s_default_mount_opts: field(0x100, u32, 'default mount options'),
    s_first_meta_bg: field(0x104, u32, 'first metablock group'),
    s_mkfs_time: field(0x108, u32, 'time it was made'),
    s_jnl_blocks: field(0x10c, bytes(68), 'copy of the journal inode'),
    s_blocks_count_hi: field(0x150, u32, 'blocks, upper half'),
    s_r_blocks_count_hi: field(0x154, u32, 'reserved blocks, upper half'),
    s_free_blocks_count_hi: field(0x158, u32, 'free blocks, upper half'),
    s_further: field(0x15c, bytes(240), 'not needed here'),
    s_backup_bgs: field(0x24c, bytes(8), 'the two groups with copies (sparse_super2)'),
    s_encrypt: field(0x254, bytes(52), 'not needed here'),
  },
);
export type Superblock = ValuesOf<typeof superblock>;

export const state = { clean: 1, errors: 2 } as const;

export const compat = { sparseSuper2: 0x200 } as const;
export const incompat = { recover: 0x4, journalDevice: 0x8, metaGroups: 0x10, wide: 0x80 } as const;
/** filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, dirdata, csum_seed, largedir, inline_data, encrypt, casefold. */
export const knownIncompat =
  0x2 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
export const roCompat = { sparseSuper: 0x1, groupChecksum: 0x10, bigalloc: 0x200, metadataChecksum: 0x400 } as const;
/**
 * sparse_super, large_file, btree_dir, huge_file, uninit_bg, dir_nlink, extra_isize, quota, bigalloc, metadata_csum, project, verity.
 * Not: orphan_present, snapshots, replicas.
 */
export const knownRoCompat =
  0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x8000;

/** `ext4_group_desc` in its short form (32 bytes). */
export const groupDescriptor = struct(
  { name: 'group descriptor', path: 'ext.group', section: 'ext4: Block Group Descriptors' },
  'little',
  32,
  {
    bg_block_bitmap_lo: field(0x0, u32, 'block of the block bitmap'),
    bg_inode_bitmap_lo: field(0x4, u32, 'block of the inode bitmap'),
    bg_inode_table_lo: field(0x8, u32, 'first block of the inode table'),
    bg_free_blocks_count_lo: field(0xc, u16, 'free blocks (clusters)'),
    bg_free_inodes_count_lo: field(0xe, u16, 'free inodes'),
    bg_used_dirs_count_lo: field(0x10, u16, 'directories'),
    bg_flags: field(0x12, u16, '1 inode table not initialised, 2 block bitmap not initialised, 4 inode table zeroed'),
    bg_exclude_bitmap_lo: field(0x14, u32, 'bitmap of snapshots'),
    bg_block_bitmap_csum_lo: field(0x18, u16, 'checksum of the block bitmap'),
    bg_inode_bitmap_csum_lo: field(0x1a, u16, 'checksum of the inode bitmap'),
    bg_itable_unused_lo: field(0x1c, u16, 'unused inodes'),
    bg_checksum: field(0x1e, u16, 'checksum of the descriptor'),
  },
);

/** What the long form (64bit) adds. */
export const groupDescriptorHigh = struct('group descriptor, upper half', 'little', 32, {
  bg_block_bitmap_hi: field(0x0, u32, 'block of the block bitmap, upper half'),
  bg_inode_bitmap_hi: field(0x4, u32, 'block of the inode bitmap, upper half'),
  bg_inode_table_hi: field(0x8, u32, 'first block of the inode table, upper half'),
  bg_free_blocks_count_hi: field(0xc, u16, 'free blocks, upper half'),
  bg_free_inodes_count_hi: field(0xe, u16, 'free inodes, upper half'),
  bg_used_dirs_count_hi: field(0x10, u16, 'directories, upper half'),
  bg_itable_unused_hi: field(0x12, u16, 'unused inodes, upper half'),
  bg_exclude_bitmap_hi: field(0x14, u32, 'bitmap of snapshots, upper half'),
  bg_block_bitmap_csum_hi: field(0x18, u16, 'checksum of the block bitmap, upper half'),
  bg_inode_bitmap_csum_hi: field(0x1a, u16, 'checksum of the inode bitmap, upper half'),
  bg_reserved: field(0x1c, u32, 'reserved'),
});

export const groupFlags = { blockUninit: 2 } as const;

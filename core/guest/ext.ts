// ext2, ext3 and ext4: which blocks their group bitmaps call free.
import type { GuestRange } from '../block/units.ts';
import { KiB } from '../block/units.ts';
import {
  compat,
  groupDescriptor,
  groupDescriptorHigh,
  groupFlags,
  incompat,
  knownIncompat,
  knownRoCompat,
  roCompat,
  state,
  superblock,
  superblockOffset,
  superMagic,
  type Superblock,
} from './ext-spec.ts';
import { clearRuns, damaged, joined, leftAlone, type FileSystem, type Volume } from './volume.ts';

/** What follows from the superblock. Blocks and clusters are counted, sizes are bytes. */
interface ExtLayout {
  readonly fields: Superblock;
  readonly blockSize: number;
  readonly blocks: number;
  readonly clusterBlocks: number;
  readonly groups: number;
  readonly descriptorSize: number;
  readonly descriptorsPerBlock: number;
  readonly backups: readonly number[];
}

interface Group {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeClusters: number;
  readonly flags: number;
}

/** Blocks of a group at least, and groups at most: beyond what any program makes, and few enough to go through. */
const fewestBlocks = 256;
const mostGroups = 16 * 1024 * 1024;

/** The ext file system of `volume`; null: there is none. Throws what reading the image throws. */
export function extIn(volume: Volume): FileSystem | null {
  if (!volume.holds(superblockOffset, superblock.size)) return null;
  const head = volume.bytes(superblockOffset, superblock.size, 'the superblock');
  const fields = superblock.parseLoosely(head);
  if (fields.s_magic !== superMagic) return null;
  const kind = kindOf(fields);
  const reason = refusal(fields);
  if (reason !== null) return leftAlone(kind, volume, reason);
  const layout = layoutOf(fields, head);
  if (typeof layout === 'string') return leftAlone(kind, volume, layout);
  if (layout.blocks * layout.blockSize > volume.length) {
    return leftAlone(kind, volume, 'it is larger than its partition');
  }
  return { kind, volume, refused: null, freeRanges: () => joined(freeBlocks(volume, layout)) };
}

function kindOf({ s_feature_compat, s_feature_incompat, s_feature_ro_compat, s_rev_level }: Superblock): string {
  if (s_rev_level === 0) return 'ext2';
  if ((s_feature_incompat & ~0x1e) !== 0 || (s_feature_ro_compat & ~0x7) !== 0) return 'ext4';
  return (s_feature_compat & 0x4) === 0 ? 'ext2' : 'ext3';
}

/** Why the bitmaps cannot be believed, or read; null: they can. */
function refusal({ s_state, s_rev_level, s_last_orphan, ...fields }: Superblock): string | null {
  const { s_feature_incompat: needed, s_feature_ro_compat: forWriters } = fields;
  if (s_rev_level > 1) return `its revision ${s_rev_level} is not known`;
  if ((s_state & state.errors) !== 0) return 'it is marked as having errors';
  if ((s_state & state.clean) === 0) return 'it was not unmounted cleanly';
  if (s_rev_level === 0) return null;
  if ((needed & incompat.recover) !== 0) return 'its journal needs recovery';
  if ((needed & incompat.journalDevice) !== 0) return 'it is a journal of another file system';
  if ((needed & ~knownIncompat) !== 0)
    return `it has features that are not known (0x${(needed & ~knownIncompat).toString(16)})`;
  if ((forWriters & ~knownRoCompat) !== 0) {
    return `it has features that are not known (0x${((forWriters & ~knownRoCompat) >>> 0).toString(16)} for writers)`;
  }
  if (s_last_orphan !== 0) return 'files that were deleted while open wait to be cleaned up';
  return null;
}

/** The layout, each number checked; or what is wrong, in words. */
function layoutOf(fields: Superblock, head: Uint8Array): ExtLayout | string {
  if (fields.s_log_block_size > 6) return 'its block size is not possible';
  const blockSize = KiB * 2 ** fields.s_log_block_size;
  const modern = fields.s_rev_level > 0;
  const wide = modern && (fields.s_feature_incompat & incompat.wide) !== 0;
  const bigalloc = modern && (fields.s_feature_ro_compat & roCompat.bigalloc) !== 0;
  const clusterBlocks = bigalloc ? 2 ** (fields.s_log_cluster_size - fields.s_log_block_size) : 1;
  if (!Number.isInteger(clusterBlocks) || clusterBlocks > 2 ** 20) return 'its cluster size is not possible';
  const blocks = fields.s_blocks_count_lo + (wide ? fields.s_blocks_count_hi * 0x1_0000_0000 : 0);
  if (!Number.isSafeInteger(blocks * blockSize)) return 'its size is not possible';
  const perGroup = fields.s_blocks_per_group;
  const clustersPerGroup = perGroup / clusterBlocks;
  if (perGroup < fewestBlocks || !Number.isInteger(clustersPerGroup) || clustersPerGroup > blockSize * 8) {
    return 'its groups have no possible size';
  }
  if (bigalloc && fields.s_clusters_per_group !== clustersPerGroup) return 'its groups do not fit its clusters';
  const first = fields.s_first_data_block;
  if (first !== (blockSize === KiB && !bigalloc ? 1 : 0) || blocks <= first) return 'its first block is not possible';
  const descriptorSize = wide ? fields.s_desc_size : 32;
  if (
    descriptorSize < (wide ? 64 : 32) ||
    descriptorSize > blockSize ||
    (descriptorSize & (descriptorSize - 1)) !== 0
  ) {
    return 'the size of its descriptors is not possible';
  }
  const groups = Math.ceil((blocks - first) / perGroup);
  if (groups > mostGroups) return 'it has too many groups';
  const view = new DataView(head.buffer, head.byteOffset);
  const backupsAt = superblock.fields.s_backup_bgs.offset;
  return {
    fields,
    blockSize,
    blocks,
    clusterBlocks,
    groups,
    descriptorSize,
    descriptorsPerBlock: blockSize / descriptorSize,
    backups: [view.getUint32(backupsAt, true), view.getUint32(backupsAt + 4, true)],
  };
}

function has(layout: ExtLayout, set: 's_feature_compat' | 's_feature_incompat' | 's_feature_ro_compat', bit: number) {
  return layout.fields.s_rev_level > 0 && (layout.fields[set] & bit) !== 0;
}

function firstBlockOf(layout: ExtLayout, group: number): number {
  return layout.fields.s_first_data_block + group * layout.fields.s_blocks_per_group;
}

/** A copy of the superblock stands at the start of this group ("Layout": sparse_super, sparse_super2). */
function hasSuper(layout: ExtLayout, group: number): boolean {
  if (group === 0) return true;
  if (has(layout, 's_feature_compat', compat.sparseSuper2)) return layout.backups.includes(group);
  if (group === 1 || !has(layout, 's_feature_ro_compat', roCompat.sparseSuper)) return true;
  return [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

/** The group from which on descriptors stand in their metablock group. */
function firstMetaGroup(layout: ExtLayout): number {
  if (!has(layout, 's_feature_incompat', incompat.metaGroups)) return Infinity;
  return layout.fields.s_first_meta_bg * layout.descriptorsPerBlock;
}

/** The block that holds part `index` of the descriptor table. */
function descriptorBlock(layout: ExtLayout, index: number): number {
  const group = index * layout.descriptorsPerBlock;
  const at = layout.blockSize === KiB ? 1 : 0;
  if (group < firstMetaGroup(layout)) return at + 1 + index;
  // With blocks of 1 KiB in clusters the superblock stands in block 1, though the first group begins at block 0.
  const shifted = at === 1 && index === 0 && layout.fields.s_first_data_block === 0 ? 1 : 0;
  return firstBlockOf(layout, group) + (hasSuper(layout, group) ? 1 : 0) + shifted;
}

function parseGroup(layout: ExtLayout, bytes: Uint8Array): Group {
  const low = groupDescriptor.parseLoosely(bytes);
  const high = layout.descriptorSize >= 64 ? groupDescriptorHigh.parseLoosely(bytes.subarray(32)) : null;
  const both = (lower: number, upper: number | undefined, unit: number): number => lower + (upper ?? 0) * unit;
  return {
    blockBitmap: both(low.bg_block_bitmap_lo, high?.bg_block_bitmap_hi, 0x1_0000_0000),
    inodeBitmap: both(low.bg_inode_bitmap_lo, high?.bg_inode_bitmap_hi, 0x1_0000_0000),
    inodeTable: both(low.bg_inode_table_lo, high?.bg_inode_table_hi, 0x1_0000_0000),
    freeClusters: both(low.bg_free_blocks_count_lo, high?.bg_free_blocks_count_hi, 0x1_0000),
    flags: low.bg_flags,
  };
}

/** Group by group; a group whose bitmap does not agree with its count of free blocks ends it. */
function* freeBlocks(volume: Volume, layout: ExtLayout): Generator<GuestRange, void, void> {
  const { blockSize, clusterBlocks, groups, descriptorsPerBlock, descriptorSize } = layout;
  const perGroup = layout.fields.s_blocks_per_group;
  const usesFlags =
    has(layout, 's_feature_ro_compat', roCompat.groupChecksum) ||
    has(layout, 's_feature_ro_compat', roCompat.metadataChecksum);
  const descriptors = new Uint8Array(blockSize);
  const bitmap = new Uint8Array(blockSize);
  for (let group = 0; group < groups; group++) {
    const within = group % descriptorsPerBlock;
    if (within === 0) {
      const at = descriptorBlock(layout, group / descriptorsPerBlock) * blockSize;
      volume.readInto(descriptors, at, 'a part of the group descriptors');
    }
    const entry = parseGroup(layout, descriptors.subarray(within * descriptorSize));
    const first = firstBlockOf(layout, group);
    const blocks = Math.min(perGroup, layout.blocks - first);
    const clusters = Math.ceil(blocks / clusterBlocks);
    if (usesFlags && (entry.flags & groupFlags.blockUninit) !== 0) untouched(bitmap, layout, group, entry);
    else volume.readInto(bitmap, entry.blockBitmap * blockSize, `the block bitmap of group ${group}`);
    let free = 0;
    for (const [, length] of clearRuns(bitmap, clusters)) free += length;
    if (free !== entry.freeClusters) {
      const reason = `group ${group} counts ${entry.freeClusters} free blocks, its bitmap has ${free}`;
      throw damaged(reason, volume.start + first * blockSize);
    }
    for (const [start, length] of clearRuns(bitmap, clusters)) {
      const from = start * clusterBlocks;
      const count = Math.min(length * clusterBlocks, blocks - from);
      yield volume.range((first + from) * blockSize, count * blockSize);
    }
  }
}

/** The bitmap of a group that has none yet (BLOCK_UNINIT): its own metadata is in use and nothing else. */
function untouched(bitmap: Uint8Array, layout: ExtLayout, group: number, entry: Group): void {
  bitmap.fill(0);
  const first = firstBlockOf(layout, group);
  const perGroup = layout.fields.s_blocks_per_group;
  const mark = (block: number, count: number): void => {
    const end = Math.ceil((Math.min(block + count, first + perGroup) - first) / layout.clusterBlocks);
    for (let cluster = Math.floor((Math.max(block, first) - first) / layout.clusterBlocks); cluster < end; cluster++) {
      bitmap[cluster >> 3] = (bitmap[cluster >> 3] ?? 0) | (1 << (cluster & 7));
    }
  };
  mark(first, baseBlocks(layout, group));
  mark(entry.blockBitmap, 1);
  mark(entry.inodeBitmap, 1);
  const { s_inodes_per_group: inodes, s_inode_size: inodeSize, s_rev_level } = layout.fields;
  mark(entry.inodeTable, Math.ceil((inodes * (s_rev_level === 0 ? 128 : inodeSize)) / layout.blockSize));
}

/** Blocks at the start of a group for the copies of superblock and descriptors. */
function baseBlocks(layout: ExtLayout, group: number): number {
  const { descriptorsPerBlock } = layout;
  const own = hasSuper(layout, group) ? 1 : 0;
  const firstMeta = firstMetaGroup(layout);
  if (group < firstMeta) {
    if (own === 0) return 0;
    const table = Number.isFinite(firstMeta)
      ? layout.fields.s_first_meta_bg
      : Math.ceil(layout.groups / descriptorsPerBlock);
    return own + table + layout.fields.s_reserved_gdt_blocks;
  }
  const within = group % descriptorsPerBlock;
  return own + (within === 0 || within === 1 || within === descriptorsPerBlock - 1 ? 1 : 0);
}

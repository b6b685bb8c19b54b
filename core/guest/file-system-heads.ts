// What a file system begins with, for the hex view: superblocks, boot sectors, group descriptors, the header of LUKS.
import { annotateHeader } from '../block/crypto/luks/header.ts';
import { headerLength } from '../block/crypto/luks/spec.ts';
import type { Annotation } from '../bytes/struct.ts';
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import type { HostRange } from '../block/units.ts';
import { isImageError } from '../errors/image-error.ts';
import type { Region } from '../formats/driver.ts';
import { groupDescriptor, incompat, superblock as extSuperblock, superblockOffset } from './ext-spec.ts';
import { oldBootSector, wideBootSector } from './fat-spec.ts';
import { bootSector as ntfsBoot } from './ntfs-spec.ts';
import type { FileSystem } from './volume.ts';
import { superblock as xfsSuperblock } from './xfs-spec.ts';

interface Rows {
  readonly size: number;
  annotate(bytes: Uint8Array, at: number): Annotation[];
}

/** The structures at the start of a file system, as regions of the guest's disk. None for what is only recognised by name. */
export function headsOf(node: BlockNode, { kind, volume }: FileSystem): readonly Region[] {
  const { start } = volume;
  const head = (
    at: number,
    label: string,
    rows: (bytes: Uint8Array, at: number) => Annotation[],
    length: number,
  ): Region => ({
    start: start + at,
    length,
    label,
    kind: 'header',
    annotate: (window) => cut(window, rows(bytesAt(node, start + at, length), start + at)),
  });
  const plain = (at: number, label: string, rows: Rows): Region =>
    head(at, label, (bytes, place) => rows.annotate(bytes, place), rows.size);
  if (kind.startsWith('ext')) {
    return [plain(superblockOffset, `${kind} superblock`, extSuperblock), ...groups(node, start, kind)];
  }
  if (kind === 'ntfs') return [head(0, 'NTFS boot sector', (bytes, at) => ntfsRows(bytes, at), ntfsBoot.size)];
  if (kind.startsWith('fat')) {
    return [plain(0, `${kind.toUpperCase()} boot sector`, kind === 'fat32' ? wideBootSector : oldBootSector)];
  }
  if (kind === 'XFS') return [plain(0, 'XFS superblock', xfsSuperblock)];
  if (kind === 'LUKS') return [head(0, 'LUKS header', annotateHeader, headerLength)];
  return [];
}

function bytesAt(node: BlockNode, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, node.size - start)));
  if (bytes.length > 0) readGuest(node, bytes, start);
  return bytes;
}

function cut(window: HostRange, rows: readonly Annotation[]): Annotation[] {
  const end = window.start + window.length;
  return rows.filter(({ start, length }) => start < end && start + length > window.start);
}

/** The table of group descriptors: behind the block of the superblock. */
function groups(node: BlockNode, start: number, kind: string): readonly Region[] {
  let values;
  try {
    values = extSuperblock.parse(bytesAt(node, start + superblockOffset, extSuperblock.size));
  } catch (error) {
    if (isImageError(error)) return [];
    throw error;
  }
  const { s_log_block_size, s_first_data_block, s_blocks_per_group, s_blocks_count_lo } = values;
  if (s_log_block_size > 6 || s_blocks_per_group === 0) return [];
  const blockSize = 1024 * 2 ** s_log_block_size;
  const wide = (values.s_feature_incompat & incompat.wide) !== 0;
  const step = wide && values.s_desc_size >= groupDescriptor.size ? values.s_desc_size : groupDescriptor.size;
  const blocks = s_blocks_count_lo + (wide ? values.s_blocks_count_hi * 0x1_0000_0000 : 0);
  const count = Math.ceil((blocks - s_first_data_block) / s_blocks_per_group);
  const first = start + (s_first_data_block + 1) * blockSize;
  const length = Math.min(count * step, node.size - first);
  if (!(length > 0)) return [];
  const annotate = (window: HostRange): Annotation[] => {
    const from = Math.max(0, Math.floor((window.start - first) / step));
    const to = Math.min(count, Math.ceil((window.start + window.length - first) / step));
    const rows: Annotation[] = [];
    for (let index = from; index < to; index++) {
      const at = first + index * step;
      for (const row of groupDescriptor.annotate(bytesAt(node, at, groupDescriptor.size), at)) {
        const block = pointers.has(row.field) ? Number.parseInt(row.value, 10) : 0;
        const named = { ...row, structure: `group descriptor ${index}`, path: `ext.group[${index}].${row.field}` };
        rows.push(block > 0 ? { ...named, target: { offset: start + block * blockSize } } : named);
      }
    }
    return cut(window, rows);
  };
  return [{ start: first, length, label: `${kind} group descriptors`, kind: 'table', annotate }];
}

const pointers = new Set(['bg_block_bitmap_lo', 'bg_inode_bitmap_lo', 'bg_inode_table_lo']);

/** The boot sector; the clusters that it names lead to the file table and its copy. */
function ntfsRows(bytes: Uint8Array, at: number): Annotation[] {
  const rows = ntfsBoot.annotate(bytes, at);
  const perSector = new DataView(bytes.buffer, bytes.byteOffset).getUint16(11, true);
  const perCluster = bytes[13] ?? 0;
  const cluster = perSector * (perCluster <= 0x80 ? perCluster : 2 ** (256 - perCluster));
  return rows.map((row) => {
    if (row.field !== 'mft_lcn' && row.field !== 'mftmirr_lcn') return row;
    const offset = at + Number.parseInt(row.value, 10) * cluster;
    return Number.isSafeInteger(offset) ? { ...row, target: { offset } } : row;
  });
}

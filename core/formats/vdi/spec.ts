// On-disk structures of VDI, by the names of VirtualBox' header file in their long form: pre-header, headers of version 0 and 1.
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, guid, u32, u64 } from '../../bytes/types.ts';

export const signature = 0xbeda_107f;
export const sectorSize = 512;
export const usualBlockSize = 0x10_0000;

/** `image_type`. An undo image is a differencing one of the first versions. */
export const imageType = { dynamic: 1, static: 2, undo: 3, differencing: 4 } as const;

/** Entries of the block map that are not the number of a place in the file. */
export const freeBlock = 0xffff_ffff;
export const zeroBlock = 0xffff_fffe;

/** Block map entries at most: what qemu gives as the limit. */
export const largestMap = 0x1fff_ff80;

export const nullUuid = '00000000-0000-0000-0000-000000000000';

/** "VDIPREHEADER": the same in all versions. */
export const preHeader = struct(
  { name: 'pre-header', path: 'pre_header', section: 'VDI: VDIPREHEADER' },
  'little',
  72,
  {
    file_info: field(0, ascii(64), 'text for people; which one does not matter'),
    signature: field(64, u32, '0xbeda107f', { is: signature, code: 'vdi/signature' }),
    version: field(68, u32, 'major version in the upper, minor in the lower half'),
  },
);

/** "VDIHEADER0": version 0; the block map follows it, the data follow the map. Stands behind the pre-header, as the others do. */
export const header0 = struct(
  { name: 'header, version 0', path: 'header', section: 'VDI: VDIHEADER0' },
  'little',
  348,
  {
    image_type: field(0, u32, '1 dynamic, 2 static, 3 undo, 4 differencing'),
    image_flags: field(4, u32, '1: new blocks are filled with zeroes'),
    comment: field(8, ascii(256), 'comment'),
    legacy_cylinders: field(264, u32, 'geometry: cylinders'),
    legacy_heads: field(268, u32, 'geometry: heads'),
    legacy_sectors: field(272, u32, 'geometry: sectors per track'),
    legacy_sector_size: field(276, u32, 'geometry: bytes per sector'),
    disk_size: field(280, u64, 'size of the disk in bytes'),
    block_size: field(288, u32, 'bytes per block'),
    blocks_in_image: field(292, u32, 'blocks of the disk'),
    blocks_allocated: field(296, u32, 'blocks in the file'),
    uuid_create: field(300, guid, 'UUID of the image'),
    uuid_modify: field(316, guid, 'UUID of its last modification'),
    uuid_linkage: field(332, guid, 'differencing: UUID of the parent'),
  },
);

/** "VDIHEADER1": version 1. */
export const header1 = struct({ name: 'header', path: 'header', section: 'VDI: VDIHEADER1' }, 'little', 384, {
  header_size: field(0, u32, 'bytes of this header: 384, or 400 with the logical geometry'),
  image_type: field(4, u32, '1 dynamic, 2 static, 3 undo, 4 differencing'),
  image_flags: field(8, u32, '1: new blocks are filled with zeroes'),
  comment: field(12, ascii(256), 'comment'),
  offset_blocks: field(268, u32, 'offset of the block map', { points: 1 }),
  offset_data: field(272, u32, 'offset of the first block', { points: 1 }),
  legacy_cylinders: field(276, u32, 'geometry, not used any more: cylinders'),
  legacy_heads: field(280, u32, 'geometry: heads'),
  legacy_sectors: field(284, u32, 'geometry: sectors per track'),
  legacy_sector_size: field(288, u32, 'geometry: bytes per sector'),
  unused: field(292, u32, 'once the translation of the geometry'),
  disk_size: field(296, u64, 'size of the disk in bytes'),
  block_size: field(304, u32, 'bytes per block'),
  block_extra: field(308, u32, 'bytes before the data of each block'),
  blocks_in_image: field(312, u32, 'blocks of the disk'),
  blocks_allocated: field(316, u32, 'blocks in the file'),
  uuid_create: field(320, guid, 'UUID of the image'),
  uuid_modify: field(336, guid, 'UUID of its last modification'),
  uuid_linkage: field(352, guid, 'differencing: UUID of the parent'),
  uuid_parent_modify: field(368, guid, 'differencing: UUID of the last modification of the parent'),
});
export type Header1 = ValuesOf<typeof header1>;

/** What "VDIHEADER1PLUS" adds behind the header of version 1. */
export const logicalGeometry = struct(
  { name: 'logical geometry', path: 'header', section: 'VDI: VDIHEADER1PLUS' },
  'little',
  16,
  {
    logical_cylinders: field(0, u32, 'logical geometry: cylinders'),
    logical_heads: field(4, u32, 'logical geometry: heads'),
    logical_sectors: field(8, u32, 'logical geometry: sectors per track'),
    logical_sector_size: field(12, u32, 'logical geometry: bytes per sector'),
  },
);

export const headerOffset = preHeader.size;

/** Bytes that the headers of all versions take at most. */
export const headLength = headerOffset + header1.size + logicalGeometry.size;

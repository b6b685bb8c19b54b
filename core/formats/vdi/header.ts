// The header of any version, in one form; changed fields go back to where their version has them.
import { ImageError, type Where } from '../../errors/image-error.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import {
  header0,
  header1,
  headerOffset,
  imageType,
  largestMap,
  nullUuid,
  preHeader,
  sectorSize,
  usualBlockSize,
  type Header1,
} from './spec.ts';

/** The header as version 1 has it; for version 0 the rest is what it implies. */
export interface VdiHeader {
  readonly major: number;
  readonly minor: number;
  readonly fileInfo: string;
  readonly values: Header1;
}

/** `1.1` */
export function showVersion({ major, minor }: { major: number; minor: number }): string {
  return `${major}.${minor}`;
}

/** True when these bytes begin like a VDI. */
export function isVdi(head: Uint8Array): boolean {
  const at = preHeader.fields.signature.offset;
  if (head.length < preHeader.size) return false;
  return new DataView(head.buffer, head.byteOffset).getUint32(at, true) === preHeader.fields.signature.limits.is;
}

/** The header in the first bytes of a file, not yet checked. Throws `vdi/signature`, `vdi/version`, `bytes/truncated`. */
export function readHeader(head: Uint8Array, file: string): VdiHeader {
  const where = { file, offset: 0 };
  if (!isVdi(head)) {
    const at = preHeader.fields.signature.offset;
    const found = head.length >= at + 4 ? new DataView(head.buffer, head.byteOffset).getUint32(at, true) : 0;
    const detail = { found: found.toString(16).padStart(8, '0') };
    throw new ImageError('vdi/signature', detail, { file, offset: at, field: 'signature' });
  }
  const pre = preHeader.parse(head, where);
  const version = { major: pre.version >>> 16, minor: pre.version & 0xffff };
  const rest = head.subarray(headerOffset);
  const at = { file, offset: headerOffset };
  if (version.major === 1) {
    return { ...version, fileInfo: pre.file_info.trimEnd(), values: header1.parseLoosely(rest, at) };
  }
  if (version.major !== 0) {
    const place = { file, offset: preHeader.fields.version.offset, field: 'version' };
    throw new ImageError('vdi/version', { found: showVersion(version) }, place);
  }
  const old = header0.parseLoosely(rest, at);
  const offsetBlocks = headerOffset + header0.size;
  const values: Header1 = {
    ...old,
    header_size: header0.size,
    offset_blocks: offsetBlocks,
    offset_data: offsetBlocks + 4 * old.blocks_in_image,
    unused: 0,
    block_extra: 0,
    uuid_parent_modify: nullUuid,
  };
  return { ...version, fileInfo: pre.file_info.trimEnd(), values };
}

/** Refuses what cannot be mapped. Throws `vdi/*`. */
export function checkHeader(header: VdiHeader, file: string): void {
  const { values } = header;
  const at = (field: keyof Header1): Where => ({ file, offset: fieldOffset(header, field), field });
  const size = alignUp(values.disk_size, sectorSize);
  const largest = largestMap * usualBlockSize;
  if (size > largest) {
    const detail = { found: `0x${size.toString(16)}`, allowed: `0x${largest.toString(16)}` };
    throw new ImageError('vdi/too-large', detail, at('disk_size'));
  }
  if (header.major === 1 && values.header_size < header1.size) {
    throw new ImageError('vdi/header-size', { found: values.header_size, allowed: header1.size }, at('header_size'));
  }
  if (!Object.values<number>(imageType).includes(values.image_type)) {
    throw new ImageError('vdi/type', { found: values.image_type }, at('image_type'));
  }
  if (values.legacy_sector_size !== sectorSize && values.legacy_sector_size !== 0) {
    throw new ImageError('vdi/sector-size', { found: values.legacy_sector_size }, at('legacy_sector_size'));
  }
  const { block_size: blockSize } = values;
  if (blockSize < sectorSize || (blockSize & (blockSize - 1)) !== 0) {
    throw new ImageError('vdi/block-size', { found: blockSize }, at('block_size'));
  }
  if (values.blocks_in_image > largestMap) {
    const detail = { found: values.blocks_in_image, allowed: largestMap };
    throw new ImageError('vdi/blocks', detail, at('blocks_in_image'));
  }
  const room = values.blocks_in_image * blockSize;
  if (size > room) throw new ImageError('vdi/disk-size', { found: size, allowed: room }, at('disk_size'));
  const end = headerEnd(header);
  if (values.offset_blocks < end) {
    const detail = { length: 4 * values.blocks_in_image, found: values.offset_blocks, allowed: end };
    throw new ImageError('vdi/map-place', detail, at('offset_blocks'));
  }
  const mapEnd = values.offset_blocks + 4 * Math.ceil(size / blockSize);
  if (values.offset_data < mapEnd) {
    throw new ImageError('vdi/data-place', { found: values.offset_data, allowed: mapEnd }, at('offset_data'));
  }
}

/** The first byte behind the header. */
export function headerEnd({ major, values }: VdiHeader): HostOffset {
  return headerOffset + (major === 1 ? values.header_size : header0.size);
}

/** Where in the file a field stands. */
export function fieldOffset(header: VdiHeader, field: keyof Header1): HostOffset {
  if (header.major === 1) return headerOffset + header1.fields[field].offset;
  return field in header0.fields ? headerOffset + header0.fields[field as keyof typeof header0.fields].offset : 0;
}

/** Writes fields into the first bytes of a file; those that version 0 lacks fall away. */
export function patchHead(head: Uint8Array, header: VdiHeader, values: Partial<Header1>): void {
  const rest = head.subarray(headerOffset);
  if (header.major === 1) header1.patch(rest, values);
  else {
    const known = Object.entries(values).filter(([name]) => name in header0.fields);
    header0.patch(rest, Object.fromEntries(known));
  }
}

/** What tells one VDI from another, and one state of it from a later one. */
export interface VdiIdentity {
  readonly uuid: string;
  readonly modification: string;
}

export function identityIn(header: VdiHeader): VdiIdentity {
  return { uuid: header.values.uuid_create, modification: header.values.uuid_modify };
}

/** True for a disk with a parent. */
export function isDifferencing(header: VdiHeader): boolean {
  const { image_type: type, uuid_linkage: parent } = header.values;
  return type === imageType.differencing || type === imageType.undo || parent !== nullUuid;
}

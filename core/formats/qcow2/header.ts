// The header of a qcow2 image: parsed, held against QEMU's limits, and written back with everything that is not understood.
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { layoutFor, type Layout } from './layout.ts';
import {
  autoclear,
  bitmapsExtension,
  encryptionHeader,
  extensionHead,
  extensionType,
  featureName,
  headerAdditional,
  headerV2,
  headerV3,
  incompatible,
  knownIncompatible,
  limit,
  type HeaderV3,
  magic,
} from './spec.ts';

/** A header extension as it stands in the file; `offset` is that of its data, -1 for one that is not there yet. */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
  readonly offset: number;
}

/** The header in the shape of version 3 (version 2: with the values that it implies), its extensions, and what they say. */
export interface Qcow2Header {
  /** Fields by the specification's names. */
  fields: HeaderV3;
  /** 0: deflate, 1: zstd. */
  compressionType: number;
  /** Bytes of the header that are not understood: from 112 to header_length. */
  unknownFields: Uint8Array;
  /** In the order of the file, without the end marker. */
  extensions: HeaderExtension[];
  /** Name of the layer below as it stands in the header; null: none. */
  backingName: string | null;
  /** Bytes of the first cluster that the header, its extensions and the name take. */
  usedLength: number;
}

/** What parsing asks: `forRepair` leaves tables that a repair would rebuild unchecked. */
export interface HeaderOptions {
  readonly writable: boolean;
  readonly forRepair: boolean;
  /** As in `OpenRequest`. */
  readonly lenient?: 'map' | 'open' | undefined;
}

const tableNames: Record<string, string> = {
  refcount_table_offset: 'Reference count table',
  snapshots_offset: 'Snapshot table',
  l1_table_offset: 'Active L1 table',
};

/**
 * Reads and checks the header (specification: "Header", "Header extensions"). Throws the `qcow2/*` codes with QEMU's sentences,
 * `qcow2/feature` for incompatible features that are not known.
 */
export function readHeader(storage: Storage, options: HeaderOptions): { header: Qcow2Header; layout: Layout } {
  const where: Where = { file: storage.name, offset: 0 };
  const head = new Uint8Array(Math.min(512, storage.size));
  if (head.length < headerV2.size) throw new ImageError('qcow2/header-read', { size: storage.size }, where);
  storage.readAt(head, 0);
  const fields = parseFields(head, where);
  const clusterSize = 2 ** fields.cluster_bits;
  if (fields.header_length > clusterSize) throw fault('qcow2/header-long', 'header_length', 100, where);
  const cluster = new Uint8Array(Math.min(clusterSize, storage.size));
  if (cluster.length < fields.header_length) throw new ImageError('qcow2/header-read', { size: storage.size }, where);
  storage.readAt(cluster, 0);
  if (fields.backing_file_offset > clusterSize) throw fault('qcow2/backing-offset', 'backing_file_offset', 8, where);

  const additionalEnd = headerV3.size + headerAdditional.size;
  const compressionType = fields.header_length > headerV3.size ? (cluster[headerV3.size] ?? 0) : 0;
  checkCompression(fields, compressionType, where);
  const extensionsEnd = fields.backing_file_offset !== 0 ? fields.backing_file_offset : clusterSize;
  refuseUnknownFeatures(fields, cluster, extensionsEnd, where);
  if ((fields.incompatible_features & incompatible.corrupt) !== 0n && options.writable && !options.forRepair) {
    throw fault('qcow2/corrupt', 'incompatible_features', 72, where);
  }
  const extendedL2 = (fields.incompatible_features & incompatible.extendedL2) !== 0n;
  if (extendedL2 && clusterSize / 32 < 512) {
    throw new ImageError(
      'qcow2/subcluster-size',
      { found: clusterSize / 32 },
      { ...where, offset: 20, field: 'cluster_bits' },
    );
  }
  if (fields.version === 3) headerV3.check(fields, where);
  const layout = layoutFor(fields.cluster_bits, fields.refcount_order, extendedL2);
  checkTables(fields, layout, options, where);
  const { extensions, end } = parseExtensions(cluster, fields.header_length, extensionsEnd, where);
  for (const extension of extensions) checkExtension(extension, fields, layout, where);
  const backingName = readBackingName(fields, cluster, where);
  const header: Qcow2Header = {
    fields,
    compressionType,
    unknownFields: cluster.slice(Math.min(additionalEnd, fields.header_length), fields.header_length),
    extensions,
    backingName,
    usedLength: Math.max(end, backingName === null ? 0 : fields.backing_file_offset + fields.backing_file_size),
  };
  return { header, layout };
}

function fault(
  code: 'qcow2/header-long' | 'qcow2/backing-offset' | 'qcow2/backing-name' | 'qcow2/corrupt',
  field: string,
  offset: number,
  where: Where,
): ImageError {
  return new ImageError(code, {}, { ...where, offset, field });
}

function parseFields(head: Uint8Array, where: Where): HeaderV3 {
  try {
    const first = headerV2.parseLoosely(head, where);
    headerV2.check(first, where);
    if (first.version === 3) {
      const fields = headerV3.parseLoosely(head, where);
      if (fields.header_length < headerV3.size) headerV3.check({ ...fields, refcount_order: 4 }, where);
      return fields;
    }
    return {
      ...first,
      incompatible_features: 0n,
      compatible_features: 0n,
      autoclear_features: 0n,
      refcount_order: 4,
      header_length: headerV2.size,
    };
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'storage/too-large') throw error;
    // A number too large in a file that is not qcow2 at all: the magic says so.
    if (new DataView(head.buffer, head.byteOffset, 4).getUint32(0) !== magic) {
      throw new ImageError('qcow2/magic', {}, { ...where, offset: 0, field: 'magic' }, error);
    }
    const field = error.where.field ?? '';
    const table = tableNames[field];
    if (table !== undefined) throw new ImageError('qcow2/table-offset', { table }, error.where, error);
    if (field === 'backing_file_offset') throw new ImageError('qcow2/backing-offset', {}, error.where, error);
    if (field === 'size') throw new ImageError('qcow2/too-big', {}, error.where, error);
    throw error;
  }
}

function checkCompression(fields: HeaderV3, type: number, where: Where): void {
  const at = { ...where, offset: headerV3.size, field: 'compression_type' };
  if (type > 1) throw new ImageError('qcow2/compression-type', { found: type }, at);
  const bit = (fields.incompatible_features & incompatible.compression) !== 0n;
  if (bit !== (type !== 0)) throw new ImageError('qcow2/compression-bit', { expected: type !== 0 }, at);
}

/** Names come from the image's own feature name table, as QEMU prints them; what has no name there is printed as a mask. */
function refuseUnknownFeatures(fields: HeaderV3, cluster: Uint8Array, end: number, where: Where): void {
  let unknown = fields.incompatible_features & ~knownIncompatible;
  if (unknown === 0n) return;
  const names: string[] = [];
  for (const row of featureTable(cluster, fields.header_length, end, where)) {
    const bit = 1n << BigInt(row.bit);
    if (row.type !== 0 || (unknown & bit) === 0n) continue;
    names.push(row.name);
    unknown &= ~bit;
  }
  if (unknown !== 0n) names.push(`Unknown incompatible feature: ${unknown.toString(16)}`);
  const detail = { names: names.join(', ') };
  throw new ImageError('qcow2/feature', detail, { ...where, offset: 72, field: 'incompatible_features' });
}

function featureTable(cluster: Uint8Array, start: number, end: number, where: Where): FeatureRow[] {
  let extensions: HeaderExtension[];
  try {
    extensions = parseExtensions(cluster, start, end, where).extensions;
  } catch (error) {
    if (error instanceof ImageError) return [];
    throw error;
  }
  return featureNames(extensions);
}

export interface FeatureRow {
  /** 0: incompatible, 1: compatible, 2: autoclear. */
  readonly type: number;
  readonly bit: number;
  readonly name: string;
}

/** The rows of the feature name table, as far as they have names. */
export function featureNames(extensions: readonly HeaderExtension[]): FeatureRow[] {
  const found = extensions.findLast((extension) => extension.type === extensionType.featureNames);
  const rows: FeatureRow[] = [];
  if (found === undefined) return rows;
  // The last row may be cut short: what is missing are zeroes.
  const table = new Uint8Array(alignUp(found.data.length, featureName.size));
  table.set(found.data);
  for (let at = 0; at < table.length; at += featureName.size) {
    const row = featureName.parseLoosely(table.subarray(at));
    if (row.name === '') break;
    rows.push(row);
  }
  return rows;
}

function checkTables(fields: HeaderV3, layout: Layout, options: HeaderOptions, where: Where): void {
  const { clusterSize } = layout;
  if (fields.refcount_table_clusters === 0 && !options.forRepair) {
    throw new ImageError('qcow2/no-refcount-table', {}, { ...where, offset: 56, field: 'refcount_table_clusters' });
  }
  const table = (
    name: string,
    field: 'refcount_table_offset' | 'snapshots_offset' | 'l1_table_offset',
    bytes: number,
    most: number,
  ): void => {
    const at = { ...where, offset: headerV2.fields[field].offset, field };
    if (bytes > most) throw new ImageError('qcow2/table-too-large', { table: name, found: bytes, allowed: most }, at);
    if (fields[field] % clusterSize !== 0)
      throw new ImageError('qcow2/table-offset', { table: name, found: fields[field] }, at);
  };
  const refcountBytes = fields.refcount_table_clusters * clusterSize;
  table('Reference count table', 'refcount_table_offset', refcountBytes, limit.refcountTableBytes);
  if (!options.forRepair) table('Snapshot table', 'snapshots_offset', fields.nb_snapshots, limit.snapshots);
  table('Active L1 table', 'l1_table_offset', fields.l1_size * 8, limit.l1Bytes);
  const needed = Math.ceil(fields.size / layout.l2Coverage);
  if (needed > 0x7fff_ffff) throw new ImageError('qcow2/too-big', {}, { ...where, offset: 24, field: 'size' });
  if (fields.l1_size < needed) {
    throw new ImageError(
      'qcow2/l1-too-small',
      { found: fields.l1_size, needed },
      { ...where, offset: 36, field: 'l1_size' },
    );
  }
}

function parseExtensions(
  cluster: Uint8Array,
  start: number,
  end: number,
  where: Where,
): { extensions: HeaderExtension[]; end: number } {
  const extensions: HeaderExtension[] = [];
  let at = start;
  while (at < end) {
    // What the file is too short for reads as zeroes, as it does in QEMU: the end marker.
    const head = at + 8 <= cluster.length ? extensionHead.parseLoosely(cluster.subarray(at)) : { type: 0, length: 0 };
    const data = at + extensionHead.size;
    if (data > end || head.length > end - data) {
      const detail = { found: head.length, allowed: Math.max(0, end - data) };
      throw new ImageError('qcow2/extension-too-large', detail, { ...where, offset: at, field: 'header extension' });
    }
    if (head.type === extensionType.end) return { extensions, end: data };
    const bytes = new Uint8Array(head.length);
    bytes.set(cluster.subarray(data, data + head.length));
    extensions.push({ type: head.type, data: bytes, offset: data });
    at = data + alignUp(head.length, 8);
  }
  return { extensions, end: at };
}

function checkExtension(extension: HeaderExtension, fields: HeaderV3, layout: Layout, where: Where): void {
  const { data, offset } = extension;
  const at = { ...where, offset };
  switch (extension.type) {
    case extensionType.backingFormat:
      if (data.length > limit.backingFormat)
        throw new ImageError('qcow2/backing-format-long', { found: data.length }, at);
      return;
    case extensionType.encryptionHeader: {
      if (fields.crypt_method !== 2) throw new ImageError('qcow2/crypto-extension', {}, at);
      if (data.length !== encryptionHeader.size) {
        throw new ImageError('qcow2/crypto-extension-size', { found: data.length }, at);
      }
      const pointer = encryptionHeader.parse(data, at);
      if (pointer.offset % layout.clusterSize !== 0) {
        const detail = { found: pointer.offset, clusterSize: layout.clusterSize };
        throw new ImageError('qcow2/crypto-offset', detail, at);
      }
      return;
    }
    case extensionType.bitmaps: {
      if (data.length !== bitmapsExtension.size)
        throw new ImageError('qcow2/bitmaps-length', { found: data.length }, at);
      if ((fields.autoclear_features & autoclear.bitmaps) === 0n) return;
      const bitmaps = bitmapsExtension.parse(data, at);
      if (bitmaps.bitmap_directory_offset % layout.clusterSize !== 0) {
        throw new ImageError('qcow2/bitmaps-offset', { found: bitmaps.bitmap_directory_offset }, at);
      }
      if (bitmaps.bitmap_directory_size > limit.bitmapDirectoryBytes) {
        const detail = { found: bitmaps.bitmap_directory_size, allowed: limit.bitmapDirectoryBytes };
        throw new ImageError('qcow2/bitmaps-size', detail, at);
      }
      return;
    }
    default:
      return;
  }
}

function readBackingName(fields: HeaderV3, cluster: Uint8Array, where: Where): string | null {
  const { backing_file_offset: offset, backing_file_size: length } = fields;
  if (offset === 0) return null;
  if (length > Math.min(limit.backingName, 2 ** fields.cluster_bits - offset)) {
    throw fault('qcow2/backing-name', 'backing_file_size', 16, where);
  }
  if (offset + length > cluster.length) {
    throw new ImageError(
      'qcow2/header-read',
      { size: cluster.length },
      { ...where, offset, field: 'backing file name' },
    );
  }
  return textOf(cluster.subarray(offset, offset + length));
}

/** Text of the header: UTF-8 up to the first zero byte. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

/** The data of an extension, or null. */
export function findExtension(header: Qcow2Header, type: number): HeaderExtension | null {
  return header.extensions.findLast((extension) => extension.type === type) ?? null;
}

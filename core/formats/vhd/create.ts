// Writes an empty VHD: fixed, dynamic, or differencing when it has a parent.
import crypto from 'node:crypto';
import path from 'node:path';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, OptionValue } from '../driver.ts';
import { resolveReference } from '../gate.ts';
import { patchedFooter } from './footer.ts';
import { roundSize, type Geometry } from './geometry.ts';
import { footerOf, timeStampNow } from './identity.ts';
import { blockCount, tableLength } from './layout.ts';
import { enterNames, namesBytes, storedNames, type StoredNames } from './locators.ts';
import {
  checksumOf,
  diskType,
  dynamicHeader,
  footer,
  footerCookie,
  formatVersion,
  headerCookie,
  noOffset,
  usualBlockSize,
  type Footer,
} from './spec.ts';

/** A feature bit that the specification wants set always. */
const reservedFeature = 2;
/** Virtual PC 2007: the version of the maker that qemu gives. */
const makerVersion = 0x0005_0003;
const headerOffset = footer.size;
const tableOffset = headerOffset + dynamicHeader.size;

/** Creation options as the rows of the driver spell them. */
interface Wishes {
  readonly fixed: boolean;
  readonly exact: boolean;
  readonly uniqueId: string;
  readonly blockSize: number;
}

/** Throws `request/invalid-value` for a `uuid` or `block_size` that is none. */
export function wishesOf(options: Readonly<Record<string, OptionValue>>): Wishes {
  const { uuid, block_size: blockSize = usualBlockSize } = options;
  if (uuid !== undefined && (typeof uuid !== 'string' || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid))) {
    throw new ImageError('request/invalid-value', { reason: `'${uuid}' is not a UUID`, name: 'uuid' });
  }
  const isPower = typeof blockSize === 'number' && blockSize >= 4096 && blockSize <= 2 ** 28;
  if (!isPower || (blockSize & (blockSize - 1)) !== 0) {
    const reason = `Block size must be a power of two between 4k and 256M, not ${blockSize}`;
    throw new ImageError('request/invalid-value', { reason, name: 'block_size' });
  }
  return {
    fixed: options.subformat === 'fixed',
    exact: options.force_size === true,
    uniqueId: typeof uuid === 'string' ? uuid.toLowerCase() : crypto.randomUUID(),
    blockSize,
  };
}

/**
 * Options: `subformat`, `force_size`, `preallocation` (of the file of a fixed disk), `uuid`, `block_size`. Throws `vhd/too-large`,
 * `vhd/parent-format`, `vhd/parent-size`, `request/invalid-value`, `storage/*`.
 */
export function createVhd(request: CreateRequest): void {
  const wishes = wishesOf(request.options);
  if (request.backing !== null) {
    createDifferencing(request, wishes);
    return;
  }
  const { size, geometry } = roundSize(request.size, wishes.exact);
  const values = footerValues(wishes, size, geometry);
  if (wishes.fixed) createFixed(request, values, size);
  else createDynamic(request, wishes, { ...values, disk_type: diskType.dynamic }, null);
}

function footerValues(wishes: Wishes, size: number, geometry: Geometry): Partial<Footer> {
  return {
    cookie: footerCookie,
    features: reservedFeature,
    file_format_version: formatVersion,
    data_offset: BigInt(headerOffset),
    time_stamp: timeStampNow(),
    creator_application: wishes.exact ? 'qem2' : 'qemu',
    creator_version: makerVersion,
    creator_host_os: 'Wi2k',
    original_size: size,
    current_size: size,
    ...geometry,
    unique_id: wishes.uniqueId,
  };
}

function createFixed(request: CreateRequest, values: Partial<Footer>, size: number): void {
  const { storage, options } = request;
  const how = options.preallocation;
  storage.truncate(size + footer.size);
  if (size > 0 && (how === 'falloc' || how === 'full')) storage.provide(0, size, how);
  const all = { ...values, data_offset: noOffset, disk_type: diskType.fixed };
  storage.writeAt(patchedFooter(new Uint8Array(footer.size), all), size);
}

interface ParentFields {
  readonly uniqueId: string;
  readonly timeStamp: number;
  readonly names: StoredNames;
}

function createDynamic(
  request: CreateRequest,
  wishes: Wishes,
  values: Partial<Footer>,
  parent: ParentFields | null,
): void {
  const { storage } = request;
  const entries = blockCount(values.current_size ?? 0, wishes.blockSize);
  const table = new Uint8Array(tableLength(entries)).fill(0xff);
  const header = dynamicHeader.serialise({
    cookie: headerCookie,
    data_offset: noOffset,
    table_offset: tableOffset,
    header_version: formatVersion,
    max_table_entries: entries,
    block_size: wishes.blockSize,
    ...(parent === null ? {} : { parent_unique_id: parent.uniqueId, parent_time_stamp: parent.timeStamp }),
  });
  const namesOffset = tableOffset + table.length;
  if (parent !== null) enterNames(header, parent.names, namesOffset);
  dynamicHeader.patch(header, { checksum: checksumOf(header, dynamicHeader.fields.checksum.offset) });
  const names = parent === null ? new Uint8Array(0) : namesBytes(parent.names);
  const bytes = patchedFooter(new Uint8Array(footer.size), values);
  storage.writeAt(bytes, 0);
  storage.writeAt(header, headerOffset);
  storage.writeAt(table, tableOffset);
  if (names.length > 0) storage.writeAt(names, namesOffset);
  storage.writeAt(bytes, namesOffset + names.length);
}

/** The child has the size and the geometry of its parent, whatever rounding the size would get. */
function createDifferencing(request: CreateRequest, wishes: Wishes): void {
  const { backing, name } = request;
  if (backing === null || request.openBacking === undefined) throw new Error(`${name}: no parent to be opened`);
  if (wishes.fixed) {
    const reason = 'A fixed disk has no parent; subformat must be dynamic';
    throw new ImageError('request/invalid-value', { reason, name: 'subformat' });
  }
  const node = request.openBacking();
  const parent = footerOf(node);
  if (parent === null) throw new ImageError('vhd/parent-format', { name: backing.path, found: node.format });
  const { size } = node;
  if (request.size !== size && request.size !== roundSize(size, wishes.exact).size) {
    throw new ImageError('vhd/parent-size', { found: request.size, allowed: size });
  }
  const exactByGeometry = roundSize(size, false);
  const fits = exactByGeometry.size === size && !wishes.exact;
  const { cylinders, heads, sectors_per_track } = parent;
  const geometry = fits ? exactByGeometry.geometry : { cylinders, heads, sectors_per_track };
  const values = footerValues({ ...wishes, exact: !fits }, size, geometry);
  const names = namesOf(name, backing.path);
  const fields = { uniqueId: parent.unique_id, timeStamp: parent.time_stamp, names };
  createDynamic(request, wishes, { ...values, disk_type: diskType.differencing }, fields);
}

function namesOf(image: string, reference: string): StoredNames {
  const parent = path.resolve(resolveReference(image, reference));
  return storedNames(path.dirname(path.resolve(image)), parent);
}

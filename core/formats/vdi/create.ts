// Writes an empty VDI: dynamic, static, or differencing when it has a parent.
import crypto from 'node:crypto';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, OptionValue } from '../driver.ts';
import { identityIn } from './header.ts';
import { writeFree } from './map.ts';
import { headerOf } from './parent.ts';
import { requirePlace } from './relink.ts';
import {
  header1,
  headerOffset,
  imageType,
  largestMap,
  preHeader,
  sectorSize,
  signature,
  usualBlockSize,
  type Header1,
} from './spec.ts';

const fileInfo = '<<< QEMU VM Virtual Disk Image >>>\n';
const version = 0x0001_0001;
/** The map begins in the second sector, the data in the sector behind it: as qemu has it. */
const offsetBlocks = sectorSize;

/** Where blocks begin in a new image of so many. */
export function dataOffset(blocks: number): number {
  return alignUp(offsetBlocks + 4 * blocks, sectorSize);
}

/** Whole sectors. Throws `vdi/too-large`. */
export function sizeOfNew(size: number): number {
  const rounded = alignUp(size, sectorSize);
  const largest = largestMap * usualBlockSize;
  if (rounded <= largest) return rounded;
  throw new ImageError('vdi/too-large', { found: `0x${rounded.toString(16)}`, allowed: `0x${largest.toString(16)}` });
}

function uuidOption(options: Readonly<Record<string, OptionValue>>, name: string): string {
  const value = options[name];
  if (value === undefined) return crypto.randomUUID();
  if (typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value))
    return value.toLowerCase();
  throw new ImageError('request/invalid-value', { reason: `'${value}' is not a UUID`, name });
}

/**
 * Options: `static`, `preallocation` (of the file of a static disk), `uuid`, `modify_uuid`. Throws `vdi/too-large`, `vdi/parent-format`,
 * `vdi/parent-place`, `request/invalid-value`, `storage/*`.
 */
export function createVdi(request: CreateRequest): void {
  const { storage, options } = request;
  const isStatic = options.static === true;
  const size = sizeOfNew(request.size);
  const blocks = Math.ceil(size / usualBlockSize);
  const start = dataOffset(blocks);
  const values: Partial<Header1> = {
    header_size: header1.size,
    image_type: isStatic ? imageType.static : imageType.dynamic,
    offset_blocks: offsetBlocks,
    offset_data: start,
    legacy_sector_size: sectorSize,
    disk_size: size,
    block_size: usualBlockSize,
    blocks_in_image: blocks,
    blocks_allocated: isStatic ? blocks : 0,
    uuid_create: uuidOption(options, 'uuid'),
    uuid_modify: uuidOption(options, 'modify_uuid'),
    ...parentFields(request, isStatic),
  };
  const head = new Uint8Array(offsetBlocks);
  head.set(preHeader.serialise({ file_info: fileInfo, signature, version }));
  head.set(header1.serialise(values), headerOffset);
  storage.writeAt(head, 0);
  if (start > offsetBlocks) storage.truncate(start);
  if (!isStatic) {
    writeFree(storage, offsetBlocks, blocks);
    return;
  }
  writeIdentity(request, blocks);
  const end = start + blocks * usualBlockSize;
  storage.truncate(end);
  const how = options.preallocation;
  if (end > start && (how === 'falloc' || how === 'full')) storage.provide(start, end - start, how);
}

function parentFields({ backing, openBacking, name }: CreateRequest, isStatic: boolean): Partial<Header1> {
  if (backing === null) return {};
  if (openBacking === undefined) throw new Error(`${name}: no parent to be opened`);
  if (isStatic) {
    const reason = 'A static disk has no parent; static must be off';
    throw new ImageError('request/invalid-value', { reason, name: 'static' });
  }
  requirePlace(name, backing.path);
  const node = openBacking();
  const parent = headerOf(node);
  if (parent === null) throw new ImageError('vdi/parent-format', { name: backing.path, found: node.format });
  const { uuid, modification } = identityIn(parent);
  return { image_type: imageType.differencing, uuid_linkage: uuid, uuid_parent_modify: modification };
}

/** The map of a static disk: block n stands at place n. */
function writeIdentity({ storage, job }: CreateRequest, blocks: number): void {
  const piece = new Uint8Array(Math.min(blocks * 4, usualBlockSize));
  const view = new DataView(piece.buffer);
  for (let done = 0; done < blocks;) {
    job.throwIfCancelled();
    const count = Math.min(piece.length / 4, blocks - done);
    for (let i = 0; i < count; i++) view.setUint32(i * 4, done + i, true);
    storage.writeAt(piece.subarray(0, count * 4), offsetBlocks + done * 4);
    done += count;
  }
}

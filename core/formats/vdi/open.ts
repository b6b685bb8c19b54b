// Opening a VDI: the header, the block map, the parent.
import type { Storage } from '../../block/storage.ts';
import { restOf, type Damage } from '../../block/unreadable.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenRequest } from '../driver.ts';
import { onlyForRepair } from '../repair-only.ts';
import { checkHeader, fieldOffset, headerEnd, isDifferencing, readHeader, type VdiHeader } from './header.ts';
import { BlockMap } from './map.ts';
import { VdiNode, type FoundParent, type VdiParts } from './node.ts';
import { openParent, requireParent } from './parent.ts';
import { headLength, sectorSize } from './spec.ts';
import { WritableVdiNode } from './writing.ts';

/** Opens a VDI; owns `storage`. Throws `vdi/*`, `storage/*`, `gate/*`, `request/invalid-option`. */
export function openVdi(storage: Storage, request: OpenRequest): VdiNode {
  try {
    for (const name of Object.keys(request.runtime)) throw new ImageError('request/invalid-option', { name });
    const first = new Uint8Array(Math.min(headLength, storage.size));
    storage.readAt(first, 0);
    const header = readHeader(first, storage.name);
    checkHeader(header, storage.name);
    const head = first.subarray(0, headerEnd(header));
    const map = placeMap(header, storage, request.lenient === 'open');
    const parent = isDifferencing(header) ? findParent(header, storage, request) : null;
    return nodeFor({ storage, header, head, map, parent, gate: request.gate }, request);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function nodeFor(parts: VdiParts, request: OpenRequest): VdiNode {
  if (!request.writable) return new VdiNode(parts, request.lenient === undefined ? null : damageOf(parts));
  if (request.forRepair) return onlyForRepair(new VdiNode(parts), parts.storage);
  try {
    return new WritableVdiNode(parts);
  } catch (error) {
    parts.parent?.node?.close();
    throw error;
  }
}

function placeMap(header: VdiHeader, storage: Storage, tolerant: boolean): BlockMap {
  const { offset_blocks: offset, disk_size, block_size } = header.values;
  const entries = Math.ceil(alignUp(disk_size, sectorSize) / block_size);
  if (offset + 4 * entries > storage.size && !tolerant) throw mapFault(header, entries, storage);
  return new BlockMap(storage, offset, entries);
}

function mapFault(header: VdiHeader, entries: number, storage: Storage): ImageError {
  const where = { file: storage.name, offset: fieldOffset(header, 'offset_blocks'), field: 'offset_blocks' };
  const detail = { length: 4 * entries, found: header.values.offset_blocks, allowed: storage.size };
  return new ImageError('vdi/map-place', detail, where);
}

/** What is known of a disk whose map or blocks may not lie in the file. */
function damageOf({ header, map, storage }: VdiParts): Damage {
  const { block_size } = header.values;
  const inFile = Math.floor(Math.max(0, storage.size - map.offset) / 4);
  return {
    known: inFile * block_size,
    beyond: inFile < map.entries ? mapFault(header, map.entries, storage) : null,
    reach: (start) => restOf(block_size, start),
  };
}

function findParent(header: VdiHeader, storage: Storage, request: OpenRequest): FoundParent | null {
  if (request.withBacking) return openParent(header, storage.name, request.gate);
  if (request.writable || request.forRepair) return null;
  return requireParent(header, storage.name, request.gate);
}

// The metadata region (2.6): its table, the items that say what the disk is, and how they are written.
import type { Storage } from '../../block/storage.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import {
  fileParameters,
  itemFlags,
  items,
  logicalSectorSize,
  maxItemLength,
  metadataTableEntry,
  metadataTableHeader,
  metadataTableLength,
  parameterFlags,
  physicalSectorSize,
  virtualDiskId,
  virtualDiskSize,
} from './spec.ts';
import type { FileRegion } from './region-table.ts';

export interface MetadataItem {
  readonly id: string;
  readonly name: string;
  /** Within the metadata region; 0 for an item without bytes. */
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

/** What the metadata region says. Sizes in bytes. */
export interface Metadata {
  readonly items: readonly MetadataItem[];
  readonly blockSize: number;
  readonly leaveBlocksAllocated: boolean;
  readonly hasParent: boolean;
  readonly virtualSize: number;
  readonly virtualDiskId: string;
  readonly logicalSectorSize: number;
  readonly physicalSectorSize: number;
  /** The bytes of the parent locator item; null: there is none. */
  readonly parentLocator: Uint8Array | null;
}

const itemNames: Record<string, string> = {
  [items.fileParameters]: 'File Parameters',
  [items.virtualDiskSize]: 'Virtual Disk Size',
  [items.virtualDiskId]: 'Virtual Disk ID',
  [items.logicalSectorSize]: 'Logical Sector Size',
  [items.physicalSectorSize]: 'Physical Sector Size',
  [items.parentLocator]: 'Parent Locator',
  [items.chsParameters]: 'CHS Parameters',
  [items.labelStorageArea]: 'PMEM Label Storage Area',
};

/**
 * Reads table and items. Throws `vhdx/metadata-table`, `vhdx/item-*`, `vhdx/incomplete`, `vhdx/block-size`, `vhdx/virtual-size`,
 * `vhdx/virtual-size-sectors`, `vhdx/sector-size`, `bytes/limit`.
 */
export function readMetadata(storage: Storage, region: FileRegion): Metadata {
  const table = new Uint8Array(metadataTableLength);
  storage.readAt(table, region.offset);
  const found = parseTable(table, region, storage.name);
  const read = (item: MetadataItem): Uint8Array => {
    const bytes = new Uint8Array(item.length);
    storage.readAt(bytes, region.offset + item.offset);
    return bytes;
  };
  const required = (id: string): { bytes: Uint8Array; where: Where } => {
    const item = found.find((candidate) => candidate.id === id && (candidate.flags & itemFlags.isUser) === 0);
    if (item === undefined) {
      throw new ImageError(
        'vhdx/item-missing',
        { name: itemNames[id] ?? id },
        { file: storage.name, offset: region.offset },
      );
    }
    return { bytes: read(item), where: { file: storage.name, offset: region.offset + item.offset } };
  };
  const parse = <T>(id: string, structure: { parse(bytes: Uint8Array, where: Where): T }): T => {
    const { bytes, where } = required(id);
    return structure.parse(bytes, where);
  };
  const parameters = parse(items.fileParameters, fileParameters);
  const { VirtualDiskSize: virtualSize } = parse(items.virtualDiskSize, virtualDiskSize);
  const { LogicalSectorSize: sector } = parse(items.logicalSectorSize, logicalSectorSize);
  if (virtualSize % sector !== 0) {
    const where = { ...required(items.virtualDiskSize).where, field: 'VirtualDiskSize' };
    throw new ImageError('vhdx/virtual-size-sectors', { size: virtualSize, sector }, where);
  }
  const locator = found.find((item) => item.id === items.parentLocator);
  return {
    items: found,
    blockSize: parameters.BlockSize,
    leaveBlocksAllocated: (parameters.Flags & parameterFlags.leaveBlocksAllocated) !== 0,
    hasParent: (parameters.Flags & parameterFlags.hasParent) !== 0,
    virtualSize,
    virtualDiskId: parse(items.virtualDiskId, virtualDiskId).VirtualDiskId,
    logicalSectorSize: sector,
    physicalSectorSize: parse(items.physicalSectorSize, physicalSectorSize).PhysicalSectorSize,
    parentLocator: locator === undefined ? null : read(locator),
  };
}

function parseTable(table: Uint8Array, region: FileRegion, file: string): MetadataItem[] {
  const { EntryCount } = metadataTableHeader.parse(table, { file, offset: region.offset });
  const found: MetadataItem[] = [];
  const seen = new Set<string>();
  for (let index = 0; index < EntryCount; index++) {
    const at = metadataTableHeader.size + index * metadataTableEntry.size;
    const where = { file, offset: region.offset + at };
    const entry = metadataTableEntry.parse(table.subarray(at), where);
    const item: MetadataItem = {
      id: entry.ItemId,
      name: itemNames[entry.ItemId] ?? `{${entry.ItemId}}`,
      offset: entry.Offset,
      length: entry.Length,
      flags: entry.Flags,
    };
    const user = (item.flags & itemFlags.isUser) !== 0;
    const key = `${user} ${item.id}`;
    if (seen.has(key)) throw new ImageError('vhdx/item-twice', { name: item.name }, where);
    seen.add(key);
    checkItem(item, region, where);
    if (!user && item.id === items.incompleteFile) throw new ImageError('vhdx/incomplete', {}, where);
    if (!user && (item.flags & itemFlags.isRequired) !== 0 && itemNames[item.id] === undefined) {
      throw new ImageError('vhdx/item-unknown', { guid: item.id }, where);
    }
    found.push(item);
  }
  return found;
}

function checkItem(item: MetadataItem, region: FileRegion, where: Where): void {
  const refuse = (reason: string): never => {
    throw new ImageError(
      'vhdx/item-place',
      { name: item.name, offset: item.offset, length: item.length, reason },
      where,
    );
  };
  if (item.length > maxItemLength) refuse('is larger than 1 MB');
  if (item.length === 0) {
    if (item.offset !== 0) refuse('has a place and no length');
    return;
  }
  if (item.offset < metadataTableLength) refuse('lies in the table');
  if (item.offset + item.length > region.length) refuse('reaches beyond its region');
}

/** An item to be written: `content` null keeps what stands at the place of `item`. */
export interface NewItem {
  readonly id: string;
  readonly flags: number;
  readonly content: Uint8Array;
}

/** The items of a new file, in the order that they are written. */
export function newItems(disk: {
  readonly blockSize: number;
  readonly leaveBlocksAllocated: boolean;
  readonly virtualSize: number;
  readonly virtualDiskId: string;
  readonly logicalSectorSize: number;
  readonly physicalSectorSize: number;
  readonly parentLocator: Uint8Array | null;
}): NewItem[] {
  const { isRequired, isVirtualDisk } = itemFlags;
  const list: NewItem[] = [
    {
      id: items.fileParameters,
      flags: isRequired,
      content: fileParameters.serialise({
        BlockSize: disk.blockSize,
        Flags:
          (disk.leaveBlocksAllocated ? parameterFlags.leaveBlocksAllocated : 0) |
          (disk.parentLocator === null ? 0 : parameterFlags.hasParent),
      }),
    },
    {
      id: items.virtualDiskSize,
      flags: isRequired | isVirtualDisk,
      content: virtualDiskSize.serialise({ VirtualDiskSize: disk.virtualSize }),
    },
    {
      id: items.virtualDiskId,
      flags: isRequired | isVirtualDisk,
      content: virtualDiskId.serialise({ VirtualDiskId: disk.virtualDiskId }),
    },
    {
      id: items.logicalSectorSize,
      flags: isRequired | isVirtualDisk,
      content: logicalSectorSize.serialise({ LogicalSectorSize: disk.logicalSectorSize }),
    },
    {
      id: items.physicalSectorSize,
      flags: isRequired | isVirtualDisk,
      content: physicalSectorSize.serialise({ PhysicalSectorSize: disk.physicalSectorSize }),
    },
  ];
  if (disk.parentLocator !== null) {
    list.push({ id: items.parentLocator, flags: isRequired, content: disk.parentLocator });
  }
  return list;
}

/** Table and items in one stretch from the start of the region; items follow each other behind the 64 KiB of the table. */
export function serialiseMetadata(list: readonly NewItem[]): Uint8Array {
  const length = list.reduce((sum, item) => sum + item.content.length, metadataTableLength);
  const bytes = new Uint8Array(length);
  metadataTableHeader.patch(bytes, { Signature: 'metadata', EntryCount: list.length });
  let end = metadataTableLength;
  list.forEach((item, index) => {
    metadataTableEntry.patch(bytes.subarray(metadataTableHeader.size + index * metadataTableEntry.size), {
      ItemId: item.id,
      Offset: item.content.length === 0 ? 0 : end,
      Length: item.content.length,
      Flags: item.flags,
    });
    bytes.set(item.content, end);
    end += item.content.length;
  });
  return bytes;
}

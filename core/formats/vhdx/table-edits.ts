// Changes of region table and metadata, made in the page cache, so that they go through the log with everything else.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Metadata, MetadataItem } from './metadata.ts';
import type { Pages } from './pages.ts';
import { serialiseRegionTable, type RegionTable } from './region-table.ts';
import {
  batRegion,
  fileParameters,
  itemFlags,
  items,
  metadataTableEntry,
  metadataTableHeader,
  metadataTableLength,
  parameterFlags,
  regionTableOffsets,
  virtualDiskSize,
} from './spec.ts';

export class TableEdits {
  readonly #pages: Pages;
  readonly #metadataOffset: number;
  readonly #metadataLength: number;
  #regions: RegionTable['regions'];
  #items: readonly MetadataItem[];

  constructor(pages: Pages, table: RegionTable, metadata: Metadata) {
    this.#pages = pages;
    this.#metadataOffset = table.metadata.offset;
    this.#metadataLength = table.metadata.length;
    this.#regions = table.regions;
    this.#items = metadata.items;
  }

  /** Both copies of the region table say that the BAT lies there. */
  moveBat(offset: number, length: number): void {
    this.#regions = this.#regions.map((region) => (region.guid === batRegion ? { ...region, offset, length } : region));
    this.writeRegionTables();
  }

  /** Both copies of the region table are written anew. */
  writeRegionTables(): void {
    const bytes = serialiseRegionTable(this.#regions);
    for (const at of regionTableOffsets) this.#pages.patch(at, bytes);
  }

  setVirtualSize(size: number): void {
    this.#patchItem(items.virtualDiskSize, virtualDiskSize.serialise({ VirtualDiskSize: size }));
  }

  /** The parent locator is this; null: there is no parent any more. Throws `vhdx/no-room`. */
  setLocator(content: Uint8Array | null): void {
    const before = this.#items.find((item) => item.id === items.parentLocator);
    const others = this.#items.filter((item) => item.id !== items.parentLocator);
    if (content === null) {
      this.#writeTable(others);
    } else {
      const offset = this.#roomFor(content.length, before, others);
      const locator: MetadataItem = {
        id: items.parentLocator,
        name: 'Parent Locator',
        offset,
        length: content.length,
        flags: before?.flags ?? itemFlags.isRequired,
      };
      this.#pages.patch(this.#metadataOffset + offset, content);
      this.#writeTable([...others, locator]);
    }
    this.#setHasParent(content !== null);
  }

  #roomFor(length: number, before: MetadataItem | undefined, others: readonly MetadataItem[]): number {
    if (before !== undefined && before.length >= length) return before.offset;
    const end = others.reduce((last, item) => Math.max(last, item.offset + item.length), metadataTableLength);
    const offset = alignUp(end, 8);
    if (offset + length > this.#metadataLength) {
      throw new ImageError('vhdx/no-room', { what: 'the parent locator' }, { offset: this.#metadataOffset });
    }
    return offset;
  }

  #setHasParent(hasParent: boolean): void {
    const item = this.#items.find((candidate) => candidate.id === items.fileParameters);
    if (item === undefined) throw new Error('no file parameters');
    const at = this.#metadataOffset + item.offset;
    const page = this.#pages.at(at);
    const bytes = page.bytes.slice(at - page.start, at - page.start + fileParameters.size);
    const { Flags } = fileParameters.parse(bytes);
    const others = Flags & ~parameterFlags.hasParent;
    fileParameters.patch(bytes, { Flags: (hasParent ? others | parameterFlags.hasParent : others) >>> 0 });
    this.#pages.patch(at, bytes);
  }

  #patchItem(id: string, content: Uint8Array): void {
    const item = this.#items.find((candidate) => candidate.id === id);
    if (item === undefined) throw new Error(`no metadata item ${id}`);
    this.#pages.patch(this.#metadataOffset + item.offset, content);
  }

  #writeTable(list: readonly MetadataItem[]): void {
    const count = Math.max(list.length, this.#items.length);
    const bytes = new Uint8Array(metadataTableHeader.size + count * metadataTableEntry.size);
    metadataTableHeader.patch(bytes, { Signature: 'metadata', EntryCount: list.length });
    list.forEach((item, index) => {
      metadataTableEntry.patch(bytes.subarray(metadataTableHeader.size + index * metadataTableEntry.size), {
        ItemId: item.id,
        Offset: item.offset,
        Length: item.length,
        Flags: item.flags,
      });
    });
    this.#pages.patch(this.#metadataOffset, bytes);
    this.#items = list;
  }
}

// A VDI, read: which block is where in the file, which is zero, and which is left to the parent.
import type { BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { mapDamaged, type Damage } from '../../block/unreadable.ts';
import { alignUp, type GuestRange, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenGate } from '../driver.ts';
import { isDifferencing, type VdiHeader } from './header.ts';
import type { BlockMap } from './map.ts';
import { freeBlock, imageType, sectorSize, zeroBlock } from './spec.ts';

export interface VdiParts {
  readonly storage: Storage;
  readonly header: VdiHeader;
  /** The first bytes of the file, as far as headers reach. */
  readonly head: Uint8Array;
  readonly map: BlockMap;
  readonly parent: FoundParent | null;
  readonly gate: OpenGate;
}

/** The parent as it was found. `node` null: it is there, but is not opened. */
export interface FoundParent {
  readonly path: string;
  readonly node: BlockNode | null;
}

export class VdiNode implements BlockNode {
  readonly format = 'vdi';
  readonly name: string;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly gate: OpenGate;
  backing: BlockNode | null;
  /** Name of the parent relative to the image's folder; null: there is none, or it was not looked for. */
  parentPath: string | null;
  size: number;
  header: VdiHeader;
  head: Uint8Array;
  readonly blockMap: BlockMap;
  readonly #damage: Damage | null;
  #closed = false;

  /** `damage` null: it was not opened leniently. */
  constructor(parts: VdiParts, damage: Damage | null = null) {
    this.#damage = damage;
    this.storage = parts.storage;
    this.name = parts.storage.name;
    this.files = [{ role: 'file', format: 'file', storage: parts.storage }];
    this.gate = parts.gate;
    this.backing = parts.parent?.node ?? null;
    this.parentPath = parts.parent?.path ?? null;
    this.header = parts.header;
    this.head = parts.head;
    this.blockMap = parts.map;
    // VBoxManage convertfromraw made disks of odd sizes; whole sectors are what a guest sees.
    this.size = alignUp(parts.header.values.disk_size, sectorSize);
  }

  get blockSize(): number {
    return this.header.values.block_size;
  }

  get differencing(): boolean {
    return isDifferencing(this.header);
  }

  /**
   * A differencing disk stores whole blocks. Any other fills a block's place with zeroes where nothing was written, which the file keeps
   * as a hole: its bytes are stored by the sector.
   */
  get granularity(): number {
    return this.differencing ? this.blockSize : sectorSize;
  }

  map(range: GuestRange): Mapping {
    const damage = this.#damage;
    return damage === null ? this.#mapSound(range) : mapDamaged(range, damage, (known) => this.#mapSound(known));
  }

  #mapSound(range: GuestRange): Mapping {
    const { blockSize } = this;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const limit = Math.ceil((within + range.length) / blockSize);
    const entry = this.blockMap.get(block);
    if (entry === freeBlock || entry === zeroBlock) {
      const length = Math.min(range.length, this.blockMap.equalRun(block, limit) * blockSize - within);
      if (entry === zeroBlock || !this.differencing) return { kind: 'zero', length, explicit: true };
      if (this.backing === null) return { kind: 'zero', length, explicit: false };
      return { kind: 'below', length, node: this.backing, offset: range.start };
    }
    const blocks = this.header.values.block_extra === 0 ? this.blockMap.placedRun(block, limit) : 1;
    return this.#stored(block, within, Math.min(range.length, blocks * blockSize - within));
  }

  #stored(block: number, within: number, wanted: number): Mapping {
    const { storage } = this;
    const offset = this.placeOf(this.blockMap.get(block)) + within;
    // Who looks at what may be damaged is shown what the file has of it.
    const inFile = this.#damage === null ? wanted : Math.max(1, storage.size - offset);
    const length = Math.min(wanted, inFile);
    if (offset + length > storage.size) {
      const where = { file: this.name, offset: this.blockMap.offset + 4 * block, field: `block map[${block}]` };
      throw new ImageError('vdi/truncated', { block, found: offset + length, allowed: storage.size }, where);
    }
    if (this.header.values.image_type === imageType.static) {
      const extent = storage.extentAt(offset, length);
      if (extent.kind === 'hole') {
        const hole = Math.min(length, extent.length);
        return { kind: 'zero', length: hole, explicit: true, reserved: { storage, offset }, hole: true };
      }
      return { kind: 'data', length: Math.min(length, extent.length), storage, offset, writable: true };
    }
    return { kind: 'data', length, storage, offset, writable: true };
  }

  /** Where the guest bytes of the block stand whose entry this is. */
  placeOf(entry: number): HostOffset {
    const { offset_data, block_extra, block_size } = this.header.values;
    return offset_data + entry * (block_extra + block_size) + block_extra;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.backing?.close();
    this.storage.close();
  }
}

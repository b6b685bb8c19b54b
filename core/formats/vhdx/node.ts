// An open VHDX: from guest offsets to blocks, bitmaps and the layer below.
import type { BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { mapDamaged, restOf, type Damage } from '../../block/unreadable.ts';
import { KiB, type GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { BlockTable, checkedPlace, SectorBitmap } from './block-table.ts';
import type { VhdxImage } from './image.ts';
import type { OpenGate } from '../driver.ts';
import { blockCount, chunkRatio, type Geometry } from './layout.ts';
import { Pages } from './pages.ts';
import type { ParentLocator } from './parent-locator.ts';
import { registerIdentity } from './parent.ts';
import { bitmapBlockLength, bitmapState, payloadState, sectorsPerChunk } from './spec.ts';

/** Blocks that one mapping joins at most: the answer stays cheap on the largest disks. */
const maxJoined = 65_536;

/** A VHDX opened for reading. */
export class VhdxNode implements BlockNode {
  readonly format = 'vhdx';
  readonly name: string;
  /** Parts of a block may be written without the rest; what the copy plane best looks for zeroes in. */
  readonly granularity = 64 * KiB;
  readonly files: readonly ImageFile[];
  readonly image: VhdxImage;
  readonly gate: OpenGate;
  /** The tables as they are now. */
  readonly pages: Pages;
  readonly table: BlockTable;
  protected disk: Geometry;
  protected parent: BlockNode | null;
  protected parentLocator: ParentLocator | null;
  readonly #damage: Damage | null;
  #closed = false;

  /** `lenient`: as in `OpenRequest`. */
  constructor(image: VhdxImage, parent: BlockNode | null, gate: OpenGate, lenient = false) {
    this.image = image;
    this.gate = gate;
    this.name = image.file.name;
    this.files = [{ role: 'file', format: 'file', storage: image.file }];
    this.pages = new Pages(image.storage);
    this.table = new BlockTable(this.pages, image.table.bat, chunkRatio(image.geometry));
    this.disk = image.geometry;
    this.parent = parent;
    this.parentLocator = image.locator;
    registerIdentity(image.file, () => this.dataWriteGuid);
    this.#damage = lenient ? damageOf(image, this.table) : null;
  }

  get size(): number {
    return this.disk.virtualSize;
  }

  get backing(): BlockNode | null {
    return this.parent;
  }

  get geometry(): Geometry {
    return this.disk;
  }

  /** What is recorded of the parent, whether it is open or not; null: not a differencing disk. */
  get locator(): ParentLocator | null {
    return this.parentLocator;
  }

  /** Identity of the content, which the children of this disk record. */
  get dataWriteGuid(): string {
    return this.image.section.header.DataWriteGuid;
  }

  map(range: GuestRange): Mapping {
    const damage = this.#damage;
    return damage === null ? this.#mapSound(range) : mapDamaged(range, damage, (known) => this.#mapSound(known));
  }

  #mapSound(range: GuestRange): Mapping {
    const { blockSize } = this.disk;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const length = Math.min(range.length, blockSize - within);
    const index = this.table.payload(block);
    const state = this.table.state(index);
    switch (state) {
      case payloadState.notPresent: {
        const joined = this.#joined(range, block, length, (next) => next === payloadState.notPresent);
        if (this.parent === null) return { kind: 'zero', length: joined, explicit: false };
        return { kind: 'below', length: joined, node: this.parent, offset: range.start };
      }
      case payloadState.undefined:
      case payloadState.zero:
      case payloadState.unmapped:
      case payloadState.unmappedOld:
        return { kind: 'zero', length: this.#joined(range, block, length, readsZero), explicit: true };
      case payloadState.fullyPresent: {
        const offset = this.placeOf(block, within + 1) + within;
        const joined = this.#contiguous(range, block, length, offset);
        return this.#data(joined, offset);
      }
      case payloadState.partiallyPresent:
        return this.#mapPartial(range, block, within, length);
      default:
        throw this.stateError(index, state, 'is reserved');
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.parent?.close();
    } finally {
      this.image.storage.close();
    }
  }

  /** The place in the file of a present block, which the file has `needed` bytes of at least. */
  placeOf(block: number, needed = 1): number {
    return checkedPlace(this.table, this.table.payload(block), needed, this.file);
  }

  /** The bitmap of the chunk of `block`, and the bit of the block's first sector. Throws `vhdx/bitmap-missing`. */
  bitmapOf(block: number): { bitmap: SectorBitmap; first: number } {
    const chunk = Math.floor(block / this.table.ratio);
    const index = this.table.bitmap(chunk);
    if (index >= this.table.capacity || this.table.state(index) !== bitmapState.present) {
      throw new ImageError(
        'vhdx/bitmap-missing',
        { block },
        { file: this.name, offset: this.table.offset + index * 8 },
      );
    }
    const place = checkedPlace(this.table, index, bitmapBlockLength, this.file);
    return { bitmap: new SectorBitmap(this.pages, place), first: this.firstBit(block) };
  }

  /** Number of the block's first sector within its chunk. */
  firstBit(block: number): number {
    const { blockSize, logicalSectorSize } = this.disk;
    return ((block % this.table.ratio) * (blockSize / logicalSectorSize)) % sectorsPerChunk;
  }

  /** An error that names BAT entry `index`. */
  stateError(index: number, state: number, reason: string): ImageError {
    const where = { file: this.name, offset: this.table.offset + index * 8, field: 'State' };
    return new ImageError('vhdx/block-state', { entry: index, found: state, reason }, where);
  }

  /** What offsets in the file are held against. */
  protected get file(): Storage {
    return this.image.storage;
  }

  #mapPartial(range: GuestRange, block: number, within: number, length: number): Mapping {
    if (this.parentLocator === null) {
      throw new ImageError('vhdx/partial-no-parent', { block }, { file: this.name, field: 'State' });
    }
    const { logicalSectorSize: sector } = this.disk;
    const { bitmap, first } = this.bitmapOf(block);
    const from = Math.floor(within / sector);
    const run = bitmap.run(first + from, Math.ceil((within + length) / sector) - from);
    const reach = Math.min(length, (from + run.length) * sector - within);
    if (run.set) return this.#data(reach, this.placeOf(block, within + 1) + within);
    if (this.parent === null) return { kind: 'zero', length: reach, explicit: false };
    return { kind: 'below', length: reach, node: this.parent, offset: range.start };
  }

  /** Bytes of the file, as far as it has them: where it was cut short, the rest of the block cannot be read. */
  #data(wanted: number, offset: number): Mapping {
    const { file, replayed } = this.image;
    const length = Math.min(wanted, this.file.size - offset);
    const storage = replayed !== null && replayed.changes(offset, length) ? replayed : file;
    return { kind: 'data', length, storage, offset, writable: file.writable };
  }

  /** `length` and the blocks behind it whose state is like it, within the range. */
  #joined(range: GuestRange, block: number, length: number, like: (state: number) => boolean): number {
    let reach = length;
    for (let next = block + 1; reach < range.length && next - block < maxJoined; next++) {
      if (!like(this.table.state(this.table.payload(next)))) break;
      reach = Math.min(range.length, reach + this.disk.blockSize);
    }
    return reach;
  }

  /** `length` and the blocks behind it that lie behind it in the file too. */
  #contiguous(range: GuestRange, block: number, length: number, offset: number): number {
    let reach = length;
    for (let next = block + 1; reach < range.length && next - block < maxJoined; next++) {
      const index = this.table.payload(next);
      if (this.table.state(index) !== payloadState.fullyPresent || this.table.place(index) !== offset + reach) break;
      const joined = Math.min(range.length, reach + this.disk.blockSize);
      if (offset + joined > this.file.size) break;
      reach = joined;
    }
    return reach;
  }
}

/** What is known of a disk whose BAT or blocks may not lie in the file. */
function damageOf({ file, geometry, table: { bat } }: VhdxImage, { ratio }: BlockTable): Damage {
  const { blockSize } = geometry;
  const inFile = Math.floor(Math.max(0, Math.min(bat.length, file.size - bat.offset)) / 8);
  // The entry of a bitmap block stands behind those of each chunk.
  const chunks = Math.floor(inFile / (ratio + 1));
  const blocks = chunks * ratio + Math.min(ratio, inFile - chunks * (ratio + 1));
  const reason = 'reaches beyond the end of the file';
  const detail = { name: bat.name, offset: bat.offset, length: bat.length, reason };
  return {
    known: blocks * blockSize,
    beyond: blocks < blockCount(geometry) ? new ImageError('vhdx/region-place', detail, { file: file.name }) : null,
    reach: (start) => restOf(blockSize, start),
  };
}

/** States that read as zeroes whatever is below. */
export function readsZero(state: number): boolean {
  return (
    state === payloadState.zero ||
    state === payloadState.undefined ||
    state === payloadState.unmapped ||
    state === payloadState.unmappedOld
  );
}

// A VDI, written: places for blocks at the end of the file, and the order on the disk.
import crypto from 'node:crypto';
import type { BackingReference, Place, WritableNode } from '../../block/node.ts';
import { resolveOne } from '../../block/read.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { emptyDisk } from './empty.ts';
import { patchHead } from './header.ts';
import { VdiNode, type VdiParts } from './node.ts';
import { relink } from './relink.ts';
import { resizeVdi } from './resize.ts';
import { freeBlock, zeroBlock, type Header1 } from './spec.ts';

/** Blocks that one place covers at most. */
const longestRun = 64;

export class WritableVdiNode extends VdiNode implements WritableNode {
  readonly identityFollowsContent = true;
  /** The next number for a block's place. */
  #next: number;
  /** One more than the largest number in the block map, and what the header says at least. */
  #top: number;
  /** Places given out for blocks that the map does not know yet. */
  readonly #pending = new Map<number, number>();
  #isMarked = false;
  #isChanged = false;
  #headDirty = false;

  constructor(parts: VdiParts) {
    super(parts);
    const { offset_data, block_extra, block_size, blocks_allocated } = parts.header.values;
    const held = Math.ceil((this.storage.size - offset_data) / (block_extra + block_size));
    let last = -1;
    for (let block = 0; block < this.blockMap.entries; block++) {
      const entry = this.blockMap.get(block);
      if (entry >= zeroBlock || entry <= last) continue;
      last = entry;
      if (entry < held) continue;
      const where = { file: this.name, offset: this.blockMap.offset + 4 * block, field: `block map[${block}]` };
      const detail = { block, found: this.placeOf(entry) + block_size, allowed: this.storage.size };
      throw new ImageError('vdi/truncated', detail, where);
    }
    this.#top = Math.max(last + 1, Math.min(blocks_allocated, Math.max(0, held)));
    this.#next = this.#top;
  }

  reserve(range: GuestRange): Place {
    const { blockSize, storage } = this;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const limit = Math.ceil((within + range.length) / blockSize);
    this.#isChanged = true;
    const entry = this.blockMap.get(block);
    if (entry < zeroBlock) {
      const mapping = this.map(range);
      const offset = this.placeOf(entry) + within;
      return {
        covers: { start: range.start, length: mapping.length },
        storage,
        offset,
        fresh: false,
        publish: () => {},
      };
    }
    const wanted = this.header.values.block_extra === 0 ? Math.min(limit, longestRun) : 1;
    const blocks = this.#place(block, this.#unplacedRun(block, wanted));
    const first = this.#pending.get(block) ?? 0;
    const publish = (): void => this.#publish(block, blocks);
    // What a free block of a differencing disk does not get from the writer it must get from the parent.
    if (this.differencing && entry === freeBlock) {
      const end = Math.min((block + blocks) * blockSize, this.size);
      const covers = { start: block * blockSize, length: end - block * blockSize };
      return { covers, storage, offset: this.placeOf(first), fresh: true, publish };
    }
    const covers = { start: range.start, length: Math.min(range.length, blocks * blockSize - within) };
    return { covers, storage, offset: this.placeOf(first) + within, fresh: true, publish };
  }

  /** Blocks from `block` on with the same entry (free, or zero) that are all pending one behind the other, or all not. */
  #unplacedRun(block: number, limit: number): number {
    const same = this.blockMap.equalRun(block, limit);
    const first = this.#pending.get(block);
    let run = 1;
    while (run < same) {
      const next = this.#pending.get(block + run);
      if (first === undefined ? next !== undefined : next !== first + run) break;
      run++;
    }
    return run;
  }

  /** Places for `count` blocks from `block` on, which are all pending or all not; gives `count`. Throws `vdi/full`. */
  #place(block: number, count: number): number {
    if (this.#pending.has(block)) return count;
    const most = zeroBlock - 1;
    if (this.#next + count > most) throw new ImageError('vdi/full', { allowed: most }, { file: this.name });
    const { block_extra, block_size } = this.header.values;
    const start = this.placeOf(this.#next) - block_extra;
    const end = start + count * (block_extra + block_size);
    const stale = this.storage.size - start;
    if (stale > 0) this.storage.zeroAt(start, Math.min(stale, end - start));
    if (end > this.storage.size) this.storage.truncate(end);
    for (let i = 0; i < count; i++) this.#pending.set(block + i, this.#next + i);
    this.#next += count;
    return count;
  }

  #publish(block: number, count: number): void {
    for (let at = block; at < block + count; at++) {
      const place = this.#pending.get(at);
      if (place === undefined) continue;
      this.blockMap.set(at, place);
      this.#pending.delete(at);
      if (place < this.#top) continue;
      this.#top = place + 1;
      this.#headDirty = true;
    }
  }

  zero(range: GuestRange): GuestRange | null {
    const { blockSize } = this;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const limit = Math.ceil((within + range.length) / blockSize);
    this.#isChanged = true;
    const entry = this.blockMap.get(block);
    const pending = this.#pending.get(block);
    const length = Math.min(range.length, blockSize - within);
    const done = { start: range.start, length };
    if (entry < zeroBlock || pending !== undefined) {
      const first = Math.min(entry, pending ?? entry);
      this.storage.zeroAt(this.placeOf(first) + within, length);
      return done;
    }
    if (entry === zeroBlock || !this.differencing) {
      const run = this.#unplacedRun(block, limit);
      return { start: range.start, length: Math.min(range.length, run * blockSize - within) };
    }
    if (this.backing !== null) {
      const below = resolveOne(this, done);
      if (below.mapping.kind === 'zero') return { start: range.start, length: below.length };
    }
    if (!this.#isWholeBlock(block, done)) return null;
    this.blockMap.set(block, zeroBlock);
    return done;
  }

  #isWholeBlock(block: number, range: GuestRange): boolean {
    const end = Math.min((block + 1) * this.blockSize, this.size);
    return range.start === block * this.blockSize && range.start + range.length === end;
  }

  /** Only blocks that are marked as zero: a stored one would leave a gap in the file that no reader of the field expects. */
  release(range: GuestRange): GuestRange | null {
    const { blockSize } = this;
    const block = Math.floor(range.start / blockSize);
    const within = range.start - block * blockSize;
    const length = Math.min(range.length, blockSize - within);
    const done = { start: range.start, length };
    const entry = this.blockMap.get(block);
    if (this.#pending.has(block)) return null;
    if (entry === freeBlock) return done;
    if (!this.differencing) return this.zero(range);
    if (entry !== zeroBlock || !this.#isWholeBlock(block, done)) return null;
    this.#isChanged = true;
    this.blockMap.set(block, freeBlock);
    return done;
  }

  /** Throws `storage/*`. Only a disk with a parent shows what is below; any other reads as zeroes then. */
  empty(): boolean {
    this.#isChanged = true;
    emptyDisk(this);
    return true;
  }

  resize(size: number): void {
    this.#isChanged = true;
    resizeVdi(this, size);
  }

  /** Throws `vdi/parent-format`, `vdi/parent-place`, `vdi/old-version`, `gate/*`, `storage/*`. */
  setBacking(reference: BackingReference | null): void {
    this.#isChanged = true;
    relink(this, reference);
  }

  /**
   * On the disk in this order: 1 guest data, and a new modification UUID, by which children notice that their parent has changed · 2 the number
   * of blocks, so that nobody gives their places away · 3 the block map that points to them.
   */
  flush(): void {
    if (this.#isChanged && !this.#isMarked) {
      this.patchHeader({ uuid_modify: crypto.randomUUID() });
      this.#isMarked = true;
    }
    this.storage.flush();
    if (this.#headDirty) {
      this.#writeTop();
      this.storage.flush();
    }
    if (!this.blockMap.isDirty) return;
    this.blockMap.write();
    this.storage.flush();
  }

  writeBack(): void {
    if (this.#headDirty) this.#writeTop();
    this.blockMap.write();
  }

  #writeTop(): void {
    this.patchHeader({ blocks_allocated: this.#top });
    this.#headDirty = false;
  }

  /** Writes header fields; all of them stand in the first sector. Throws `storage/write`. */
  patchHeader(values: Partial<Header1>): void {
    const head = this.head.slice();
    patchHead(head, this.header, values);
    this.storage.writeAt(head, 0);
    this.head = head;
    this.header = { ...this.header, values: { ...this.header.values, ...values } };
  }

  /** The numbers of places from now on: the map holds smaller ones than `top` only. */
  setTop(top: number): void {
    this.#top = top;
    this.#next = top;
  }

  /** The guest may read other bytes from now on: the disk gets a new modification UUID. */
  markChanged(): void {
    this.#isChanged = true;
  }

  get top(): number {
    return this.#top;
  }

  get hasPending(): boolean {
    return this.#pending.size > 0;
  }
}

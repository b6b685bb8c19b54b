// Which parts of a disk its file systems do not use: collected once, asked often, in bounded memory.
import type { BlockNode, Mapping } from '../block/node.ts';
import { alignDown, alignUp, KiB, type GuestOffset } from '../block/units.ts';
import { isImageError } from '../errors/image-error.ts';
import type { Job } from '../job.ts';
import { fileSystemsOf } from './file-systems.ts';
import type { FileSystem } from './volume.ts';

/** What is known of one file system. */
export interface FileSystemUse {
  /** Number of its partition; null: it takes the whole disk. */
  readonly partition: number | null;
  readonly kind: string;
  /** Where it stands on the disk, in bytes. */
  readonly start: GuestOffset;
  readonly length: number;
  /** Bytes that it marks free. */
  readonly free: number;
  /** Why its record of free space is not used; null: it is. */
  readonly refused: string | null;
}

/** Ranges kept at most; with more of them the smallest are left out. */
const mostRanges = 4 * 1024 * 1024;
/** Ranges are cut to multiples of this: no host gives less than a block back. */
const grain = 4 * KiB;

/** Rising ranges of a disk. */
export class UnusedSpace {
  readonly fileSystems: readonly FileSystemUse[];
  /** Start and end of each range, in turn. */
  readonly #bounds: Float64Array;
  readonly #count: number;
  #last = 0;

  private constructor(fileSystems: readonly FileSystemUse[], bounds: Float64Array, count: number) {
    this.fileSystems = fileSystems;
    this.#bounds = bounds;
    this.#count = count;
  }

  /**
   * Looks for file systems on the disk of `node` and reads what they mark free. A file system that contradicts itself anywhere gives
   * nothing. Throws what reading the image throws, `request/cancelled`.
   */
  static of(node: BlockNode, job: Job): UnusedSpace {
    const collected = new Ranges();
    const uses = fileSystemsOf(node).map(({ partition, fileSystem }): FileSystemUse => {
      const { kind, volume, refused } = fileSystem;
      const place = { partition, kind, start: volume.start, length: volume.length };
      if (refused !== null) return { ...place, free: 0, refused };
      const before = collected.mark();
      try {
        return { ...place, free: collect(fileSystem, collected, job), refused: null };
      } catch (error) {
        if (!isImageError(error, 'guest/damaged')) throw error;
        collected.backTo(before);
        return { ...place, free: 0, refused: error.message };
      }
    });
    return new UnusedSpace(uses, collected.bounds, collected.count);
  }

  /** Whether the guest uses the byte at `start`, and how far (at most `length` bytes) that goes on. */
  at(start: GuestOffset, length: number): { readonly unused: boolean; readonly length: number } {
    const index = this.#firstEndingAfter(start);
    if (index >= this.#count) return { unused: false, length };
    const from = this.#bounds[index * 2] ?? 0;
    const end = this.#bounds[index * 2 + 1] ?? 0;
    if (start < from) return { unused: false, length: Math.min(length, from - start) };
    return { unused: true, length: Math.min(length, end - start) };
  }

  #firstEndingAfter(start: GuestOffset): number {
    const endOf = (index: number): number => this.#bounds[index * 2 + 1] ?? Infinity;
    const near = this.#last;
    if (near < this.#count && endOf(near) > start && (near === 0 || endOf(near - 1) <= start)) return near;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (endOf(middle) > start) high = middle;
      else low = middle + 1;
    }
    this.#last = low;
    return low;
  }
}

function collect(fileSystem: FileSystem, into: Ranges, job: Job): number {
  let free = 0;
  let looked = 0;
  for (const { start, length } of fileSystem.freeRanges()) {
    if (looked++ % 4096 === 0) job.throwIfCancelled();
    free += length;
    into.add(start, length);
  }
  return free;
}

/** Ranges as they come in, the shortest left out when they become too many. */
class Ranges {
  bounds = new Float64Array(1024);
  count = 0;
  #shortest = grain;

  add(start: GuestOffset, length: number): void {
    const from = alignUp(start, grain);
    const end = alignDown(start + length, grain);
    if (end - from < this.#shortest) return;
    if (this.count === mostRanges) this.#thin();
    if (this.count * 2 === this.bounds.length) {
      const larger = new Float64Array(this.bounds.length * 2);
      larger.set(this.bounds);
      this.bounds = larger;
    }
    this.bounds[this.count * 2] = from;
    this.bounds[this.count * 2 + 1] = end;
    this.count++;
  }

  /** The end of the last range so far. */
  mark(): GuestOffset {
    return this.count === 0 ? 0 : (this.bounds[this.count * 2 - 1] ?? 0);
  }

  /** Forgets ranges that begin at or behind `mark`. */
  backTo(mark: GuestOffset): void {
    while (this.count > 0 && (this.bounds[this.count * 2 - 2] ?? 0) >= mark) this.count--;
  }

  #thin(): void {
    while (this.count === mostRanges) {
      this.#shortest *= 2;
      let kept = 0;
      for (let index = 0; index < this.count; index++) {
        const from = this.bounds[index * 2] ?? 0;
        const end = this.bounds[index * 2 + 1] ?? 0;
        if (end - from < this.#shortest) continue;
        this.bounds[kept * 2] = from;
        this.bounds[kept * 2 + 1] = end;
        kept++;
      }
      this.count = kept;
    }
  }
}

/**
 * The disk of `node` with what its file systems do not use read as zeroes, as far as this image (and no layer below) stores it. Closing
 * the view closes `node`. Throws as `UnusedSpace.of`.
 */
export function withoutUnused(node: BlockNode, job: Job): BlockNode {
  const unused = UnusedSpace.of(node, job);
  return {
    format: node.format,
    name: node.name,
    size: node.size,
    granularity: node.granularity,
    backing: node.backing,
    files: node.files,
    map(range): Mapping {
      const mapping = node.map(range);
      if (mapping.kind !== 'data' && mapping.kind !== 'packed') return mapping;
      const answer = unused.at(range.start, Math.min(range.length, mapping.length));
      return answer.unused
        ? { kind: 'zero', length: answer.length, explicit: true }
        : { ...mapping, length: answer.length };
    },
    close: () => node.close(),
  };
}

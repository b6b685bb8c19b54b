// A Storage that loses power: what was not flushed is kept, lost or torn at random when the cut comes.
import { MemoryStorage } from '../../core/block/memory.ts';
import type { Provision, Storage, StorageExtent } from '../../core/block/storage.ts';
import type { SeededRandom } from '../seeded-random.ts';
import type { StepCounter } from './failing-storage.ts';

/** Thrown when the power goes; not an ImageError, so that no code of ours handles it. */
export class PowerCut extends Error {}

type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number }
  | { readonly kind: 'truncate'; readonly size: number };

const sector = 512;

/**
 * Holds an image in memory twice: as the running program sees it, and as it is known to be on the disk. `flush` makes both equal.
 * At step n of `counter` the power goes: `PowerCut` is thrown then and at every later change.
 */
export class PowerCutStorage implements Storage {
  readonly name: string;
  readonly writable = true;
  readonly descriptor = null;
  readonly identity = null;
  readonly #live: MemoryStorage;
  readonly #durable: MemoryStorage;
  readonly #counter: StepCounter;
  #pending: Change[] = [];

  constructor(initial: Uint8Array, counter: StepCounter, name = 'power-cut') {
    this.name = name;
    this.#live = new MemoryStorage(initial, name);
    this.#durable = new MemoryStorage(initial, name);
    this.#counter = counter;
  }

  get size(): number {
    return this.#live.size;
  }

  readAt(into: Uint8Array, offset: number): void {
    this.#live.readAt(into, offset);
  }

  writeAt(from: Uint8Array, offset: number): void {
    this.#step('write', { kind: 'write', offset, bytes: from.slice() });
    this.#live.writeAt(from, offset);
  }

  truncate(size: number): void {
    this.#step('truncate', { kind: 'truncate', size });
    this.#live.truncate(size);
  }

  zeroAt(offset: number, length: number): void {
    this.#step('zero', { kind: 'zero', offset, length });
    this.#live.zeroAt(offset, length);
  }

  provide(offset: number, length: number, how: Provision): void {
    const end = Math.max(this.size, offset + length);
    this.#step('provide', { kind: 'truncate', size: end });
    this.#live.provide(offset, length, how);
  }

  flush(): void {
    if (this.#counter.begin('flush')) throw new PowerCut();
    for (const change of this.#pending) apply(change, this.#durable);
    this.#pending = [];
  }

  close(): void {}

  extentAt(offset: number, limit: number): StorageExtent {
    return this.#live.extentAt(offset, limit);
  }

  allocated(): number {
    return this.#live.allocated();
  }

  /**
   * What a reader may find after the cut: everything flushed, and of what came later each change whole, not at all, or only some of
   * its sectors. Changes of the file's length reach the disk in order with the rest of them.
   */
  afterCut(random: SeededRandom): Uint8Array {
    const disk = new MemoryStorage(this.#durable.bytes(), this.name);
    for (const change of this.#pending) {
      const fate = random.below(4);
      if (fate === 0) continue;
      if (fate === 1 && change.kind === 'write') {
        for (let at = 0; at < change.bytes.length;) {
          const length = Math.min(sector - ((change.offset + at) % sector), change.bytes.length - at);
          if (random.oneIn(2)) disk.writeAt(change.bytes.subarray(at, at + length), change.offset + at);
          at += length;
        }
      } else apply(change, disk);
    }
    return disk.bytes();
  }

  #step(kind: 'write' | 'truncate' | 'zero' | 'provide', change: Change): void {
    if (this.#counter.begin(kind)) throw new PowerCut();
    this.#pending.push(change);
  }
}

function apply(change: Change, to: MemoryStorage): void {
  switch (change.kind) {
    case 'write':
      to.writeAt(change.bytes, change.offset);
      break;
    case 'zero':
      to.zeroAt(change.offset, change.length);
      break;
    case 'truncate':
      to.truncate(change.size);
      break;
  }
}

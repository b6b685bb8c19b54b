// The entries of an image opened for writing: changed in memory, written after what they point to; and the room in the file.
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';
import { join } from './layout.ts';
import { tableBytes } from './tables.ts';

/** Changed tables are written out at the latest when they take this many bytes. */
const dirtyLimit = 8 * 1024 * 1024;

export class Entries {
  readonly #state: QcowState;
  /** Where the next bytes go: behind everything that is in use or promised. */
  #end: HostOffset;
  /** Clusters that the tables in memory no longer know, but those on the disk may. */
  #left: HostOffset[] = [];
  /** Clusters that nothing points to. */
  #free: HostOffset[] = [];
  /** L1 entries that differ from what stands on disk. */
  readonly #dirtyL1 = new Set<number>();

  constructor(state: QcowState) {
    this.#state = state;
    this.#end = state.storage.size;
  }

  /** The halves of the entry of a guest cluster. */
  get(cluster: number): [high: number, low: number] {
    const { l2Entries } = this.#state.layout;
    const index = Math.floor(cluster / l2Entries);
    const offset = this.#state.l2Offset(index);
    if (offset === 0) return [0, 0];
    const table = this.#state.l2Table(offset);
    const i = (cluster - index * l2Entries) * 2;
    return [table[i] ?? 0, table[i + 1] ?? 0];
  }

  /** Points a guest cluster somewhere else, or to nothing; where it stood plainly becomes free. */
  set(cluster: number, high: number, low: number): void {
    const { l2Entries } = this.#state.layout;
    const index = Math.floor(cluster / l2Entries);
    if ((high | low) === 0 && this.#state.l2Offset(index) === 0) return;
    const table = this.#tableForChange(index);
    const i = (cluster - index * l2Entries) * 2;
    const oldHigh = table[i] ?? 0;
    const oldLow = table[i + 1] ?? 0;
    table[i] = high;
    table[i + 1] = low;
    if ((oldHigh | oldLow) !== 0 && (oldHigh & packedFlag) === 0) this.#left.push(join(oldHigh, oldLow));
    this.#relieve();
  }

  /** Points `count` guest clusters to clusters that follow each other from `offset`. */
  point(cluster: number, offset: HostOffset, count: number): void {
    const { clusterSize } = this.#state.layout;
    for (let i = 0; i < count; i++) {
      const at = offset + i * clusterSize;
      this.set(cluster + i, Math.floor(at / 0x1_0000_0000), at % 0x1_0000_0000);
    }
  }

  /** Room for 1 to `want` clusters in one piece: what was given up before, else the end of the file. */
  allocate(want: number): { readonly offset: HostOffset; readonly count: number } {
    const { clusterSize } = this.#state.layout;
    const reused = this.#free.pop();
    if (reused !== undefined) return { offset: reused, count: 1 };
    return { offset: this.appendAligned(want * clusterSize), count: want };
  }

  /** Room for `length` bytes at the next cluster boundary. */
  appendAligned(length: number): HostOffset {
    const offset = alignUp(this.#end, this.#state.layout.clusterSize);
    this.#end = offset + length;
    this.#check();
    return offset;
  }

  /** Room for `length` bytes of a compressed cluster, which may stand anywhere. */
  append(length: number): HostOffset {
    const offset = this.#end;
    this.#end += length;
    this.#check();
    return offset;
  }

  /** Compressed clusters have the fewest bits for their place: no file grows beyond what those can say, nor beyond exact numbers. */
  #check(): void {
    const most = Math.min(2 ** (63 - this.#state.layout.clusterBits), Number.MAX_SAFE_INTEGER);
    if (this.#end > most) {
      throw new ImageError('qcow/file-too-large', { allowed: most }, { file: this.#state.storage.name });
    }
  }

  #tableForChange(index: number): Uint32Array {
    const state = this.#state;
    let offset = state.l2Offset(index);
    let table: Uint32Array;
    if (offset === 0) {
      offset = this.appendAligned(alignUp(state.layout.l2Size, state.layout.clusterSize));
      table = new Uint32Array(state.layout.l2Entries * 2);
      state.l1[index * 2] = Math.floor(offset / 0x1_0000_0000);
      state.l1[index * 2 + 1] = offset % 0x1_0000_0000;
      state.dirty.add(offset);
      state.addTable(offset, table);
      this.#dirtyL1.add(index);
    } else {
      table = state.l2Table(offset);
      state.dirty.add(offset);
    }
    return table;
  }

  /** Memory is bounded: what has changed goes to the disk in the safe order before it is too much. */
  #relieve(): void {
    if (this.#state.dirty.size * this.#state.layout.l2Size < dirtyLimit) return;
    this.writeBack(() => this.#state.storage.flush());
  }

  /**
   * Writes everything that has changed; `wait` stands between the steps: 1 guest data, 2 L2 tables that point to it, 3 L1 entries
   * that point to those. A power cut in between leaves space that nothing points to, at worst.
   */
  writeBack(wait: () => void): void {
    const state = this.#state;
    const { storage } = state;
    wait();
    if (state.dirty.size > 0) {
      for (const [offset, length] of joined([...state.dirty], state.layout.l2Size)) {
        const bytes = new Uint8Array(length);
        for (let at = 0; at < length; at += state.layout.l2Size) {
          bytes.set(tableBytes(state.l2Table(offset + at)), at);
        }
        storage.writeAt(bytes, offset);
      }
      state.dirty.clear();
      wait();
    }
    if (this.#dirtyL1.size > 0) {
      const indices = [...this.#dirtyL1].sort((a, b) => a - b);
      for (const [first, count] of joined(indices, 1)) {
        storage.writeAt(tableBytes(state.l1, first, count), state.fields.l1_table_offset + first * 8);
      }
      this.#dirtyL1.clear();
      wait();
    }
    // Nothing on the disk points to these any more.
    for (const offset of this.#left) this.#free.push(offset);
    this.#left = [];
  }

  /** Nothing of the file is in use from `end` on, and no cluster before it is free. */
  startAt(end: HostOffset): void {
    this.#end = end;
    this.#left = [];
    this.#free = [];
  }

  /** L1 entries that stand elsewhere now, or are new, were written by who moved them. */
  l1Moved(): void {
    this.#dirtyL1.clear();
  }
}

/** Numbers that follow each other in steps of `step`, as [first, length of the run]. */
function joined(numbers: number[], step: number): [number, number][] {
  numbers.sort((a, b) => a - b);
  const runs: [number, number][] = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === number) last[1] += step;
    else runs.push([number, step]);
  }
  return runs;
}

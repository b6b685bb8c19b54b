// What L1 tables refer to, counted for a successor: L2 tables, and the clusters that those point to; and the copied bits that follow.
import type { Job } from '../../job.ts';
import { dataOffset, Kind, kindOf } from './entries.ts';
import { l2OffsetAt } from './l2.ts';
import { entryOffset, packedLength, packedOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import type { Successor } from './successor.ts';
import { tableBytes } from './tables.ts';

/** How often L1 tables come to refer to each L2 table, or cease to: each is then looked at once, however many refer to it. */
export class References {
  readonly #state: Qcow2State;
  readonly #changes = new Map<number, number>();

  constructor(state: Qcow2State) {
    this.#state = state;
  }

  /** All entries of `l1` come into use `times` times. Throws `qcow2/l2-offset`, `qcow2/reserved-bits`. */
  add(l1: Uint32Array, times: number): void {
    for (let index = 0; index * 2 < l1.length; index++) {
      const offset = l2OffsetAt(this.#state, l1, index);
      if (offset !== 0) this.#changes.set(offset, (this.#changes.get(offset) ?? 0) + times);
    }
  }

  /** Counts it all for `successor`. Throws what the entries throw, `qcow2/refcount-overflow`, `qcow2/refcount-underflow`. */
  apply(successor: Successor, job: Job): void {
    const { clusterSize } = this.#state.layout;
    let done = 0;
    for (const [offset, change] of this.#changes) {
      if (change !== 0) {
        successor.addReferences(offset / clusterSize, 1, change);
        countEntries(this.#state, successor, offset, change);
      }
      job.throwIfCancelled();
      job.progress({ phase: 'references', done: ++done * clusterSize, total: this.#changes.size * clusterSize });
    }
  }
}

/** The clusters that the L2 table at `offset` points to get `change` references more. */
function countEntries(state: Qcow2State, successor: Successor, tableOffset: number, change: number): void {
  const { layout, tables } = state;
  const { clusterSize, l2EntrySize } = layout;
  const table = tables.get(tableOffset);
  const halves = l2EntrySize / 4;
  for (let i = 0; i < table.length; i += halves) {
    const high = table[i] ?? 0;
    const low = table[i + 1] ?? 0;
    if ((high | low) === 0) continue;
    if ((high & entry.compressed) !== 0) {
      const at = packedOffset(layout, high, low);
      const first = Math.floor(at / clusterSize);
      const last = Math.floor((at + packedLength(layout, high, low) - 1) / clusterSize);
      successor.addReferences(first, last - first + 1, change);
      continue;
    }
    const at = dataOffset(state, high, low, 0, { tableOffset, index: i / halves });
    if (at !== 0) successor.addReferences(at / clusterSize, 1, change);
  }
}

/**
 * Gives the L2 tables of an active L1 table the copied bits that the successor's refcounts ask for, in copies where that changes them,
 * and sets those of its own entries. `sharedBy`: L1 tables with the same entries that go on sharing these L2 tables.
 */
export function settleCopiedBits(
  state: Qcow2State,
  successor: Successor,
  l1: Uint32Array,
  sharedBy: readonly Uint32Array[],
  job: Job,
): void {
  const { clusterSize } = state.layout;
  const references = 1 + sharedBy.length;
  /** Where the copies of tables stand, and how often they are referenced. */
  const copies = new Map<number, { readonly offset: number; readonly before: number; references: number }>();
  for (let index = 0; index * 2 < l1.length; index++) {
    const offset = l2OffsetAt(state, l1, index);
    if (offset === 0) continue;
    job.throwIfCancelled();
    job.progress({ phase: 'copied bits', done: index * clusterSize, total: (l1.length / 2) * clusterSize });
    if (!copies.has(offset)) {
      const corrected = withCopiedBits(state, successor, offset);
      if (corrected !== null) {
        copies.set(offset, { offset: successor.put(tableBytes(corrected)), before: offset, references: 0 });
      }
    }
    const copy = copies.get(offset);
    if (copy !== undefined) {
      successor.addReferences(offset / clusterSize, 1, -references);
      copy.references += references;
    }
    for (const table of [l1, ...sharedBy]) {
      const at = copy?.offset ?? offset;
      table[index * 2] = Math.floor(at / 0x1_0000_0000);
      table[index * 2 + 1] = at % 0x1_0000_0000;
    }
  }
  const counts = new Map<number, number>();
  for (const { offset, before, references: count } of copies.values()) {
    // A table that a snapshot still uses stays where it is, and the copy where that is.
    const home = successor.refcount(before / clusterSize) === 0 ? { offset: before } : null;
    successor.count(offset, clusterSize, count, home);
    counts.set(offset, count);
  }
  for (let index = 0; index * 2 < l1.length; index++) {
    const offset = entryOffset(l1[index * 2] ?? 0, l1[index * 2 + 1] ?? 0);
    if (offset === 0 || (counts.get(offset) ?? successor.refcount(offset / clusterSize)) !== 1) continue;
    l1[index * 2] = ((l1[index * 2] ?? 0) | entry.copied) >>> 0;
  }
}

/** The L2 table at `offset` with the right copied bits; null: it has them. */
function withCopiedBits(state: Qcow2State, successor: Successor, offset: number): Uint32Array | null {
  const { clusterSize, l2EntrySize } = state.layout;
  const stored = state.tables.get(offset);
  const halves = l2EntrySize / 4;
  let table: Uint32Array | null = null;
  for (let i = 0; i < stored.length; i += halves) {
    const high = stored[i] ?? 0;
    const low = stored[i + 1] ?? 0;
    if ((high | low) === 0 || kindOf(state, high, low) === Kind.packed) continue;
    const at = entryOffset(high, low);
    const copied = at !== 0 && successor.refcount(at / clusterSize) === 1;
    if (((high & entry.copied) !== 0) === copied) continue;
    table ??= stored.slice();
    table[i] = (high ^ entry.copied) >>> 0;
  }
  return table;
}

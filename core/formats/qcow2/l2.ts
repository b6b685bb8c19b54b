// L2 tables in memory: those that were changed until they are written, of the others the ones used last.
import { ImageError } from '../../errors/image-error.ts';
import { entryOffset } from './layout.ts';
import type { Qcow2State } from './state.ts';
import { entry } from './spec.ts';
import { loadTable, TableCache } from './tables.ts';

const cleanLimit = 8 * 1024 * 1024;

/** The L2 tables of an image, by host offset; snapshots share them. At most 8 MiB of clean ones are kept. */
export class L2Tables {
  readonly dirty = new Map<number, Uint32Array>();
  readonly #clean = new TableCache<Uint32Array>(cleanLimit);
  readonly #state: Qcow2State;
  #lastOffset = -1;
  #last: Uint32Array | null = null;

  constructor(state: Qcow2State) {
    this.#state = state;
  }

  /** The table at `offset`. Throws `qcow2/table-beyond-file`, `storage/*`. */
  get(offset: number): Uint32Array {
    if (offset === this.#lastOffset && this.#last !== null) return this.#last;
    let table = this.dirty.get(offset) ?? this.#clean.get(offset);
    if (table === null) {
      const { storage, layout } = this.#state;
      const beyond = this.entriesInFile(offset) > 0 && this.#state.lenient ? 'zero' : 'refuse';
      table = loadTable(storage, offset, layout.clusterSize / 8, 'L2 table', beyond);
      this.#clean.put(offset, table);
    }
    this.#lastOffset = offset;
    this.#last = table;
    return table;
  }

  /** Entries of the table at `offset` that lie in the file. */
  entriesInFile(offset: number): number {
    const { storage, layout } = this.#state;
    const bytes = Math.max(0, Math.min(layout.clusterSize, storage.size - offset));
    return Math.floor(bytes / layout.l2EntrySize);
  }

  /** `table` stands at `offset` from now on and has to be written there. */
  change(offset: number, table: Uint32Array): void {
    if (this.dirty.get(offset) === table) return;
    this.#clean.drop(offset);
    this.dirty.set(offset, table);
    this.#lastOffset = offset;
    this.#last = table;
  }

  /** The changed table at `offset` has been written. */
  written(offset: number): void {
    const table = this.dirty.get(offset);
    if (table === undefined) return;
    this.dirty.delete(offset);
    this.#clean.put(offset, table);
  }

  /** Other tables than before stand in the file; none of these was changed. */
  clear(): void {
    this.#clean.clear();
    this.#lastOffset = -1;
    this.#last = null;
  }

  /** No table stands at `offset` any more. */
  forget(offset: number): void {
    this.dirty.delete(offset);
    this.#clean.drop(offset);
    if (offset === this.#lastOffset) this.#last = null;
  }
}

/** Where the L2 table of L1 entry `index` stands; 0: there is none. Throws `qcow2/l2-offset`, `qcow2/reserved-bits`. */
export function l2OffsetAt(state: Qcow2State, l1: Uint32Array, index: number): number {
  const high = l1[index * 2] ?? 0;
  const low = l1[index * 2 + 1] ?? 0;
  if ((high | low) === 0) return 0;
  const offset = entryOffset(high, low);
  if (((high & entry.l1ReservedHigh) | (low & entry.l1ReservedLow)) !== 0) {
    const value = `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;
    const at = { file: state.storage.name, field: `L1 entry ${index}` };
    throw new ImageError('qcow2/reserved-bits', { table: 'L1', index, value }, at);
  }
  if (offset % state.layout.clusterSize !== 0) {
    const at = { file: state.storage.name, field: `L1 entry ${index}` };
    throw new ImageError('qcow2/l2-offset', { offset, index }, at);
  }
  return offset;
}

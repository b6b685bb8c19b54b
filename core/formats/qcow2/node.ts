// A qcow2 image as a layer of the graph: the active disk or a snapshot, for reading.
import type { BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import { View } from './answers.ts';
import { mapRange } from './mapping.ts';
import type { Qcow2State } from './state.ts';
import { loadTable } from './tables.ts';

/** The active disk, read-only. Owns the state's files and the layer below. */
export class Qcow2Node implements BlockNode {
  readonly format = 'qcow2';
  readonly name: string;
  readonly granularity: number;
  readonly state: Qcow2State;
  readonly backing: BlockNode | null;
  /** What lookups go through. */
  protected readonly view: View;
  #closed = false;

  constructor(state: Qcow2State, backing: BlockNode | null) {
    this.state = state;
    this.name = state.storage.name;
    this.granularity = state.layout.subclusterSize;
    this.backing = backing;
    this.view = new View(state, backing);
  }

  get size(): number {
    return this.state.size;
  }

  get files(): readonly ImageFile[] {
    return this.state.files;
  }

  map(range: GuestRange): Mapping {
    return mapRange(this.view, range);
  }

  protected get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.backing?.close();
    this.state.dataFile?.close();
    this.state.storage.close();
  }
}

/** Another L1 table over the same clusters: a snapshot. Closing it leaves the image open. */
class Qcow2SnapshotNode implements BlockNode {
  readonly format = 'qcow2';
  readonly name: string;
  readonly size: number;
  readonly granularity: number;
  readonly backing: BlockNode | null;
  readonly files: readonly ImageFile[];
  readonly #view: View;

  constructor(view: View, size: number) {
    const { state } = view;
    this.name = state.storage.name;
    this.size = size;
    this.granularity = state.layout.subclusterSize;
    this.backing = view.backing;
    this.files = state.files;
    this.#view = view;
  }

  map(range: GuestRange): Mapping {
    const mapping = mapRange(this.#view, range);
    return mapping.kind === 'data' && mapping.writable ? { ...mapping, writable: false } : mapping;
  }

  close(): void {}
}

/** Where the L1 table of a snapshot stands, and the size of its disk in bytes. */
export interface L1Place {
  readonly offset: number;
  readonly entries: number;
  readonly size: number;
}

/**
 * The disk that another L1 table of `node` describes, read-only; the caller has held `place` against the limits. Closing it leaves
 * `node` open, which must live longer. Throws `qcow2/table-beyond-file`, `storage/*`.
 */
export function openL1(node: Qcow2Node, place: L1Place): BlockNode {
  const { state, backing } = node;
  const l1 = loadTable(state.storage, place.offset, place.entries, 'Snapshot L1 table');
  return new Qcow2SnapshotNode(new View(state, backing, l1), place.size);
}

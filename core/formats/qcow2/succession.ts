// What a successor of an image is made of: its L1 tables and its snapshot table, each in a new place.
import type { Qcow2Metadata } from './metadata.ts';
import { tableOf, type TableRow } from './snapshot-table.ts';
import { snapshotL1, snapshotTable, type Snapshot } from './snapshots.ts';
import type { HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { Successor } from './successor.ts';
import { loadTable, tableBytes } from './tables.ts';

/** Builds a successor with `change` and puts it in force with the header fields that `change` gives back. */
export function succeed(metadata: Qcow2Metadata, change: (successor: Successor) => Partial<HeaderV3>): void {
  const successor = new Successor(metadata);
  try {
    successor.enact(change(successor));
  } catch (error) {
    successor.abandon();
    throw error;
  }
}

/** The snapshot table of `rows` in a new place instead of the present one: the header fields that name it. */
export function putSnapshots(state: Qcow2State, successor: Successor, rows: readonly TableRow[]): Partial<HeaderV3> {
  const present = snapshotTable(state);
  successor.free(present.offset, present.length);
  const bytes = tableOf(rows, state.storage.name);
  const offset = successor.put(bytes);
  successor.count(offset, bytes.length);
  return { nb_snapshots: rows.length, snapshots_offset: offset };
}

/** A new active L1 table instead of the present one, unless it says the same: the header fields that name it. */
export function putActiveL1(state: Qcow2State, successor: Successor, l1: Uint32Array): Partial<HeaderV3> {
  if (l1.length === state.l1.length && l1.every((half, i) => half === state.l1[i])) return {};
  const { l1_table_offset, l1_size } = state.header.fields;
  successor.free(l1_table_offset, l1_size * 8);
  const bytes = tableBytes(l1);
  const offset = successor.put(bytes);
  successor.count(offset, bytes.length);
  return { l1_table_offset: offset, l1_size: l1.length / 2 };
}

/** The L1 table of `snapshot`. Throws `qcow2/table-too-large`, `qcow2/table-offset`, `qcow2/table-beyond-file`. */
export function loadL1(state: Qcow2State, snapshot: Snapshot): Uint32Array {
  const alone = { offset: 0, length: 0, snapshots: [snapshot] };
  const { offset, entries } = snapshotL1(state.storage, state.layout, alone, snapshot.id);
  return loadTable(state.storage, offset, entries, 'Snapshot L1 table');
}

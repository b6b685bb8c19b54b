// What a successor of an image is made of: its L1 tables and its snapshot table, each in a new place.
import { alignUp } from '../../block/units.ts';
import { entryOffset } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { tableOf, type TableRow } from './snapshot-table.ts';
import { snapshotL1, snapshotTable, type Snapshot } from './snapshots.ts';
import { entry, type HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { Successor } from './successor.ts';
import { loadTable, tableBytes } from './tables.ts';

/** Builds a successor with `change`, and puts it in force with the header fields that `change` gives back. */
export function succeed(metadata: Qcow2Metadata, change: (successor: Successor) => Partial<HeaderV3>): void {
  const successor = new Successor(metadata);
  let fields: Partial<HeaderV3>;
  try {
    fields = change(successor);
    successor.enact(fields);
  } catch (error) {
    successor.abandon();
    throw error;
  }
  successor.settle(fields);
}

/** Where a structure that was put somewhere lies in the end. */
export type HomeOf = (offset: number) => number;

/** `rows` for each place that things may have; the same length in all. */
export type RowsFor = (homeOf: HomeOf) => readonly TableRow[];

/**
 * The snapshot table of `rows` instead of the present one: the header fields that name it. `home`: where it lies in the end; null: in
 * the place of the present one, if it is no longer.
 */
export function putSnapshots(
  state: Qcow2State,
  successor: Successor,
  rows: RowsFor,
  home: number | null = null,
): Partial<HeaderV3> {
  const { clusterSize } = state.layout;
  const present = snapshotTable(state);
  const file = state.storage.name;
  const now = rows((offset) => offset);
  const bytes = tableOf(now, file);
  const offset = successor.put(bytes);
  const fits = alignUp(bytes.length, clusterSize) <= alignUp(present.length, clusterSize);
  const place = home ?? (fits ? present.offset : null);
  const content = (homeOf: HomeOf): Uint8Array => tableOf(rows(homeOf), file);
  successor.free(present.offset, present.length);
  successor.count(offset, bytes.length, 1, place === null ? null : { offset: place, content });
  return { nb_snapshots: now.length, snapshots_offset: offset };
}

/** A new active L1 table instead of the present one, unless it says the same: the header fields that name it. */
export function putActiveL1(state: Qcow2State, successor: Successor, l1: Uint32Array): Partial<HeaderV3> {
  if (l1.length === state.l1.length && l1.every((half, i) => half === state.l1[i])) return {};
  const { l1_table_offset, l1_size } = state.header.fields;
  successor.free(l1_table_offset, l1_size * 8);
  const fits = alignUp(l1.length * 4, state.layout.clusterSize) <= alignUp(l1_size * 8, state.layout.clusterSize);
  return { l1_table_offset: putL1(successor, l1, fits ? l1_table_offset : null), l1_size: l1.length / 2 };
}

/** An L1 table, with one reference; `home`: where it lies in the end. Returns where it is now. */
export function putL1(successor: Successor, l1: Uint32Array, home: number | null): number {
  const bytes = tableBytes(l1);
  const offset = successor.put(bytes);
  const content = (homeOf: HomeOf): Uint8Array => tableBytes(movedL1(l1, homeOf));
  successor.count(offset, bytes.length, 1, home === null ? null : { offset: home, content });
  return offset;
}

function movedL1(l1: Uint32Array, homeOf: HomeOf): Uint32Array {
  const moved = l1.slice();
  for (let i = 0; i < moved.length; i += 2) {
    const high = moved[i] ?? 0;
    const offset = entryOffset(high, moved[i + 1] ?? 0);
    if (offset === 0) continue;
    const home = homeOf(offset);
    moved[i] = ((high & entry.copied) | Math.floor(home / 0x1_0000_0000)) >>> 0;
    moved[i + 1] = home % 0x1_0000_0000;
  }
  return moved;
}

/** The L1 table of `snapshot`. Throws `qcow2/table-too-large`, `qcow2/table-offset`, `qcow2/table-beyond-file`. */
export function loadL1(state: Qcow2State, snapshot: Snapshot): Uint32Array {
  const alone = { offset: 0, length: 0, snapshots: [snapshot] };
  const { offset, entries } = snapshotL1(state.storage, state.layout, alone, snapshot.id);
  return loadTable(state.storage, offset, entries, 'Snapshot L1 table');
}

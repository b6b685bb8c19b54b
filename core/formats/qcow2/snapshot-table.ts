// The snapshot table as it is written: entries kept byte for byte where they say all that version 3 wants, made complete where not.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { snapshotTable, type Snapshot } from './snapshots.ts';
import { limit, snapshotEntry, snapshotExtra } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';

/** An entry to be written. */
export interface TableRow {
  /** Length without the padding to a multiple of 8. */
  readonly bytes: Uint8Array;
}

/** What a new entry says. */
export interface NewEntry {
  readonly id: string;
  readonly name: Uint8Array;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly diskSize: number;
}

const noCount = 0xffff_ffff_ffff_ffffn;
const highestVmState = 0xffff_ffffn;

/** The entry of a snapshot that is taken now, of a machine that does not run. */
export function newRow(entry: NewEntry): TableRow {
  const id = Buffer.from(entry.id, 'utf8');
  const bytes = new Uint8Array(snapshotEntry.size + snapshotExtra.size + id.length + entry.name.length);
  snapshotEntry.patch(bytes, {
    l1_table_offset: BigInt(entry.l1Offset),
    l1_size: entry.l1Entries,
    id_size: id.length,
    name_size: entry.name.length,
    date_sec: entry.dateSeconds,
    date_nsec: entry.dateNanoseconds,
    vm_clock_nsec: 0n,
    vm_state_size: 0,
    extra_data_size: snapshotExtra.size,
  });
  // An instruction count of 0, as qemu-img writes it.
  const extra = { vm_state_size_large: 0n, disk_size: BigInt(entry.diskSize), icount: 0n };
  snapshotExtra.patch(bytes.subarray(snapshotEntry.size), extra);
  bytes.set(id, snapshotEntry.size + snapshotExtra.size);
  bytes.set(entry.name, snapshotEntry.size + snapshotExtra.size + id.length);
  return { bytes };
}

/** The entry of `snapshot` with all the extra data that is known; what is not known of it is kept. Another L1 table if one is given. */
export function keptRow(state: Qcow2State, snapshot: Snapshot, l1Offset: number | null = null): TableRow {
  const stored = new Uint8Array(snapshot.length);
  readPadded(state.storage, stored, snapshot.offset);
  const fixed = snapshotEntry.parseLoosely(stored);
  const extraLength = Math.max(snapshotExtra.size, snapshot.extraLength);
  const text = stored.subarray(snapshotEntry.size + snapshot.extraLength);
  const bytes = new Uint8Array(snapshotEntry.size + extraLength + text.length);
  const extra = bytes.subarray(snapshotEntry.size, snapshotEntry.size + extraLength);
  const vmState = BigInt(fixed.vm_state_size);
  snapshotExtra.patch(extra, { vm_state_size_large: vmState, disk_size: BigInt(state.size), icount: noCount });
  const { fields } = snapshotExtra;
  const whole = Object.values(fields).filter((row) => row.offset + row.type.width <= snapshot.extraLength).length * 8;
  const tail = snapshot.extraLength > snapshotExtra.size ? snapshot.extraLength : whole;
  extra.set(stored.subarray(snapshotEntry.size, snapshotEntry.size + tail));
  const { vm_state_size_large: large } = snapshotExtra.parseLoosely(extra);
  snapshotEntry.patch(bytes, {
    ...fixed,
    ...(l1Offset === null ? {} : { l1_table_offset: BigInt(l1Offset) }),
    // What does not fit 32 bits older readers are to take for a snapshot of the disk alone.
    vm_state_size: large <= highestVmState ? Number(large) : 0,
    extra_data_size: extraLength,
  });
  bytes.set(text, snapshotEntry.size + extraLength);
  return { bytes };
}

/** The table of these entries. Throws `snapshot/too-many`, `snapshot/table-full`. */
export function tableOf(rows: readonly TableRow[], file: string): Uint8Array {
  if (rows.length > limit.snapshots) {
    throw new ImageError(
      'snapshot/too-many',
      { allowed: limit.snapshots },
      { file, offset: 60, field: 'nb_snapshots' },
    );
  }
  let length = 0;
  for (const { bytes } of rows) length = alignUp(length, 8) + bytes.length;
  if (length > limit.snapshotTableBytes) {
    const detail = { needed: length, allowed: limit.snapshotTableBytes };
    throw new ImageError('snapshot/table-full', detail, { file, offset: 64, field: 'snapshots_offset' });
  }
  const table = new Uint8Array(length);
  let at = 0;
  for (const { bytes } of rows) {
    at = alignUp(at, 8);
    table.set(bytes, at);
    at += bytes.length;
  }
  return table;
}

/** The id of the next snapshot: one more than the highest that begins with a number. */
export function nextId(state: Qcow2State): string {
  let highest = 0n;
  for (const { id } of snapshotTable(state).snapshots) {
    const digits = /^\s*\+?(\d+)/.exec(id)?.[1];
    if (digits === undefined) continue;
    const number = BigInt(digits);
    if (number > highest && number < 1n << 63n) highest = number;
  }
  return String(highest + 1n);
}

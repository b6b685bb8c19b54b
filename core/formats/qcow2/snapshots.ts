// The snapshot table: who is in it, and which of them a name means.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { SnapshotFacts } from '../driver.ts';
import type { Qcow2Header } from './header.ts';
import type { Layout } from './layout.ts';
import { openL1, type Qcow2Node } from './node.ts';
import { limit, snapshotEntry, snapshotExtra } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';

/** One entry of the snapshot table. */
export interface Snapshot {
  /** Where the entry stands in the file. */
  readonly offset: number;
  readonly id: string;
  readonly name: string;
  /** Exact: a damaged entry may hold any 64 bits. */
  readonly l1Offset: bigint;
  /** Entries of its L1 table; not held against any limit yet. */
  readonly l1Entries: number;
  /** Length of the extra data in the file. */
  readonly extraLength: number;
  /** Length of the whole entry, without the padding to a multiple of 8. */
  readonly length: number;
  readonly facts: SnapshotFacts;
}

export interface SnapshotTable {
  readonly offset: number;
  /** Bytes from the first entry to the end of the last, without padding. */
  readonly length: number;
  readonly snapshots: readonly Snapshot[];
}

/** Characters (bytes) of an id and of a name that qemu-img shows. */
const shownId = 127;
const shownName = 255;

const noTable: SnapshotTable = { offset: 0, length: 0, snapshots: [] };

/**
 * Reads the snapshot table (specification: "Snapshots"). `diskSize` is the size of snapshots that record none. Bytes past the end of
 * the file read as zeroes, as in QEMU. `title` is the table's name in the errors. `longExtra`: more extra data than is allowed is
 * passed over (repair leaves it out).
 * Throws `qcow2/table-too-large`, `qcow2/table-offset`, `qcow2/snapshot-extra`, `qcow2/snapshot-table-big`, `storage/*`.
 */
export function readSnapshotTable(
  storage: Storage,
  header: Qcow2Header,
  layout: Layout,
  diskSize: number,
  title = 'Snapshot table',
  longExtra = false,
): SnapshotTable {
  const { nb_snapshots: count, snapshots_offset: start } = header.fields;
  const where: Where = { file: storage.name, offset: start };
  if (count > limit.snapshots) {
    const detail = { table: title, found: count, allowed: limit.snapshots };
    throw new ImageError('qcow2/table-too-large', detail, { file: storage.name, offset: 60, field: 'nb_snapshots' });
  }
  if (start % layout.clusterSize !== 0) {
    const detail = { table: title, found: start };
    throw new ImageError('qcow2/table-offset', detail, { file: storage.name, offset: 64, field: 'snapshots_offset' });
  }
  if (count === 0) return noTable;
  const reader = new Window(storage);
  const snapshots: Snapshot[] = [];
  let at = start;
  let passedOver = 0;
  for (let index = 0; index < count; index++) {
    at = alignUp(at, 8);
    const snapshot = readEntry(reader, at, index, diskSize, where, longExtra);
    at += snapshot.length;
    passedOver += Math.max(0, snapshot.extraLength - limit.snapshotExtraBytes);
    if (at - start - passedOver > limit.snapshotTableBytes || at - start > 0x7fff_ffff) {
      const detail = { overhanging: count - index, allowed: limit.snapshotTableBytes };
      throw new ImageError('qcow2/snapshot-table-big', detail, { ...where, offset: snapshot.offset });
    }
    snapshots.push(snapshot);
  }
  return { offset: start, length: at - start, snapshots };
}

function readEntry(
  reader: Window,
  at: number,
  index: number,
  diskSize: number,
  table: Where,
  longExtra: boolean,
): Snapshot {
  const where = { ...table, offset: at };
  const fixed = snapshotEntry.parseLoosely(reader.bytes(at, snapshotEntry.size), where);
  const extraLength = fixed.extra_data_size;
  if (extraLength > limit.snapshotExtraBytes && !longExtra) {
    const detail = { index, found: extraLength, allowed: limit.snapshotExtraBytes };
    throw new ImageError('qcow2/snapshot-extra', detail, { ...where, offset: at + 36, field: 'extra_data_size' });
  }
  const extraAt = at + snapshotEntry.size;
  const known = new Uint8Array(snapshotExtra.size);
  known.set(reader.bytes(extraAt, Math.min(extraLength, snapshotExtra.size)));
  const extra = snapshotExtra.parseLoosely(known, { ...where, offset: extraAt });
  const idAt = extraAt + extraLength;
  const id = reader.bytes(idAt, fixed.id_size).slice();
  const name = reader.bytes(idAt + fixed.id_size, fixed.name_size).slice();
  const { vm_state_size_large, disk_size, icount } = snapshotExtra.fields;
  const holds = (field: { offset: number }): boolean => extraLength >= field.offset + 8;
  return {
    offset: at,
    id: cText(id),
    name: cText(name),
    l1Offset: fixed.l1_table_offset,
    l1Entries: fixed.l1_size,
    extraLength,
    length: snapshotEntry.size + extraLength + fixed.id_size + fixed.name_size,
    facts: {
      id: cText(id.subarray(0, shownId)),
      name: cText(name.subarray(0, shownName)),
      vmStateSize: holds(vm_state_size_large) ? Number(extra.vm_state_size_large) : fixed.vm_state_size,
      dateSeconds: fixed.date_sec,
      dateNanoseconds: fixed.date_nsec,
      vmClockNanoseconds: Number(fixed.vm_clock_nsec),
      icount: holds(icount) && extra.icount !== 0xffff_ffff_ffff_ffffn ? Number(extra.icount) : null,
      diskSize: holds(disk_size) ? Number(extra.disk_size) : diskSize,
    },
  };
}

/** Text up to the first zero byte. */
function cText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

/** A file read through one buffer, so that 65536 entries do not take 65536 reads. */
class Window {
  readonly #storage: Storage;
  readonly #buffer = new Uint8Array(256 * 1024);
  #start = 0;
  #length = 0;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** `length` (at most 64 KiB) bytes from `offset`; valid until the next call. */
  bytes(offset: number, length: number): Uint8Array {
    if (offset < this.#start || offset + length > this.#start + this.#length) {
      readPadded(this.#storage, this.#buffer, offset);
      this.#start = offset;
      this.#length = this.#buffer.length;
    }
    return this.#buffer.subarray(offset - this.#start, offset - this.#start + length);
  }
}

/** The snapshot with this id or, if there is none, this name; null: neither. The lookup of qemu-img. */
export function findSnapshot(snapshots: readonly Snapshot[], idOrName: string): Snapshot | null {
  return (
    snapshots.find((snapshot) => snapshot.id === idOrName) ??
    snapshots.find((snapshot) => snapshot.name === idOrName) ??
    null
  );
}

/**
 * The place of a snapshot's L1 table, held against QEMU's limits. Throws `snapshot/not-found`, `qcow2/table-too-large`,
 * `qcow2/table-offset`.
 */
export function snapshotL1(
  storage: Storage,
  layout: Layout,
  table: SnapshotTable,
  idOrName: string,
): { offset: number; entries: number } {
  const snapshot = findSnapshot(table.snapshots, idOrName);
  if (snapshot === null) throw new ImageError('snapshot/not-found', { name: idOrName }, { file: storage.name });
  const title = 'Snapshot L1 table';
  const where: Where = { file: storage.name, offset: snapshot.offset };
  if (snapshot.l1Entries * 8 > limit.l1Bytes) {
    const detail = { table: title, found: snapshot.l1Entries * 8, allowed: limit.l1Bytes };
    throw new ImageError('qcow2/table-too-large', detail, { ...where, offset: snapshot.offset + 8, field: 'l1_size' });
  }
  const offset = Number(snapshot.l1Offset);
  if (snapshot.l1Offset % BigInt(layout.clusterSize) !== 0n || !Number.isSafeInteger(offset)) {
    const detail = { table: title, found: offset };
    throw new ImageError('qcow2/table-offset', detail, { ...where, field: 'l1_table_offset' });
  }
  return { offset, entries: snapshot.l1Entries };
}

/** The snapshots of an open image, as qemu-img lists them: none beside an external data file. Throws as `readSnapshotTable` does. */
export function listSnapshots(state: Qcow2State): readonly SnapshotFacts[] {
  if (state.external) return [];
  return snapshotTable(state).snapshots.map((snapshot) => snapshot.facts);
}

/** The snapshot table of an open image. Throws what `readSnapshotTable` throws. */
export function snapshotTable(state: Qcow2State): SnapshotTable {
  return readSnapshotTable(state.storage, state.header, state.layout, state.size);
}

/**
 * A snapshot as a read-only disk over the open image `node`, which must live longer. Like in qemu-img it has the size that the disk
 * has now. Throws `snapshot/not-found` and the codes of the snapshot table and of the L1 table.
 */
export function openSnapshot(node: Qcow2Node, idOrName: string): BlockNode {
  const { storage, layout, size } = node.state;
  const place = snapshotL1(storage, layout, snapshotTable(node.state), idOrName);
  return openL1(node, { ...place, size });
}

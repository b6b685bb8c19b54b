// The copied bits of the active tables: set exactly where the stored refcount is one.
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { Finding } from '../driver.ts';
import { corruption, hexEntry, internalError, mended } from './findings.ts';
import { entryOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';
import { TableWalk } from './table-walk.ts';
import { loadTable, tableBytes } from './tables.ts';

/** Entries of the L1 table that are read at once. */
const l1Piece = 128 * 1024;

/** L2 tables that may be gone through more often than the file has clusters: then several L1 entries lead to the same ones. */
const extraTables = 8192;

const repair = 'the copied bit would be corrected';

/**
 * Findings for every L1 and L2 entry of the active tables whose copied bit does not agree with the stored refcount. Throws
 * `qcow2/check-effort`, `storage/*`, `request/cancelled`. With `writable` the bits are put right, in the L1 table and in the L2 tables
 * at offsets of which it says that a table may be written there.
 */
export function* checkCopiedBits(
  state: Qcow2State,
  stored: StoredRefcounts,
  job: Job,
  writable: ((offset: number) => boolean) | null = null,
): Generator<Finding, void, void> {
  const { storage, layout } = state;
  const { l1_table_offset: start, l1_size: entries } = state.header.fields;
  const walk = new TableWalk(storage, layout.clusterSize);
  let tables = Math.ceil(storage.size / layout.clusterSize) + extraTables;
  for (let done = 0; done < entries; done += l1Piece) {
    const at = start + done * 8;
    if (at >= storage.size) return;
    const count = Math.min(l1Piece, entries - done);
    const piece = loadTable(storage, at, count, 'L1 table', 'zero');
    for (let index = 0; index < count; index++) {
      const high = piece[2 * index] ?? 0;
      const low = piece[2 * index + 1] ?? 0;
      const offset = entryOffset(high, low);
      if (offset === 0) continue;
      job.throwIfCancelled();
      if (--tables < 0) {
        const reason = 'many L1 entries lead to the same L2 tables';
        throw new ImageError('qcow2/check-effort', { reason }, { file: storage.name, offset: at + index * 8 });
      }
      const cluster = Math.floor(offset / layout.clusterSize);
      if (stored.unreadable(cluster)) {
        yield* complaint(stored, cluster);
        continue;
      }
      if (stored.isOne(cluster) !== high >= entry.copied) {
        const where: Where = { file: storage.name, offset: at + index * 8, field: 'L1 entry' };
        const shown = `l1_index=${done + index} l1_entry=${hexEntry(high, low)} refcount=${stored.exact(cluster)}`;
        const finding = corruption('copied-l2', `ERROR OFLAG_COPIED L2 cluster: ${shown}`, where, repair);
        if (writable !== null) {
          piece[2 * index] = (high ^ entry.copied) >>> 0;
          storage.writeAt(tableBytes(piece, index, 1), at + index * 8);
          state.l1.set(piece.subarray(2 * index, 2 * index + 2), 2 * (done + index));
        }
        yield writable === null ? finding : mended(finding);
      }
      const halves = offset < storage.size ? walk.table(offset, piece, index) : null;
      if (halves !== null) yield* table(state, stored, halves, offset, writable?.(offset) === true);
    }
  }
}

/** The line about the first refcount block that cannot be read. */
export function* complaint(stored: StoredRefcounts, cluster: number): Generator<Finding, void, void> {
  const text = stored.complaint(cluster);
  if (text !== null) yield internalError('refblock-unaligned', text, { field: 'refcount table entry' }, 0);
}

function* table(
  state: Qcow2State,
  stored: StoredRefcounts,
  halves: Uint32Array,
  offset: number,
  writable: boolean,
): Generator<Finding, void, void> {
  const { layout, external, storage } = state;
  const stride = layout.extendedL2 ? 4 : 2;
  let index = nextWrong(state, stored, halves, 0);
  const fixed: [at: number, bytes: Uint8Array][] = [];
  while (index < layout.l2Entries) {
    const high = halves[index * stride] ?? 0;
    const low = halves[index * stride + 1] ?? 0;
    const cluster = Math.floor(entryOffset(high, low) / layout.clusterSize);
    if (!external && stored.unreadable(cluster)) {
      yield* complaint(stored, cluster);
    } else {
      const where = { file: storage.name, offset: offset + index * layout.l2EntrySize, field: 'L2 entry' };
      const refcount = external ? '1' : stored.exact(cluster);
      const text = `ERROR OFLAG_COPIED data cluster: l2_entry=${hexEntry(high, low)} refcount=${refcount}`;
      const finding = corruption('copied-data', text, where, repair);
      if (writable) {
        const changed = Uint32Array.of((high ^ entry.copied) >>> 0, low);
        halves.set(changed, index * stride);
        fixed.push([where.offset, tableBytes(changed)]);
      }
      yield writable ? mended(finding) : finding;
    }
    index = nextWrong(state, stored, halves, index + 1);
  }
  for (const [at, bytes] of fixed) storage.writeAt(bytes, at);
}

/** The next entry from `from` on whose copied bit is not as it should be, or whose refcount cannot be read; or the end. */
function nextWrong(state: Qcow2State, stored: StoredRefcounts, halves: Uint32Array, from: number): number {
  const { external } = state;
  const { extendedL2, l2Entries, clusterSize } = state.layout;
  const stride = extendedL2 ? 4 : 2;
  for (let index = from; index < l2Entries; index++) {
    const high = halves[index * stride] ?? 0;
    const low = halves[index * stride + 1] ?? 0;
    if ((high === 0 && low === 0) || (high & entry.compressed) !== 0) continue;
    const offset = entryOffset(high, low);
    const copied = high >= entry.copied;
    if (offset === 0 && ((!extendedL2 && (low & entry.zero) !== 0) || !external || !copied)) continue;
    const cluster = Math.floor(offset / clusterSize);
    if (copied !== (external || stored.isOne(cluster))) return index;
    if (!copied && !external && stored.unreadable(cluster)) return index;
  }
  return l2Entries;
}

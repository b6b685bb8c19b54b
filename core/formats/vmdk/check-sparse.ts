// Checking one sparse extent: where tables and grains stand, that none stand in each other, and that both copies agree.
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Finding } from '../driver.ts';
import { GrainTables, TableCache, type Entries } from './grain-tables.ts';
import { GrainUse } from './grain-use.ts';
import { directorySource, readDirectory } from './open-sparse.ts';
import type { SparseExtent } from './sparse.ts';
import { grainMarkerLength, hostedFlag, newlineBytes, sectorSize, zeroedEntry } from './spec.ts';

/** A finding out of the error that reading would meet. */
export function corruption(error: ImageError, text: string, count = 1): Finding {
  return { code: error.code, severity: 'corruption', text, where: error.where, count, repair: null };
}

/** Everything about one sparse extent. `progress` hears how many of its bytes are done. */
export function* checkSparse(extent: SparseExtent, progress: (bytes: number) => void): Generator<Finding, void, void> {
  yield* checkHeader(extent);
  let use: GrainUse;
  try {
    use = usedUnits(extent);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    yield { ...corruption(error, error.message), severity: 'error' };
    return;
  }
  const redundant = yield* openRedundant(extent);
  const covers = extent.entriesPerTable * extent.grainSize;
  for (let table = 0; table < extent.directory.entries.length; table++) {
    progress(Math.min(extent.size, table * covers));
    const entries = yield* readTable(extent, extent.tables, table);
    if (entries !== null) yield* checkEntries(extent, table, entries, use);
    if (redundant !== null) yield* compareTables(extent, redundant, table);
  }
  for (const sector of use.overlapping()) yield overlap(extent, sector * sectorSize);
  yield* checkTablePlaces(extent, use, redundant);
  yield* findLeaks(extent, use, redundant);
}

/** Plain grains lie on a grid of their size; compressed ones start at any sector. */
function usedUnits(extent: SparseExtent): GrainUse {
  if (extent.compressed) return new GrainUse(extent.storage, 1, 0);
  const phase = extent.form.id === 'hosted' ? extent.form.header.overHead : 0;
  return new GrainUse(extent.storage, extent.grainSize / sectorSize, phase);
}

function* checkHeader(extent: SparseExtent): Generator<Finding, void, void> {
  if (extent.form.id !== 'hosted') return;
  const { header, headerOffset } = extent.form;
  if ((header.flags & hostedFlag.newlineTest) === 0) return;
  const names = Object.keys(newlineBytes) as (keyof typeof newlineBytes)[];
  const changed = names.filter((name) => header[name] !== newlineBytes[name]);
  if (changed.length === 0) return;
  yield {
    code: 'vmdk/newlines',
    severity: 'corruption',
    text: 'ERROR: line ends in the header were changed: the file was transferred as text',
    where: { file: extent.storage.name, offset: headerOffset + 73, field: changed[0] },
    count: 1,
    repair: null,
  };
}

/** The tables that the redundant directory points to, as they are in the file. Throws `vmdk/directory-outside`. */
export function openRedundantTables(extent: SparseExtent, offset: HostOffset): GrainTables {
  const { storage, entriesPerTable, reserved } = extent;
  const count = extent.directory.entries.length;
  const directory = readDirectory(storage, offset, count);
  const source = directorySource(storage, directory, entriesPerTable, count, reserved);
  return new GrainTables(source, new TableCache(), 0);
}

function* openRedundant(extent: SparseExtent): Generator<Finding, GrainTables | null, void> {
  if (extent.redundantOffset === null) return null;
  try {
    return openRedundantTables(extent, extent.redundantOffset);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    yield corruption(error, `ERROR: redundant copy: ${error.message}`);
    return null;
  }
}

/** First sector of the disk that a table stands for. */
function sectorOf(extent: SparseExtent, table: number, entry = 0): number {
  return ((table * extent.entriesPerTable + entry) * extent.grainSize) / sectorSize;
}

function* readTable(
  extent: SparseExtent,
  tables: GrainTables,
  table: number,
): Generator<Finding, Entries | null, void> {
  try {
    return tables.get(table);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const sector = sectorOf(extent, table);
    const copy = tables === extent.tables ? '' : ' (redundant copy)';
    yield corruption(error, `ERROR: could not get cluster_offset for sector ${sector}${copy}: ${error.message}`);
    return null;
  }
}

function* checkEntries(
  extent: SparseExtent,
  table: number,
  entries: Entries,
  use: GrainUse,
): Generator<Finding, void, void> {
  const grains = Math.ceil(extent.size / extent.grainSize) - table * extent.entriesPerTable;
  const count = Math.min(entries.length, grains);
  for (let i = 0; i < count; i++) {
    const entry = entries[i] ?? 0;
    if (!extent.isPlace(entry)) continue;
    const grain = table * extent.entriesPerTable + i;
    try {
      extent.checkGrain(grain, entry);
      const length = extent.compressed ? packedLength(extent, grain, entry) : extent.grainSize;
      if (!use.take(entry, length / sectorSize)) yield overlap(extent, entry * sectorSize, sectorOf(extent, table, i));
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      const sector = sectorOf(extent, table, i);
      const text =
        error.code === 'vmdk/grain-outside'
          ? `ERROR: cluster offset for sector ${sector} points after EOF`
          : `ERROR: sector ${sector}: ${error.message}`;
      yield corruption(error, text);
    }
  }
}

function packedLength(extent: SparseExtent, grain: number, entry: number): number {
  const { storedLength } = extent.packedAt(grain, entry);
  // Without markers nothing says how long it is.
  return extent.markers ? alignUp(grainMarkerLength + storedLength, sectorSize) : sectorSize;
}

function overlap(extent: SparseExtent, offset: HostOffset, sector?: number): Finding {
  const whose = sector === undefined ? '' : ` of sector ${sector}`;
  return {
    code: 'vmdk/grain-twice',
    severity: 'corruption',
    text: `ERROR: the grain at ${offset}${whose} shares bytes with another one`,
    where: { file: extent.storage.name, offset },
    count: 1,
    repair: null,
  };
}

/**
 * Both copies of a table. A power cut can leave one behind the other: an entry that only one of them has is no damage, as nobody
 * relied on it yet. Two different grains are.
 */
export function compareCopies(first: Entries, second: Entries): { behind: number; contradicting: number[] } {
  let behind = 0;
  const contradicting: number[] = [];
  for (let i = 0; i < first.length; i++) {
    const [a = 0, b = 0] = [first[i], second[i]];
    if (a === b) continue;
    if (a <= zeroedEntry || b <= zeroedEntry) behind++;
    else contradicting.push(i);
  }
  return { behind, contradicting };
}

function* compareTables(extent: SparseExtent, redundant: GrainTables, table: number): Generator<Finding, void, void> {
  const second = yield* readTable(extent, redundant, table);
  // What is wrong with the first copy was told already.
  if (extent.tables.faultOf(table) !== null) return;
  const first = extent.tables.get(table);
  if (first === null || second === null) {
    if ((first ?? second)?.some((entry) => entry !== 0) !== true) return;
    yield behind(extent, table, 1);
    return;
  }
  const found = compareCopies(first, second);
  for (const entry of found.contradicting) yield contradiction(extent, table, entry);
  if (found.behind > 0) yield behind(extent, table, found.behind);
}

function behind(extent: SparseExtent, table: number, count: number): Finding {
  return {
    code: 'vmdk/redundant-behind',
    severity: 'leak',
    text: `The copies of grain table ${table} differ: one of them is behind the other in ${count} entries`,
    where: { file: extent.storage.name, offset: extent.tables.source.offsetOf(table) },
    count,
    repair: 'copy the grain tables over the redundant ones',
  };
}

function contradiction(extent: SparseExtent, table: number, entry: number): Finding {
  return {
    code: 'vmdk/redundant-differs',
    severity: 'corruption',
    text: `ERROR: the copies of the grain table name different grains for sector ${sectorOf(extent, table, entry)}`,
    where: { file: extent.storage.name, offset: extent.tables.source.offsetOf(table) + 4 * entry, field: 'GTE' },
    count: 1,
    repair: null,
  };
}

/** Starts of all tables, in order. */
function tableStarts(extent: SparseExtent, redundant: GrainTables | null): { starts: Float64Array; length: number } {
  const all = [extent.tables.source, ...(redundant === null ? [] : [redundant.source])];
  const starts = new Float64Array(all.length * extent.directory.entries.length);
  let count = 0;
  for (const source of all) {
    for (let table = 0; table < source.tables; table++) {
      const offset = source.offsetOf(table);
      if (offset !== 0 && offset < extent.storage.size) starts[count++] = offset;
    }
  }
  const { entriesPerTable, entryBytes } = extent.tables.source;
  return { starts: starts.subarray(0, count).sort(), length: entriesPerTable * entryBytes };
}

/** No table may share bytes with another one or with a grain. */
function* checkTablePlaces(
  extent: SparseExtent,
  use: GrainUse,
  redundant: GrainTables | null,
): Generator<Finding, void, void> {
  const { starts, length } = tableStarts(extent, redundant);
  const where = (offset: number): Finding['where'] => ({ file: extent.storage.name, offset });
  let end = -1;
  for (const start of starts) {
    if (start < end) {
      const text = `ERROR: the grain table at ${start} shares bytes with another one`;
      yield { code: 'vmdk/table-twice', severity: 'corruption', text, where: where(start), count: 1, repair: null };
    }
    if (use.meets({ start, end: start + length })) {
      const text = `ERROR: the grain table at ${start} shares bytes with a grain`;
      yield { code: 'vmdk/table-grain', severity: 'corruption', text, where: where(start), count: 1, repair: null };
    }
    end = Math.max(end, start + length);
  }
}

/** Whole grains of the file that nothing points to. Streams and files that ESX set aside in advance are not looked at. */
function* findLeaks(
  extent: SparseExtent,
  use: GrainUse,
  redundant: GrainTables | null,
): Generator<Finding, void, void> {
  if (extent.compressed || extent.form.id !== 'hosted') return;
  const { storage, grainSize } = extent;
  const dataStart = extent.form.header.overHead * sectorSize;
  const { starts, length } = tableStarts(extent, redundant);
  let next = 0;
  for (const gap of gaps(use, dataStart, storage)) {
    let at = gap.start;
    while (next < starts.length && (starts[next] ?? 0) < at) next++;
    while (at < gap.end) {
      const table = next < starts.length ? (starts[next] ?? 0) : Infinity;
      const parts = [table, ...extent.reserved.filter(({ end }) => end > at).map(({ start }) => start)];
      const stop = Math.max(at, Math.min(gap.end, ...parts));
      const count = Math.floor((stop - at) / grainSize);
      if (count > 0) yield leak(extent, at, count);
      if (stop >= gap.end) break;
      // Behind the table or directory that stands there.
      at = stop === table ? stop + alignUp(length, sectorSize) : Math.max(...endsFrom(extent, stop));
      if (stop === table) next++;
    }
  }
}

function endsFrom(extent: SparseExtent, start: HostOffset): number[] {
  return [
    start + sectorSize,
    ...extent.reserved.filter((part) => part.start <= start && part.end > start).map(({ end }) => end),
  ];
}

function* gaps(
  use: GrainUse,
  start: HostOffset,
  storage: Storage,
): Generator<{ start: number; end: number }, void, void> {
  let at = start;
  for (const taken of use.stretches()) {
    if (taken.start > at) yield { start: at, end: taken.start };
    at = Math.max(at, taken.end);
  }
  if (at < storage.size) yield { start: at, end: storage.size };
}

function leak(extent: SparseExtent, offset: HostOffset, count: number): Finding {
  return {
    code: 'vmdk/leak',
    severity: 'leak',
    text: `Leaked ${count === 1 ? 'grain' : `${count} grains`} at ${offset}: nothing points there`,
    where: { file: extent.storage.name, offset },
    count,
    repair: 'convert the image to leave them behind',
  };
}

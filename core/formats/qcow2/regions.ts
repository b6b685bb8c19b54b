// What each stretch of a qcow2 file is for: every byte once, in the order of the file, found while it is asked for.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import { isImageError } from '../../errors/image-error.ts';
import type { Region } from '../driver.ts';
import { readBitmapDirectory, type BitmapDirectory } from './bitmap-references.ts';
import { owner, type ClusterOwners } from './cluster-owners.ts';
import { bitmapTableWords, l1Words, l2Words, refcountBlockWords, refcountTableWords, within } from './entry-words.ts';
import { dataFileOwners, fileOwners } from './file-owners.ts';
import { directoryRows, headerStretches, luksRows, snapshotRows, type NamedStretch } from './header-regions.ts';
import { findExtension } from './header.ts';
import { clustersFor } from './layout.ts';
import { snapshotTable, type SnapshotTable } from './snapshots.ts';
import { encryptionHeader, extensionType } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { StoredRefcounts } from './stored-refcounts.ts';

/** The regions of `qcow2RegionSteps`, without the pauses. Throws as that does. */
export function* qcow2Regions(state: Qcow2State, role = 'file'): Generator<Region, void, void> {
  for (const region of qcow2RegionSteps(state, role)) if (region !== null) yield region;
}

/**
 * The regions of the image file, or of the external data file (`data-file`), one after the other; null: a pause, while the owners of the
 * clusters are looked for. A snapshot table that cannot be read counts as none. Throws `storage/*`, `qcow2/check-memory`,
 * `qcow2/check-effort`.
 */
export function* qcow2RegionSteps(state: Qcow2State, role = 'file'): Generator<Region | null, void, void> {
  const table = readableTable(state);
  if (role !== 'file') {
    const owners = yield* dataFileOwners(state, table);
    yield* clusterRuns(state, owners, { start: 0, length: state.data.size }, dataFileKinds);
    return;
  }
  const stored = new StoredRefcounts(state.storage, state.header, state.layout);
  const named = stretches(state, table).sort((a, b) => a.start - b.start);
  const { clusterSize } = state.layout;
  const owners = yield* fileOwners(
    state,
    stored,
    table,
    named.filter(({ start }) => start >= clusterSize),
  );
  const kinds = fileKinds(state, stored);
  const end = state.storage.size;
  let at = 0;
  for (const stretch of named) {
    const start = Math.max(at, stretch.start);
    const stop = Math.min(end, stretch.start + stretch.length);
    if (stop <= start) continue;
    yield* between(state, owners, { start: at, length: start - at }, kinds);
    yield { ...stretch, start, length: stop - start };
    at = stop;
  }
  yield* between(state, owners, { start: at, length: end - at }, kinds);
}

function readableTable(state: Qcow2State): SnapshotTable {
  try {
    return snapshotTable(state);
  } catch (error) {
    if (isImageError(error)) return { offset: 0, length: 0, snapshots: [] };
    throw error;
  }
}

/** Tables that stand in one piece, and the parts of the first cluster. */
function stretches(state: Qcow2State, table: SnapshotTable): NamedStretch[] {
  const { header, layout } = state;
  const { fields } = header;
  const found: NamedStretch[] = [...headerStretches(state)];
  const add = (start: number, length: number, label: string, annotate: NamedStretch['annotate']): void => {
    if (length > 0) found.push({ start, length, label, kind: 'table', annotate });
  };
  const addL1 = (start: number, length: number, label: string, name: string): void =>
    add(start, length, label, (window) => l1Words(state, start, within(window, start, length, 8), name));
  addL1(fields.l1_table_offset, fields.l1_size * 8, 'L1 table', 'L1');
  const refcountTable = fields.refcount_table_offset;
  const refcountLength = fields.refcount_table_clusters * layout.clusterSize;
  add(refcountTable, refcountLength, 'refcount table', (window) =>
    refcountTableWords(state, refcountTable, within(window, refcountTable, refcountLength, 8)),
  );
  add(table.offset, table.length, 'snapshot table', (window) => snapshotRows(state, table, window));
  for (const snapshot of table.snapshots) {
    const start = Number(snapshot.l1Offset);
    if (Number.isSafeInteger(start)) {
      addL1(start, snapshot.l1Entries * 8, `L1 table of snapshot ${snapshot.id}`, `snapshot[${snapshot.id}].L1`);
    }
  }
  const directory = readBitmapDirectory(state);
  if (directory !== null) found.push(...bitmapStretches(state, directory));
  const pointer = findExtension(header, extensionType.encryptionHeader);
  if (pointer !== null) {
    const { offset, length } = encryptionHeader.parse(pointer.data, { offset: pointer.offset });
    add(offset, length, 'LUKS header', (window) => luksRows(state, { start: offset, length }, window));
  }
  return found;
}

function bitmapStretches(state: Qcow2State, directory: BitmapDirectory): NamedStretch[] {
  const found: NamedStretch[] = [
    {
      start: directory.offset,
      length: directory.length,
      label: 'bitmap directory',
      kind: 'table',
      annotate: (window) => directoryRows(state, directory, window),
    },
  ];
  for (const { tableOffset: start, tableEntries, name } of directory.bitmaps) {
    const length = tableEntries * 8;
    const annotate = (window: HostRange): Annotation[] =>
      bitmapTableWords(state, start, within(window, start, length, 8));
    found.push({ start, length, label: `table of bitmap ${JSON.stringify(name)}`, kind: 'table', annotate });
  }
  return found;
}

/** How a run of clusters of one owner is labelled. */
interface Kind {
  readonly label: string;
  readonly kind: Region['kind'];
  readonly annotate: (run: HostRange, window: HostRange) => Annotation[];
  /** Only for what nobody refers to: how far the label is true from `start` on. */
  readonly reach?: (start: number, length: number) => { length: number; label: string };
}

type Kinds = (kind: number) => Kind;

const silent = (): Annotation[] => [];
const data = (label: string): Kind => ({ label, kind: 'data', annotate: silent });

const dataKinds: Readonly<Record<number, Kind>> = {
  [owner.data]: data('data clusters'),
  [owner.packed]: data('compressed data'),
  [owner.reserved]: data('space set aside, reads as zeroes'),
  [owner.snapshotData]: data('data clusters of snapshots'),
  [owner.snapshotPacked]: data('compressed data of snapshots'),
  [owner.snapshotReserved]: data('space set aside by snapshots, reads as zeroes'),
};
const slack: Kind = { label: 'unused rest of the cluster', kind: 'lost', annotate: silent };

function dataFileKinds(kind: number): Kind {
  return dataKinds[kind] ?? { label: 'clusters that nothing maps', kind: 'lost', annotate: silent };
}

function fileKinds(state: Qcow2State, stored: StoredRefcounts): Kinds {
  const { layout } = state;
  const { clusterSize } = layout;
  const l2: Kind = {
    label: 'L2 tables',
    kind: 'table',
    annotate: (run, window) =>
      clusters(run, window, clusterSize).flatMap((start) =>
        l2Words(state, start, within(window, start, clusterSize, layout.l2EntrySize)),
      ),
  };
  const blocks: Kind = {
    label: 'refcount blocks',
    kind: 'table',
    annotate: (run, window) =>
      clusters(run, window, clusterSize).flatMap((start) => {
        const block = blockAt(stored, start);
        const unit = Math.max(1, layout.refcountBits / 8);
        return refcountBlockWords(state, start, block, within(window, start, clusterSize, unit));
      }),
  };
  const none: Kind = {
    ...slack,
    label: 'free clusters',
    reach: (start, length) => freeOrLost(stored, start / clusterSize, clustersFor(layout, length), clusterSize),
  };
  const special: Readonly<Record<number, Kind>> = {
    [owner.none]: none,
    [owner.l2]: l2,
    [owner.refcountBlock]: blocks,
    [owner.bitmapData]: data('bitmap data'),
  };
  return (kind) => special[kind] ?? dataKinds[kind] ?? slack;
}

/** The starts of the clusters of `run` that `window` touches. */
function clusters(run: HostRange, window: HostRange, clusterSize: number): number[] {
  const from = Math.max(run.start, window.start - (window.start % clusterSize));
  const to = Math.min(run.start + run.length, window.start + window.length);
  const starts: number[] = [];
  for (let start = from; start < to; start += clusterSize) starts.push(start);
  return starts;
}

function blockAt(stored: StoredRefcounts, offset: number): number {
  for (let index = 0; 2 * index < stored.table.length; index++) if (stored.blockOffset(index) === offset) return index;
  return 0;
}

/** Clusters that nothing refers to: free ones have the refcount 0, lost ones have not. */
function freeOrLost(
  stored: StoredRefcounts,
  first: number,
  count: number,
  clusterSize: number,
): { length: number; label: string } {
  const free = stored.isZero(first);
  let length = stored.sameUse(first, count, free);
  if (length === 0) length = 1;
  return { length: length * clusterSize, label: free ? 'free clusters' : 'lost clusters, referenced by nothing' };
}

/** From the end of one named stretch to the start of the next: the rest of a cluster, then whole clusters. */
function* between(
  state: Qcow2State,
  owners: ClusterOwners,
  range: HostRange,
  kinds: Kinds,
): Generator<Region, void, void> {
  const { clusterSize } = state.layout;
  const over = range.start % clusterSize;
  const rest = over === 0 ? 0 : Math.min(range.length, clusterSize - over);
  if (rest > 0) yield region(range.start, rest, slack);
  yield* clusterRuns(state, owners, { start: range.start + rest, length: range.length - rest }, kinds);
}

function region(start: number, length: number, kind: Kind, label = kind.label): Region {
  const run = { start, length };
  return { ...run, label, kind: kind.kind, annotate: (window) => kind.annotate(run, window) };
}

/** Runs of clusters with one owner. `range` starts at a cluster. */
function* clusterRuns(
  state: Qcow2State,
  owners: ClusterOwners,
  range: HostRange,
  kinds: Kinds,
): Generator<Region, void, void> {
  const { clusterSize } = state.layout;
  const end = range.start + range.length;
  for (let at = range.start; at < end;) {
    const first = at / clusterSize;
    const kind = kinds(owners.get(first));
    const length = Math.min(owners.run(first, Math.ceil((end - at) / clusterSize)) * clusterSize, end - at);
    if (kind.reach === undefined) {
      yield region(at, length, kind);
      at += length;
    } else {
      const part = kind.reach(at, length);
      const reached = Math.min(part.length, length);
      yield region(at, reached, kind, part.label);
      at += reached;
    }
  }
}

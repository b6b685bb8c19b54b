// qcow2, versions 2 and 3: the table of its functions.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, OpenRequest, OptionValue } from '../driver.ts';
import { onlyForRepair } from '../repair-only.ts';
import { amendQcow2, qcow2AmendOptions } from './amend.ts';
import { qcow2Bitmaps } from './bitmap-access.ts';
import { usableBitmaps } from './bitmaps.ts';
import { checkQcow2 } from './check.ts';
import { compactQcow2 } from './compact.ts';
import { qcow2Counts } from './counts.ts';
import { createQcow2 } from './create.ts';
import { chooseEncryption, openEncryption } from './encryption.ts';
import { qcow2EntriesOf } from './entries-of.ts';
import { qcow2Facts } from './facts.ts';
import { measureQcow2 } from './measure.ts';
import { Qcow2Metadata, type MetadataOptions } from './metadata.ts';
import { Qcow2Node } from './node.ts';
import { qcow2Options } from './options.ts';
import { repairQcow2 } from './repair.ts';
import { repairDirty } from './repair-dirty.ts';
import { qcow2Regions, qcow2RegionSteps } from './regions.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from './snapshot-changes.ts';
import { listSnapshots, openSnapshot, snapshotTable } from './snapshots.ts';
import { snapshotSizes } from './snapshot-sizes.ts';
import { magic, headerV3 } from './spec.ts';
import { Qcow2State } from './state.ts';
import { Qcow2WritableNode } from './write-node.ts';
import { qcow2Entry, qcow2EntryNames } from './table-entries.ts';
import { hasUnwrittenSpace } from './unwritten-space.ts';

/**
 * Opens an image with its data file and the layer below. Throws the `qcow2/*` codes of the header, `gate/*`, `storage/*`.
 */
function openQcow2(storage: Storage, request: OpenRequest): BlockNode {
  const opened: { close(): void }[] = [storage];
  try {
    const runtime = runtimeOptions(request.runtime);
    const state = new Qcow2State(storage, request);
    openEncryption(state, request);
    if (!request.forRepair) snapshotTable(state);
    announceFiles(state, request);
    if (state.external) {
      openDataFile(state, request);
      if (state.dataFile !== null) opened.push(state.dataFile);
    } else if (state.externalRaw && (request.withBacking || request.writable)) {
      throw new ImageError('qcow2/data-file-raw', {}, { file: storage.name, offset: 88, field: 'autoclear_features' });
    }
    const reference = request.withBacking ? state.backingReference : null;
    const backing = reference === null ? null : request.gate.openImage({ from: storage.name, ...reference });
    if (backing !== null) opened.push(backing);
    if (!request.writable) return new Qcow2Node(state, backing);
    if (request.forRepair) return onlyForRepair(new Qcow2Node(state, backing), state.storage);
    if (state.dirty) repairDirty(state, request.tell);
    const metadata = new Qcow2Metadata(state, { ...runtime, waits: true });
    return new Qcow2WritableNode(state, backing, metadata);
  } catch (error) {
    for (const one of opened.reverse()) one.close();
    throw error;
  }
}

/** A data file and a layer below can both be outside: whoever is asked is asked once. */
function announceFiles(state: Qcow2State, { gate, withBacking }: OpenRequest): void {
  const { dataFileName, backingReference, storage } = state;
  const from = storage.name;
  gate.announce?.([
    ...(state.external && dataFileName !== null ? [{ from, path: dataFileName, role: 'data-file' }] : []),
    ...(withBacking && backingReference !== null ? [{ from, ...backingReference, role: 'backing' }] : []),
  ]);
}

/** Who opens without the layer below, to read, may want no guest data either: the file is opened when it is first needed. */
function openDataFile(state: Qcow2State, { gate, withBacking, writable, lenient }: OpenRequest): void {
  const from = state.storage.name;
  const open = (): Storage => {
    const path = state.dataFileName;
    if (path === null) throw new ImageError('qcow2/data-file-missing', {}, { file: from });
    return gate.openFile({ from, path, role: 'data-file' });
  };
  if ((withBacking && lenient !== 'open') || writable) state.dataFile = open();
  else state.openDataFile = open;
}

/**
 * `lazy-refcounts` in place of what the header says; `pass-discard-snapshot`: the room of deleted snapshots is given back. Throws
 * `request/invalid-value`, `request/invalid-option`.
 */
function runtimeOptions(runtime: OpenRequest['runtime']): Omit<MetadataOptions, 'waits'> {
  let lazyRefcounts: boolean | null = null;
  let givesSnapshotsBack = true;
  for (const [name, value] of Object.entries(runtime)) {
    if (name === 'encrypt.key-secret' || name === 'encrypt.format') continue;
    if (name !== 'lazy-refcounts' && name !== 'pass-discard-snapshot')
      throw new ImageError('request/invalid-option', { name });
    if (value !== 'on' && value !== 'off') {
      throw new ImageError('request/invalid-value', { reason: `Parameter '${name}' expects 'on' or 'off'`, name });
    }
    if (name === 'lazy-refcounts') lazyRefcounts = value === 'on';
    else givesSnapshotsBack = value === 'on';
  }
  return { lazyRefcounts, givesSnapshotsBack };
}

/** What the tables of an encrypted image point to is decrypted, also where nothing was ever written. */
function startsAsZeroes(options: Readonly<Record<string, OptionValue>>): boolean {
  const preallocated = options.preallocation !== undefined && options.preallocation !== 'off';
  return chooseEncryption(options) === null || !(preallocated || options.data_file_raw === true);
}

function nodeOf(node: BlockNode): Qcow2Node {
  if (!(node instanceof Qcow2Node)) throw new Error(`${node.name} was not opened as qcow2`);
  return node;
}

/** The state of a node that this driver opened. */
export function stateOf(node: BlockNode): Qcow2State {
  return nodeOf(node).state;
}

export const qcow2: FormatDriver = {
  id: 'qcow2',
  label: 'qcow2',
  extensions: ['qcow2', 'qcow', 'img'],
  hasBacking: true,
  compresses: true,
  holesInData: (node) => hasUnwrittenSpace(stateOf(node)),
  options: qcow2Options,
  probe(head) {
    if (head.length < 72) return false;
    const view = new DataView(head.buffer, head.byteOffset, head.length);
    return view.getUint32(0) === magic && view.getUint32(4) >= 2;
  },
  open: openQcow2,
  create: createQcow2,
  startsAsZeroes,
  provisions: () => ['metadata', 'falloc', 'full'],
  facts: (node) => qcow2Facts(stateOf(node), listSnapshots(stateOf(node))),
  counts: (node, role) => qcow2Counts(stateOf(node), role),
  check: (node, job) => checkQcow2(stateOf(node), job),
  repair: (node, what, job, tell) => repairQcow2(stateOf(node), what, job, tell),
  compact: compactQcow2,
  measure: measureQcow2,
  bitmaps: (node) => usableBitmaps(stateOf(node)),
  dirtyBitmaps: qcow2Bitmaps,
  snapshots: {
    list: (node) => listSnapshots(stateOf(node)),
    open: (node, idOrName) => openSnapshot(nodeOf(node), idOrName),
    sizes: (node, limit, until) => snapshotSizes(stateOf(node), limit, until),
    create: createSnapshot,
    apply: applySnapshot,
    delete: deleteSnapshot,
  },
  amendOptions: qcow2AmendOptions,
  amend: amendQcow2,
  regions: (node, role = 'file') => qcow2Regions(stateOf(node), role),
  regionSteps: (node, role = 'file') => qcow2RegionSteps(stateOf(node), role),
  heads: [{ at: 0, label: 'header', rows: headerV3 }],
  entries: {
    names: qcow2EntryNames,
    find: (node, name, indices) => qcow2Entry(stateOf(node), name, indices),
  },
  entriesOf: (node, at) => qcow2EntriesOf(stateOf(node), at),
};

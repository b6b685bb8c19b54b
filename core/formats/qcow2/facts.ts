// What a qcow2 image says of itself, in qemu-img's spelling and order.
import type { FactTree, FactValue, ImageFacts, SnapshotFacts } from '../driver.ts';
import { readBitmaps } from './bitmaps.ts';
import { encryptionFacts } from './encryption.ts';
import type { Qcow2State } from './state.ts';

/** Throws `qcow2/bitmap-directory` and what reading the directory throws. */
export function qcow2Facts(state: Qcow2State, snapshots: readonly SnapshotFacts[]): ImageFacts {
  const { layout } = state;
  return {
    clusterSize: layout.clusterSize,
    encrypted: state.encrypted,
    dirty: state.dirty,
    backing: state.backingReference,
    specific: { type: 'qcow2', data: state.version < 3 ? version2(state) : version3(state) },
    snapshots,
    further: null,
  };
}

const compression = (state: Qcow2State): string => (state.header.compressionType === 0 ? 'zlib' : 'zstd');

function version2(state: Qcow2State): FactTree {
  return {
    compat: '0.10',
    'compression-type': compression(state),
    'refcount-bits': state.layout.refcountBits,
    ...encryption(state),
  };
}

function version3(state: Qcow2State): FactTree {
  const bitmaps: FactValue[] = readBitmaps(state).map((bitmap) => ({
    flags: [...(bitmap.inUse ? ['in-use'] : []), ...(bitmap.auto ? ['auto'] : [])],
    name: bitmap.name,
    granularity: bitmap.granularity,
  }));
  const dataFile = state.dataFileName;
  return {
    compat: '1.1',
    'compression-type': compression(state),
    'lazy-refcounts': state.lazyRefcounts,
    ...(bitmaps.length === 0 ? {} : { bitmaps }),
    'refcount-bits': state.layout.refcountBits,
    ...(dataFile === null ? {} : { 'data-file': dataFile }),
    ...(state.external ? { 'data-file-raw': state.externalRaw } : {}),
    ...encryption(state),
    corrupt: state.corrupt,
    'extended-l2': state.layout.extendedL2,
  };
}

function encryption(state: Qcow2State): { encrypt?: FactTree } {
  return state.encrypted ? { encrypt: encryptionFacts(state) } : {};
}

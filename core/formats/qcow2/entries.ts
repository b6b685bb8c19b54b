// What single L2 entries say: their kind, and the host offset they point to.
import { ImageError, type Where } from '../../errors/image-error.ts';
import { entryOffset } from './layout.ts';
import { entry } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** What an L2 entry (or one subcluster of it) says. */
export const Kind = { unallocated: 0, zero: 1, zeroReserved: 2, data: 3, packed: 4, unallocatedReserved: 5 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** The kind of a standard entry, before its offset is looked at. In images with subclusters: of the whole cluster. */
export function kindOf(state: Qcow2State, high: number, low: number): Kind {
  if ((high & entry.compressed) !== 0) return Kind.packed;
  const hasOffset = ((high & entry.offsetHigh) | (low & entry.offsetLow)) !== 0;
  if ((low & entry.zero) !== 0 && !state.layout.extendedL2) return hasOffset ? Kind.zeroReserved : Kind.zero;
  if (hasOffset || (state.external && (high & entry.copied) !== 0)) return Kind.data;
  // Offset 0 of an external data file is a place like any other; there the copied bit says that the cluster is there.
  return Kind.unallocated;
}

/** Where an entry stands: offset of its L2 table, number in it. */
export interface EntryPlace {
  readonly tableOffset: number;
  readonly index: number;
}

/** The host offset of a standard entry. Throws `qcow2/cluster-offset`, `qcow2/reserved-bits`, `qcow2/zero-in-v2`, `qcow2/external-offset`. */
export function dataOffset(state: Qcow2State, high: number, low: number, guest: number, place: EntryPlace): number {
  const offset = entryOffset(high, low);
  const zeroBit = state.layout.extendedL2 ? 0 : entry.zero;
  if (((high & entry.l2ReservedHigh) | (low & (0x1ff & ~zeroBit))) !== 0) {
    throw new ImageError(
      'qcow2/reserved-bits',
      { table: 'L2', index: place.index, value: hex(high, low) },
      entryWhere(state, place),
    );
  }
  if ((low & zeroBit) !== 0 && state.version < 3) {
    throw new ImageError('qcow2/zero-in-v2', { l2: place.tableOffset, index: place.index }, entryWhere(state, place));
  }
  if (offset % state.layout.clusterSize !== 0) {
    const detail = { offset, l2: place.tableOffset, index: place.index };
    throw new ImageError('qcow2/cluster-offset', detail, entryWhere(state, place));
  }
  if (state.external && offset !== guest) {
    const detail = { offset, guest, index: place.index };
    throw new ImageError('qcow2/external-offset', detail, entryWhere(state, place));
  }
  return offset;
}

/** The place of an entry, for errors. */
export function entryWhere(state: Qcow2State, place: EntryPlace): Where {
  const offset = place.tableOffset + place.index * state.layout.l2EntrySize;
  return { file: state.storage.name, offset, field: `L2 entry ${place.index}` };
}

function hex(high: number, low: number): string {
  return `0x${(high >>> 0).toString(16).padStart(8, '0')}${(low >>> 0).toString(16).padStart(8, '0')}`;
}

// What tells one VHD from another: the unique id and the time stamp of its footer.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { chooseFooter, findFooters } from './footer.ts';
import { epoch, type Footer } from './spec.ts';

export interface VhdIdentity {
  readonly uniqueId: string;
  /** Seconds since 2000-01-01 0:00 UTC. */
  readonly timeStamp: number;
}

/** The identity in a footer. */
export function identityIn(values: Footer): VhdIdentity {
  return { uniqueId: values.unique_id, timeStamp: values.time_stamp };
}

/** The believed footer of the VHD in `storage`. Throws `vhd/*`, `storage/*`. */
export function readFooter(storage: Storage): Footer {
  return chooseFooter(findFooters(storage), storage, false).values;
}

/** The footer of a node that is a VHD (also when it is shown through another node); null: it is none. Throws `vhd/*`, `storage/*`. */
export function footerOf(node: BlockNode): Footer | null {
  const file = node.files[0];
  return node.format === 'vpc' && file !== undefined ? readFooter(file.storage) : null;
}

/** A time stamp as UTC text. */
export function showTime(timeStamp: number): string {
  return new Date((timeStamp + epoch) * 1000).toISOString().replace('.000Z', 'Z');
}

/** Now, as a time stamp. */
export function timeStampNow(): number {
  return Math.max(0, Math.floor(Date.now() / 1000) - epoch);
}

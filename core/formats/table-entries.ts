// Entries of a format's tables by name, as somebody who looks at the bytes writes them: `L1[3]`, `BAT[17]`.
import type { BlockNode } from '../block/node.ts';
import type { HostOffset } from '../block/units.ts';

/** The tables of a format whose entries can be asked for by number. */
export interface TableEntries {
  /** How they are written: `L1[i]`, `L2[i][j]`. */
  readonly names: readonly string[];
  /**
   * Where an entry stands in the image's own file (role `file`, extents as the format says); null: there is no such table, or it has no
   * such entry. `name` is in lower case. Throws `storage/*` and the format's codes for damaged tables.
   */
  find(node: BlockNode, name: string, indices: readonly number[]): HostOffset | null;
}

/** The place of entry `index` of a table of `count` entries of `width` bytes at `start`; null: it has no such entry. */
export function entryOf(start: HostOffset, count: number, width: number, index: number | undefined): HostOffset | null {
  return index !== undefined && index >= 0 && index < count ? start + index * width : null;
}

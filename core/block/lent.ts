// A node that somebody else owns: closing it here leaves it open.
import type { BlockNode, ImageFile, Mapping } from './node.ts';
import type { GuestRange } from './units.ts';

/** Shows `node` as it is now; `close` does nothing. Who lends it keeps it open for as long as the borrower lives. */
export function lend(node: BlockNode): BlockNode {
  return {
    format: node.format,
    name: node.name,
    get size(): number {
      return node.size;
    },
    get granularity(): number {
      return node.granularity;
    },
    get backing(): BlockNode | null {
      return node.backing;
    },
    get files(): readonly ImageFile[] {
      return node.files;
    },
    map: (range: GuestRange): Mapping => node.map(range),
    close() {},
  };
}

// A part of a disk seen as a disk of its own.
import type { BlockNode, Cipher, Mapping } from './node.ts';
import { checkRange } from './read.ts';
import type { GuestRange } from './units.ts';

/** `range` of `node` as a read-only disk. Closing it closes `node`. Throws `request/out-of-range`. */
export function windowOf(node: BlockNode, range: GuestRange): BlockNode {
  checkRange(node, range);
  return {
    format: node.format,
    name: node.name,
    size: range.length,
    granularity: node.granularity,
    backing: node.backing,
    files: node.files,
    map: ({ start, length }) => shifted(node.map({ start: range.start + start, length }), range.start),
    close: () => node.close(),
  };
}

/** Ciphers are told where the bytes stand on the whole disk. */
function shifted(mapping: Mapping, by: number): Mapping {
  if (mapping.kind !== 'data' || mapping.cipher === undefined) return mapping;
  const { cipher } = mapping;
  if (by % cipher.sectorSize !== 0) throw new Error('a window over an encrypted disk must begin at a sector');
  const moved: Cipher = {
    sectorSize: cipher.sectorSize,
    decrypt: (bytes, guest, host) => cipher.decrypt(bytes, guest + by, host),
    encrypt: (bytes, guest, host) => cipher.encrypt(bytes, guest + by, host),
  };
  return { ...mapping, cipher: moved };
}

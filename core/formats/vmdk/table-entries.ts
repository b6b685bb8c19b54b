// Entries of the grain directory and the grain tables of a sparse extent by name.
import type { HostOffset } from '../../block/units.ts';
import { entryOf } from '../table-entries.ts';
import type { VmdkNode } from './node.ts';

/** In the image's own file only: a split disk has tables in each extent. Throws `storage/*`. */
export function grainEntry(node: VmdkNode, name: string, indices: readonly number[]): HostOffset | null {
  const own = node.files.find(({ role }) => role === 'file')?.storage;
  const extent = node.extents.find((one) => one.storage === own);
  if (extent === undefined || extent.kind !== 'sparse') return null;
  const { source } = extent.tables;
  const [first, second] = indices;
  if (first === undefined || first >= source.tables) return null;
  if (name === 'gd') return source.entryOffsetOf(first);
  const table = name === 'gt' ? source.offsetOf(first) : 0;
  if (table === 0) return null;
  return second === undefined ? table : entryOf(table, source.entriesPerTable, source.entryBytes, second);
}

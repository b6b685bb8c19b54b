// Which entries decide over a byte of the disk: the one in the grain directory, the one in the grain table.
import type { EntryQuestion, TableEntry } from '../driver.ts';
import type { VmdkNode } from './node.ts';

/** None for flat extents. Throws the codes of damaged tables, `storage/*`. */
export function vmdkEntriesOf(node: VmdkNode, at: EntryQuestion): TableEntry[] {
  if (!('guest' in at)) return [];
  const { extent, within } = node.find({ start: at.guest, length: 1 });
  if (extent.kind !== 'sparse') return [];
  const grain = Math.floor(within / extent.grainSize);
  const table = Math.floor(grain / extent.entriesPerTable);
  const { source } = extent.tables;
  const start = source.offsetOf(table);
  const { role } = extent;
  const directory: TableEntry = {
    structure: 'grain directory',
    field: `GDE[${table}]`,
    role,
    offset: source.entryOffsetOf(table),
    length: source.entryBytes,
    value: start === 0 ? 'none' : `table at 0x${start.toString(16)}`,
  };
  if (start === 0) return [directory];
  const index = grain - table * extent.entriesPerTable;
  const entry = extent.entryOf(grain);
  const where = extent.isPlace(entry) ? `sector ${entry} (offset 0x${(entry * 512).toString(16)})` : null;
  return [
    directory,
    {
      structure: 'grain table',
      field: `GTE[${index}]`,
      role,
      offset: start + index * source.entryBytes,
      length: source.entryBytes,
      value: where ?? (entry === 0 ? 'not allocated' : 'zero'),
    },
  ];
}

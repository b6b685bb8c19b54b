// Giving the whole disk back to the layer below: an L1 table of nothing, and a file that ends behind it.
import { alignUp } from '../../block/units.ts';
import { header } from './spec.ts';
import { tableBytes } from './tables.ts';
import type { QcowWritableNode } from './write-node.ts';

/** The table is on the disk before the file is cut. Throws `storage/*`. */
export function emptyDisk(node: QcowWritableNode): void {
  const { state, entries } = node;
  const { fields, storage } = state;
  node.flush();
  state.l1.fill(0);
  storage.writeAt(tableBytes(state.l1), fields.l1_table_offset);
  storage.flush();
  entries.l1Moved();
  state.forgetTables();
  const name = fields.backing_file_offset === 0 ? 0 : fields.backing_file_offset + fields.backing_file_size;
  // QEMU writes the table in sectors: the rest of the last one belongs to it.
  const end = Math.max(header.size, fields.l1_table_offset + alignUp(state.l1.length * 4, 512), name);
  if (end < storage.size) storage.truncate(end);
  entries.startAt(end);
  storage.flush();
}

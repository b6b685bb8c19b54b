// An image that its last writer left dirty: refcounts and copied bits are made to agree with the tables before anybody writes.
import { ImageError, isImageError } from '../../errors/image-error.ts';
import { silentJob } from '../../job.ts';
import type { Finding } from '../driver.ts';
import { repairQcow2 } from './repair.ts';
import type { Qcow2State } from './state.ts';
import { loadTable } from './tables.ts';

/**
 * Repairs the image as `check -r all` does, which takes the dirty bit away (specification: "dirty bit"); `tell` hears what was found.
 * Nothing may have been read for writing yet. Throws `qcow2/dirty-repair` where something is left that must not be written to, and
 * what the repair throws of the host.
 */
export function repairDirty(state: Qcow2State, tell: (finding: Finding) => void = () => {}): void {
  const where = { file: state.storage.name };
  try {
    repairQcow2(state, 'all', silentJob, tell);
  } catch (error) {
    if (!isImageError(error) || !error.code.startsWith('qcow2/')) throw error;
    const reason = String(error.facts.reason ?? error.message);
    throw new ImageError('qcow2/dirty-repair', { reason }, where, error);
  }
  if (state.dirty) throw new ImageError('qcow2/dirty-repair', { reason: 'Input/output error' }, where);
  // Everything may stand elsewhere now.
  const { l1_table_offset, l1_size } = state.header.fields;
  state.l1 = loadTable(state.storage, l1_table_offset, l1_size, 'Active L1 table');
  state.tables.clear();
  state.changes++;
}

// Repair of a VHDX: what stands twice is written from the copy that counts. The log was replayed when the image was opened for writing.
import type { Finding, RepairCounts } from '../driver.ts';
import { HeaderWriter, readHeaderSection } from './header.ts';
import type { VhdxNode } from './node.ts';
import { headerOffsets, regionTableLength, regionTableOffsets } from './spec.ts';

/**
 * A header that is not valid is written again beside the good one, and a copy of the region table that is not valid, or differs from the
 * first, is made like the one that counts. Payload and tables are not touched. Throws `vhdx/sequence-end`, `storage/*`.
 */
export function repairVhdx(
  node: VhdxNode,
  what: 'leaks' | 'all',
  tell: (finding: Finding) => void = () => {},
): RepairCounts {
  const { image } = node;
  const { file } = image;
  const counts = { corruptions: 0, leaks: 0 };
  const fix = (code: string, text: string, offset: number): void => {
    const where = { file: node.name, offset };
    const severity = 'corruption';
    tell({
      code: `vhdx/check-${code}`,
      severity,
      text: `Repairing ${text}`,
      where,
      count: 1,
      repair: null,
      fixed: true,
    });
    counts.corruptions++;
  };
  if (image.repaired)
    fix('log-pending', 'the log: its entries are in their places now', image.section.header.LogOffset);
  if (what === 'leaks') return counts;
  const section = readHeaderSection(file);
  const damaged = ([0, 1] as const).filter((slot) => section.copies[slot] === null);
  if (damaged.length > 0) {
    // Written one after the other: the good one last.
    new HeaderWriter(file, section).update({});
    for (const slot of damaged) fix('header', `header ${slot + 1}, from the other one`, headerOffsets[slot]);
  }
  const { valid, same } = image.table;
  if (!same) {
    const good = valid[0] ? 0 : 1;
    const bytes = new Uint8Array(regionTableLength);
    file.readAt(bytes, regionTableOffsets[good]);
    const bad = good === 0 ? 1 : 0;
    file.writeAt(bytes, regionTableOffsets[bad]);
    file.flush();
    fix('region-table', `copy ${bad + 1} of the region table, from the other one`, regionTableOffsets[bad]);
  }
  return counts;
}

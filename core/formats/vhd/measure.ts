// How large the file gets for what a convert would write.
import type { MeasureRequest, Measurement } from '../driver.ts';
import { wishesOf } from './create.ts';
import { roundSize } from './geometry.ts';
import { blockCount, layoutOf, tableLength } from './layout.ts';
import { dynamicHeader, footer, sectorSize } from './spec.ts';

/** Exact for a disk without parent; with one, the two names of the parent are taken to need a sector each. Throws `vhd/too-large`. */
export function measureVhd(request: MeasureRequest): Measurement {
  const wishes = wishesOf(request.options);
  const { size } = roundSize(request.size, wishes.exact);
  if (wishes.fixed) return { required: size + footer.size, fullyAllocated: size + footer.size };
  const { blockSize, roomSize } = layoutOf(wishes.blockSize);
  const blocks = blockCount(size, blockSize);
  const names = request.backing === null ? 0 : 2 * sectorSize;
  const empty = footer.size + dynamicHeader.size + tableLength(blocks) + names + footer.size;
  let used = 0;
  let counted = -1;
  for (const { start, length } of request.data?.() ?? []) {
    if (length === 0) continue;
    const first = Math.max(counted + 1, Math.floor(start / blockSize));
    const last = Math.floor((start + length - 1) / blockSize);
    if (last >= first) used += last - first + 1;
    counted = Math.max(counted, last);
  }
  return { required: empty + used * roomSize, fullyAllocated: empty + blocks * roomSize };
}

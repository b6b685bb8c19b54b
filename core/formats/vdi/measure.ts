// How large the file gets for what a convert would write.
import type { MeasureRequest, Measurement } from '../driver.ts';
import { dataOffset, sizeOfNew } from './create.ts';
import { usualBlockSize } from './spec.ts';

/** Exact. Throws `vdi/too-large`. */
export function measureVdi(request: MeasureRequest): Measurement {
  const blocks = Math.ceil(sizeOfNew(request.size) / usualBlockSize);
  const fullyAllocated = dataOffset(blocks) + blocks * usualBlockSize;
  if (request.options.static === true) return { required: fullyAllocated, fullyAllocated };
  let used = 0;
  let counted = -1;
  for (const { start, length } of request.data?.() ?? []) {
    if (length === 0) continue;
    const first = Math.max(counted + 1, Math.floor(start / usualBlockSize));
    const last = Math.floor((start + length - 1) / usualBlockSize);
    if (last >= first) used += last - first + 1;
    counted = Math.max(counted, last);
  }
  return { required: dataOffset(blocks) + used * usualBlockSize, fullyAllocated };
}

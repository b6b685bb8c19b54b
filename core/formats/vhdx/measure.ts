// How long a new file becomes: what convert of this content would write.
import type { Measurement, MeasureRequest } from '../driver.ts';
import { planOf } from './create.ts';
import { blockCount, chunkCount, chunkRatio } from './layout.ts';
import { bitmapBlockLength } from './spec.ts';

/** Exact without a layer below; with one, every chunk with data is counted with a sector bitmap. Throws what `planOf` throws. */
export function measureVhdx(request: MeasureRequest): Measurement {
  const hasParent = request.backing !== null;
  const { geometry, layout, fixed } = planOf(request.size, request.options, hasParent);
  const { blockSize } = geometry;
  const all = blockCount(geometry) * blockSize + (hasParent ? chunkCount(geometry) * bitmapBlockLength : 0);
  const fullyAllocated = layout.payloadOffset + all;
  if (fixed) return { required: fullyAllocated, fullyAllocated };
  const ratio = chunkRatio(geometry);
  let blocks = 0;
  let chunks = 0;
  let lastBlock = -1;
  let lastChunk = -1;
  for (const run of request.data?.() ?? []) {
    if (run.length === 0) continue;
    const last = Math.floor((run.start + run.length - 1) / blockSize);
    const first = Math.max(lastBlock + 1, Math.floor(run.start / blockSize));
    if (last < first) continue;
    blocks += last - first + 1;
    const endChunk = Math.floor(last / ratio);
    chunks += Math.max(0, endChunk - Math.max(lastChunk + 1, Math.floor(first / ratio)) + 1);
    lastBlock = last;
    lastChunk = endChunk;
  }
  const required = layout.payloadOffset + blocks * blockSize + (hasParent ? chunks * bitmapBlockLength : 0);
  return { required, fullyAllocated };
}

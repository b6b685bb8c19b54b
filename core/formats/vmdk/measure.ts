// How many bytes a new VMDK image takes for some content, all its files together.
import { alignUp } from '../../block/units.ts';
import type { Measurement, MeasureRequest } from '../driver.ts';
import { newDescriptor } from './descriptor.ts';
import {
  cylindersFor,
  headsFor,
  hostedLayout,
  newGrainSize,
  siblingName,
  splitSizes,
  streamOverHead,
  streamTrailerLength,
  tablesFor,
} from './layout.ts';
import { readCreateOptions, type VmdkOptions } from './options.ts';
import { grainMarkerLength, hostedTableEntries, noParent, sectorSize } from './spec.ts';

/**
 * Exact for sparse images and for the extents of flat ones; a descriptor in a file of its own is counted with the name `disk.vmdk`.
 * Streams: the most that their grains can take, as compressing only shows how much it saves.
 */
export function measureVmdk(request: MeasureRequest): Measurement {
  const options = readCreateOptions(request.options, request.backing);
  const size = alignUp(request.size, sectorSize);
  const separate = options.flat || options.split ? descriptorLength(request, options, size) : 0;
  if (options.flat) return { required: separate + size, fullyAllocated: separate + size };
  const stream = options.subformat === 'streamOptimized';
  const parts = options.split ? splitSizes(size) : [size];
  const fixed = parts.reduce(
    (sum, part) => sum + (stream ? streamFixed(part) : hostedLayout(part).overHead * sectorSize),
    0,
  );
  const all = parts.reduce((sum, part) => sum + Math.ceil(part / newGrainSize), 0);
  const grains = options.preallocation !== null ? all : request.data === null ? 0 : countGrains(request.data());
  const unit = stream ? packedLimit : newGrainSize;
  const tables = (count: number): number => (stream ? streamTables(size, count) : 0);
  return {
    required: separate + fixed + grains * unit + tables(grains),
    fullyAllocated: separate + fixed + all * unit + tables(all),
  };
}

/** Deflate adds five bytes to each 16 KiB it cannot compress, zlib six in all; then whole sectors. */
const packedLimit = alignUp(grainMarkerLength + newGrainSize + 5 * (newGrainSize / (16 * 1024) + 1) + 6, sectorSize);

function streamFixed(size: number): number {
  return streamOverHead * sectorSize + streamTrailerLength(tablesFor(size, newGrainSize, hostedTableEntries));
}

/** Tables with their markers: one for each 512 grains that has any, at most. */
function streamTables(size: number, grains: number): number {
  const tables = Math.min(grains, tablesFor(size, newGrainSize, hostedTableEntries));
  return tables * (sectorSize + hostedTableEntries * 4);
}

/** Grains that the runs touch; runs come in ascending order. */
function countGrains(runs: Iterable<{ start: number; length: number }>): number {
  let grains = 0;
  let next = 0;
  for (const { start, length } of runs) {
    if (length === 0) continue;
    const first = Math.max(next, Math.floor(start / newGrainSize));
    const end = Math.ceil((start + length) / newGrainSize);
    if (end > first) grains += end - first;
    next = Math.max(next, end);
  }
  return grains;
}

function descriptorLength(request: MeasureRequest, options: VmdkOptions, size: number): number {
  const heads = headsFor(options.adapter);
  const sizes = options.split ? splitSizes(size) : size === 0 ? [] : [size];
  const kind = options.split ? (options.flat ? 'f' : 's') : 'flat';
  return newDescriptor({
    cid: 0,
    parentCid: noParent,
    createType: options.subformat,
    parentHint: request.backing?.path ?? null,
    extents: sizes.map((part, index) => ({
      size: part,
      type: options.flat ? 'FLAT' : 'SPARSE',
      name: siblingName('disk.vmdk', kind, index + 1),
    })),
    hardwareVersion: options.hardwareVersion,
    cylinders: cylindersFor(size, heads),
    heads,
    adapter: options.adapter,
    toolsVersion: options.toolsVersion,
    uuid: options.uuid,
  }).length;
}

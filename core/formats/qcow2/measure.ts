// How large a new qcow2 file would be: with the content at hand, and with every byte of the disk stored.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { BitmapFacts, Measurement, MeasureRequest, OptionValue } from '../driver.ts';
import { layoutFor, refcountFootprint, type Layout } from './layout.ts';
import { bitmapDirectoryEntry, limit } from './spec.ts';

/**
 * Exactly the figures of `qemu-img measure -O qcow2`, in bytes. All metadata counts as if the disk were full; a layer below makes
 * all content count. Throws `request/invalid-value` with qemu-img's sentences for options that it refuses.
 */
export function measureQcow2(request: MeasureRequest): Measurement {
  const { options } = request;
  const layout = chooseLayout(options);
  const { clusterSize } = layout;
  const stored = preallocation(options);
  const header = alignUp(luksHeader(options), clusterSize);
  const size = alignUp(request.size, clusterSize);
  const tables = Math.ceil(size / layout.l2Coverage);
  if (tables * 8 > limit.l1Bytes) refuse('The image size is too large (try using a larger cluster size)');
  let required = 0;
  if (stored) required = size;
  else if (request.data !== null) required = request.backing === null ? storedBytes(request.data(), clusterSize) : size;
  const fullyAllocated = header + fullSize(layout, size);
  const bitmaps = isVersion2(options) ? null : (request.bitmaps ?? null);
  const figures = { required: fullyAllocated - size + required, fullyAllocated };
  return bitmaps === null ? figures : { ...figures, bitmaps: bitmapBytes(bitmaps, request.size, clusterSize) };
}

/** All clusters of each bitmap, its table, and the directory. */
function bitmapBytes(bitmaps: readonly BitmapFacts[], size: number, clusterSize: number): number {
  let bytes = 0;
  let directory = 0;
  for (const { name, granularity } of bitmaps) {
    const clusters = Math.ceil(Math.ceil(Math.ceil(size / granularity) / 8) / clusterSize);
    bytes += clusters * clusterSize + alignUp(clusters * 8, clusterSize);
    directory += alignUp(bitmapDirectoryEntry.size + Buffer.byteLength(name), 8);
  }
  return bytes + alignUp(directory, clusterSize);
}

function isVersion2({ compat }: MeasureRequest['options']): boolean {
  return compat === '0.10' || compat === 'v2';
}

function refuse(reason: string): never {
  throw new ImageError('request/invalid-value', { reason });
}

/** The checks of qemu-img's measure, in its order and words: not all of those that create makes. */
function chooseLayout(options: MeasureRequest['options']): Layout {
  const extendedL2 = options.extended_l2 === true;
  const clusterSize = Number(options.cluster_size ?? 65536);
  const clusterBits = Math.log2(clusterSize);
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21) {
    refuse('Cluster size must be a power of two between 512 and 2048k');
  }
  if (extendedL2 && clusterSize < 16384) {
    refuse('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  }
  preallocation(options);
  const compat = options.compat;
  if (compat !== undefined && !['0.10', 'v2', '1.1', 'v3'].includes(String(compat))) {
    refuse(`Invalid compatibility level: '${String(compat)}'`);
  }
  const refcountBits = Number(options.refcount_bits ?? 16);
  const refcountOrder = Math.log2(refcountBits);
  if (!Number.isInteger(refcountOrder) || refcountBits > 64) {
    refuse('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (isVersion2(options) && refcountBits !== 16) {
    refuse(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
  }
  return layoutFor(clusterBits, refcountOrder, extendedL2);
}

/** All content is stored, whatever it is. */
function preallocation(options: MeasureRequest['options']): boolean {
  const how: OptionValue = options.preallocation ?? 'off';
  if (how === 'off' || how === 'metadata') return false;
  if (how === 'falloc' || how === 'full') return true;
  return refuse(`invalid parameter value: ${String(how)}`);
}

/** Bytes of a key of each cipher. */
const keyLengths: Readonly<Record<string, number>> = {
  'aes-128': 16,
  'aes-192': 24,
  'aes-256': 32,
  des: 8,
  '3des': 24,
  'cast5-128': 16,
  'serpent-128': 16,
  'serpent-192': 24,
  'serpent-256': 32,
  'twofish-128': 16,
  'twofish-192': 24,
  'twofish-256': 32,
};

/** Bytes of the LUKS header with its eight key slots of 4000 stripes; 0 without LUKS. */
function luksHeader(options: MeasureRequest['options']): number {
  if (options['encrypt.format'] !== 'luks') return 0;
  if (options['encrypt.key-secret'] === undefined) {
    refuse("Parameter 'encrypt.key-secret' is required for cipher");
  }
  const cipher = String(options['encrypt.cipher-alg'] ?? 'aes-256');
  const keyLength = keyLengths[cipher];
  if (keyLength === undefined) return refuse(`Parameter 'cipher-alg' does not accept value '${cipher}'`);
  const masterKey = (options['encrypt.cipher-mode'] ?? 'xts') === 'xts' ? 2 * keyLength : keyLength;
  const slot = alignUp(masterKey * 4000, 4096);
  return 4096 + 8 * slot;
}

/** Bytes of the clusters that the runs touch, each counted once. */
function storedBytes(runs: Iterable<{ start: number; length: number }>, clusterSize: number): number {
  let bytes = 0;
  let covered = 0;
  for (const { start, length } of runs) {
    const end = start + length;
    if (end <= covered) continue;
    const from = Math.max(covered, start - (start % clusterSize));
    covered = alignUp(end, clusterSize);
    bytes += covered - from;
  }
  return bytes;
}

/** Header, L1 and L2 tables, refcount table and blocks, and the content of `size` bytes, a multiple of the cluster size. */
function fullSize(layout: Layout, size: number): number {
  const { clusterSize, l2Entries } = layout;
  const l2Tables = Math.ceil(size / clusterSize / l2Entries);
  const l1Table = alignUp(l2Tables * 8, clusterSize);
  const counted = clusterSize + l2Tables * clusterSize + l1Table + size;
  const { tableClusters, blockClusters } = refcountFootprint(layout, counted / clusterSize);
  return counted + (tableClusters + blockClusters) * clusterSize;
}

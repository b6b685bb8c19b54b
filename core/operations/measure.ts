// measure: how large a new image would be.
import type { SecretSource } from '../block/crypto/secret.ts';
import type { BlockNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { BitmapFacts, Measurement, OptionValue } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { createDriverNamed } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { mapEntries } from './map.ts';

export interface MeasureParams {
  /** The image whose content would be written; null: an empty disk of `size` bytes. */
  readonly source: { readonly path: string; readonly options: OpenOptions; readonly snapshot: string | null } | null;
  readonly size: number;
  /** Format of the new image. */
  readonly format: string;
  /** Creation options by name; `size` has no say. */
  readonly options: Readonly<Record<string, OptionValue>>;
  /** Hands out the passphrase that the options name: they are held against what create would say. */
  readonly secret?: SecretSource | undefined;
}

export interface MeasureResult extends Measurement {
  readonly format: string;
}

/**
 * Measures. Throws `format/unknown-output`, `measure/unsupported`, `measure/no-snapshots`, what opening throws, and what the format
 * says of its options.
 */
export function measure(params: MeasureParams, job: Job): Promise<MeasureResult> {
  return Promise.resolve().then(() => {
    const driver = createDriverNamed(params.format);
    if (driver.measure === undefined) throw new ImageError('measure/unsupported', { format: driver.id });
    const { backing_file: path, backing_fmt: format, size: _size, ...options } = params.options;
    const backing =
      path === undefined ? null : { path: String(path), format: format === undefined ? null : String(format) };
    if (!Number.isSafeInteger(params.size) && driver.hasBacking) {
      const hint = driver.options.some(({ name }) => name === 'cluster_size')
        ? ' (try using a larger cluster size)'
        : '';
      throw new ImageError('measure/too-large', { hint });
    }
    const request = { options, backing, secret: params.secret };
    if (params.source === null) {
      return { format: driver.id, ...driver.measure({ ...request, size: params.size, data: null }) };
    }
    const { node, view, bitmaps } = openView(params.source);
    try {
      return {
        format: driver.id,
        ...driver.measure({ ...request, size: view.size, data: () => dataOf(view, view !== node, job), bitmaps }),
      };
    } finally {
      if (view !== node) view.close();
      node.close();
    }
  });
}

function openView(source: NonNullable<MeasureParams['source']>): {
  node: BlockNode;
  view: BlockNode;
  bitmaps: readonly BitmapFacts[] | null;
} {
  const { node, driver } = openImage(source.path, source.options);
  try {
    const bitmaps = driver.bitmaps?.(node) ?? null;
    if (source.snapshot === null) return { node, view: node, bitmaps };
    if (driver.snapshots === undefined) throw new ImageError('measure/no-snapshots', { format: driver.id });
    return { node, view: driver.snapshots.open(node, source.snapshot), bitmaps };
  } catch (error) {
    node.close();
    throw error;
  }
}

/** The runs that are stored and do not read as zeroes, neighbours merged. */
function* dataOf(
  node: BlockNode,
  isSnapshot: boolean,
  job: Job,
): Generator<{ start: number; length: number }, void, void> {
  const asMeasure: Job = {
    progress: ({ done, total }) => job.progress({ phase: 'measure', done, total }),
    throwIfCancelled: () => job.throwIfCancelled(),
  };
  let last: { start: number; length: number } | null = null;
  for (const { start, length, zero } of mapEntries(node, { start: 0, length: node.size }, asMeasure, isSnapshot)) {
    if (zero) continue;
    if (last !== null && last.start + last.length === start) {
      last.length += length;
    } else {
      if (last !== null) yield last;
      last = { start, length };
    }
  }
  if (last !== null) yield last;
}

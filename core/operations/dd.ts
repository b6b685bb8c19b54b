// dd: a number of blocks of one image into a new one.
import type { CacheMode } from '../block/file.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { convert } from './convert.ts';

export interface DdParams {
  readonly input: { readonly path: string; readonly options: OpenOptions };
  readonly output: string;
  /** Format of the new image. */
  readonly format: string;
  /** Bytes per block. */
  readonly blockSize: number;
  /** Blocks of the input to look at, counted from its start as qemu-img does; null: all. */
  readonly count: number | null;
  /** Blocks to leave out at the start. */
  readonly skip: number;
  readonly cache?: CacheMode | undefined;
}

export interface DdResult {
  /** Virtual size of the new image. */
  readonly size: number;
  /** Guest bytes of the input that were copied. */
  readonly copied: number;
  /** The input ends before the first block that was asked for. */
  readonly skippedPastEnd: boolean;
}

/** The bytes `[skip, count)` of the input in blocks, as far as the input has them. Also what a dry run needs. Throws what opening throws. */
export function planDd(params: DdParams): { start: number; length: number; skippedPastEnd: boolean } {
  const { node } = openImage(params.input.path, params.input.options);
  const { size } = node;
  node.close();
  const end = Math.min(size, (params.count ?? Infinity) * params.blockSize);
  const start = params.skip * params.blockSize;
  if (start > end) return { start: 0, length: 0, skippedPastEnd: true };
  return { start, length: end - start, skippedPastEnd: start > 0 && start >= size };
}

/**
 * Copies. The new image carries its name only when it is complete. Throws what opening the input throws, `convert/create` for the new
 * image, `storage/*`, `request/cancelled`.
 */
export async function dd(params: DdParams, job: Job): Promise<DdResult> {
  const { start, length, skippedPastEnd } = planDd(params);
  const { size } = await convert(
    {
      sources: [{ ...params.input, window: { start, length } }],
      snapshot: null,
      target: params.output,
      format: params.format,
      options: {},
      backing: null,
      existing: null,
      targetIsZero: false,
      compress: false,
      offload: false,
      sparse: 4096,
      cache: params.cache,
      depth: 8,
      outOfOrder: false,
      rate: 0,
      salvage: false,
      verify: false,
      keepIdentity: false,
    },
    job,
  );
  return { size, copied: length, skippedPastEnd };
}

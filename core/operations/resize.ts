// resize: another size for the disk of an image, in place where the format can, otherwise as a new file in its place.
import type { BlockNode, Preallocation } from '../block/node.ts';
import { whatLiesBeyond, type Beyond } from '../guest/beyond.ts';
import { checkGptFits, moveGptEnd } from '../guest/gpt-end.ts';
import { readPartitionTable, type PartitionTable } from '../guest/partitions.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver, SizeByRewrite } from '../formats/driver.ts';
import type { OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { convert } from './convert.ts';
import { changeInPlace, type InPlaceOptions, type WritableImage } from './in-place.ts';

export interface ResizeParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** Bytes: the new size, or how much is added or taken away. */
  readonly bytes: number;
  readonly by: 'absolute' | 'plus' | 'minus';
  /** How what is added is provided for. */
  readonly preallocation: Preallocation;
  /** Without it a smaller size is refused. */
  readonly shrink: boolean;
  /** Put the backup GPT at the new end. */
  readonly fixGpt: boolean;
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean | undefined;
}

/** What will be done, known before anything is. */
export interface ResizePlan {
  readonly before: number;
  readonly asked: number;
  /** What is lost by a smaller size; null: nothing can be. */
  readonly beyond: Beyond | null;
  /** The disk has a GPT whose backup will not stand at the end of the disk any more. */
  readonly gptLeftBehind: boolean;
  /** Why the image has to be written anew; null: it is changed in place. */
  readonly rewrite: string | null;
}

export interface ResizeResult extends ResizePlan {
  readonly format: string;
  /** What the disk has now: formats round up. */
  readonly size: number;
}

/** Who is told on the way. */
export interface ResizeNotices {
  /** The image is open, by this driver. */
  readonly opened?: (driver: FormatDriver) => void;
  /** What will be done, also before a refusal for want of `shrink`. */
  readonly planned?: (plan: ResizePlan) => void;
}

/**
 * Gives the disk another size.  Throws what opening throws,
 * `resize/not-positive`, `resize/preallocation-shrink`, `resize/shrink`, `resize/preallocation`, `gpt/none`, `gpt/cut`, `gpt/small`, the
 * format's codes.
 */
export async function resize(params: ResizeParams, job: Job, notices: ResizeNotices = {}): Promise<ResizeResult> {
  const { dependents, force } = params;
  const outcome = await changeInPlace(
    params.path,
    { verb: 'resize', open: params.options, dependents, force },
    (image) => resizeOpen(params, image, job, notices),
  );
  if (outcome.anew === null) return outcome.result;
  const size = await rewrite(params, outcome.result, outcome.anew, job);
  return { ...outcome.result, size };
}

interface Outcome {
  readonly result: ResizeResult;
  /** Not done yet: it takes a new file. */
  readonly anew: SizeByRewrite | null;
}

function resizeOpen(params: ResizeParams, { node, driver }: WritableImage, job: Job, notices: ResizeNotices): Outcome {
  notices.opened?.(driver);
  const before = node.size;
  const asked = sizeAsked(params, before);
  const shrinks = asked < before;
  if (asked <= before && params.preallocation !== 'off') throw new ImageError('resize/preallocation-shrink');
  const anew = asked === before ? null : (driver.sizeByRewrite?.(node, asked) ?? null);
  const table = tableOf(node, params);
  const plan: ResizePlan = {
    before,
    asked,
    beyond: shrinks ? whatLiesBeyond(node, table, asked, job) : null,
    gptLeftBehind: asked !== before && table !== null && table.gpt !== null && !params.fixGpt,
    rewrite: anew?.reason ?? null,
  };
  notices.planned?.(plan);
  if (shrinks && !params.shrink) throw new ImageError('resize/shrink', {}, { file: node.name });
  if (params.preallocation !== 'off' && driver.provisions?.(node).includes(params.preallocation) !== true) {
    throw new ImageError('resize/preallocation', { found: params.preallocation }, { file: node.name });
  }
  if (params.fixGpt) checkGptFits(table, asked, node.name);
  const result = { ...plan, format: driver.id, size: before };
  if (anew !== null) {
    refuseWithRewrite(params, node, anew.reason);
    return { result, anew };
  }
  if (params.fixGpt && shrinks) moveGptEnd(node, table, asked);
  job.throwIfCancelled();
  if (asked !== before) node.resize(asked, params.preallocation);
  if (params.fixGpt && (!shrinks || node.size !== asked)) {
    // Formats round sizes up; the smaller disk's backup then stands a little before its end.
    node.flush();
    moveGptEnd(node, shrinks ? readPartitionTable(node) : table, node.size);
  }
  return { result: { ...result, size: node.size }, anew: null };
}

/** Throws `resize/not-positive`, `resize/too-large`. */
function sizeAsked({ bytes, by }: ResizeParams, before: number): number {
  const asked = by === 'plus' ? before + bytes : by === 'minus' ? before - bytes : bytes;
  if (asked <= 0) throw new ImageError('resize/not-positive');
  if (!Number.isSafeInteger(asked)) {
    throw new ImageError('resize/too-large', { found: asked, allowed: Number.MAX_SAFE_INTEGER });
  }
  return asked;
}

/** The partition table, which only matters for what is told and for the GPT: a disk that cannot be read can still be resized. */
function tableOf(node: BlockNode, { fixGpt }: ResizeParams): PartitionTable | null {
  try {
    return readPartitionTable(node);
  } catch (error) {
    if (!(error instanceof ImageError) || fixGpt) throw error;
    return null;
  }
}

function refuseWithRewrite({ preallocation, fixGpt }: ResizeParams, node: BlockNode, reason: string): void {
  const where = { file: node.name };
  if (preallocation !== 'off') throw new ImageError('resize/preallocation', { found: preallocation }, where);
  if (fixGpt) throw new ImageError('resize/gpt-rewrite', { reason }, where);
  if (node.backing !== null) throw new ImageError('resize/rewrite-backing', { reason }, where);
}

/** A new file with the content as far as both reach; it takes the place of the old one when it is complete. Returns the size. */
async function rewrite(
  params: ResizeParams,
  { before, asked, format }: ResizeResult,
  anew: SizeByRewrite,
  job: Job,
): Promise<number> {
  // The target's lock on the file is the one that keeps others away meanwhile.
  const options: OpenOptions = { ...params.options, format, writable: false, share: true };
  const { size } = await convert(
    {
      sources: [{ path: params.path, options, window: { start: 0, length: Math.min(before, asked) } }],
      snapshot: null,
      target: params.path,
      format,
      options: { ...anew.options, ...(asked > before ? { size: asked } : {}) },
      backing: null,
      existing: null,
      targetIsZero: false,
      compress: false,
      offload: false,
      sparse: 4096,
      cache: 'writeback',
      depth: 8,
      outOfOrder: false,
      rate: 0,
      salvage: false,
      verify: true,
      keepIdentity: false,
    },
    job,
  );
  return size;
}

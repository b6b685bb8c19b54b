// compare: whether two images hold the same disk, and in strict mode whether they also say the same of what is stored.
import type { BlockNode } from '../block/node.ts';
import { readRun, resolveOne, type Run } from '../block/read.ts';
import { MiB, type GuestOffset } from '../block/units.ts';
import { becauseOfPassphrase, ImageError } from '../errors/image-error.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';
import { HoleWatch } from './map.ts';

export interface ComparedImage {
  /** What messages call it. */
  readonly name: string;
  readonly path: string;
  readonly options: OpenOptions;
}

export interface CompareParams {
  readonly first: ComparedImage;
  readonly second: ComparedImage;
  /** The sizes and the allocation must agree too. */
  readonly strict: boolean;
}

/** `offset` of a difference: guest offset of the first 512 bytes that differ, counted from where the piece that was read began. */
export interface CompareResult {
  readonly verdict: 'identical' | 'content' | 'size' | 'status';
  readonly offset: number | null;
  /** Virtual sizes in bytes. What one disk has past the end of the other must be zero for them to be identical. */
  readonly sizes: readonly [number, number];
}

const pieceLength = 2 * MiB;
const sector = 512;

/**
 * Compares. Throws `compare/open`, `compare/allocation` (a damaged table), `compare/read`, each with the image's name and the fault as
 * cause, and `request/cancelled`.
 */
export async function compare(params: CompareParams, job: Job): Promise<CompareResult> {
  const first = openNamed(params.first);
  try {
    const second = openNamed(params.second);
    try {
      return await compareNodes(new Side(params.first.name, first), new Side(params.second.name, second), params, job);
    } finally {
      second.close();
    }
  } finally {
    first.close();
  }
}

function openNamed(image: ComparedImage): BlockNode {
  try {
    return openImage(image.path, image.options).node;
  } catch (error) {
    throw told('compare/open', image.name, 0, error);
  }
}

function told(
  code: 'compare/open' | 'compare/allocation' | 'compare/read',
  name: string,
  offset: number,
  error: unknown,
): ImageError {
  if (!(error instanceof ImageError)) throw error;
  const detail = { name, offset, reason: error.message, ...becauseOfPassphrase(error) };
  return new ImageError(code, detail, error.where, error);
}

async function compareNodes(a: Side, b: Side, params: CompareParams, job: Job): Promise<CompareResult> {
  const sizes = [a.size, b.size] as const;
  const total = Math.max(...sizes);
  const shared = Math.min(...sizes);
  if (params.strict && a.size !== b.size) return { verdict: 'size', offset: null, sizes };
  const pause = breather();
  const step = async (offset: number): Promise<void> => {
    job.throwIfCancelled();
    job.progress({ phase: 'compare', done: offset, total });
    await pause();
  };
  let offset = 0;
  while (offset < shared) {
    const [runA, runB] = [a.runAt(offset), b.runAt(offset)];
    let length = Math.min(a.restOf(runA, offset), b.restOf(runB, offset));
    if (params.strict && statusOf(a, runA) !== statusOf(b, runB)) return { verdict: 'status', offset, sizes };
    const zeroes = [isZero(runA), isZero(runB)];
    if (!(zeroes[0] && zeroes[1]) && !sameBytes(runA, runB, offset)) {
      length = Math.min(length, pieceLength);
      const bytesA = zeroes[0] ? null : a.read(runA, offset, length);
      const bytesB = zeroes[1] ? null : b.read(runB, offset, length);
      const different = firstDifference(bytesA ?? zeroPiece, bytesB ?? zeroPiece, length);
      if (different !== null) return { verdict: 'content', offset: offset + different, sizes };
    }
    offset += length;
    await step(offset);
  }
  const longer = a.size > b.size ? a : b;
  while (offset < total) {
    const run = longer.runAt(offset);
    let length = longer.restOf(run, offset);
    if (!isZero(run)) {
      length = Math.min(length, pieceLength);
      const different = firstDifference(longer.read(run, offset, length), zeroPiece, length);
      if (different !== null) return { verdict: 'content', offset: offset + different, sizes };
    }
    offset += length;
    await step(offset);
  }
  job.progress({ phase: 'compare', done: total, total });
  return { verdict: 'identical', offset: null, sizes };
}

const zeroPiece = new Uint8Array(pieceLength);

/** Start of the first 512 bytes of `length` that differ; null: none do. */
function firstDifference(a: Uint8Array, b: Uint8Array, length: number): number | null {
  const [left, right] = [a.subarray(0, length), b.subarray(0, length)];
  if (Buffer.compare(left, right) === 0) return null;
  for (let at = 0; at < length; at += sector) {
    if (Buffer.compare(left.subarray(at, at + sector), right.subarray(at, at + sector)) !== 0) return at;
  }
  throw new Error('buffers differ and no part of them does');
}

function isZero(run: Run): boolean {
  return run.mapping.kind === 'zero';
}

/** Both are the same stored bytes of the same file: two overlays over one base. */
function sameBytes(a: Run, b: Run, offset: number): boolean {
  if (a.mapping.kind !== 'data' || b.mapping.kind !== 'data') return false;
  if (a.mapping.cipher !== undefined || b.mapping.cipher !== undefined) return false;
  const identity = a.mapping.storage.identity;
  if (identity === null || identity !== b.mapping.storage.identity) return false;
  return a.mapping.offset + (offset - a.start) === b.mapping.offset + (offset - b.start);
}

/** One of the two images, with the run it is at. */
class Side {
  readonly name: string;
  readonly size: number;
  readonly #node: BlockNode;
  readonly #buffer = new Uint8Array(pieceLength);
  readonly #holes = new HoleWatch(null);
  #run: Run | null = null;

  constructor(name: string, node: BlockNode) {
    this.name = name;
    this.size = node.size;
    this.#node = node;
  }

  runAt(offset: GuestOffset): Run {
    const current = this.#run;
    if (current !== null && offset >= current.start && offset < current.start + current.length) return current;
    try {
      this.#run = this.#withoutHole(resolveOne(this.#node, { start: offset, length: this.size - offset }));
    } catch (error) {
      throw told('compare/allocation', this.name, offset, error);
    }
    return this.#run;
  }

  /** Space that was provided for and never written counts as the zeroes that it reads as, in both modes, as it does in `map`. */
  #withoutHole(run: Run): Run {
    const { mapping } = run;
    if (mapping.kind !== 'data' || mapping.cipher !== undefined) return run;
    const { storage, offset } = mapping;
    if (!this.#holes.watches(run.node, storage) || offset >= storage.size) return run;
    const extent = storage.extentAt(offset, run.length);
    const length = Math.min(run.length, extent.length);
    if (extent.kind === 'data') return { ...run, length, mapping: { ...mapping, length } };
    return { ...run, length, mapping: { kind: 'zero', length, explicit: true, reserved: { storage, offset } } };
  }

  restOf(run: Run, offset: GuestOffset): number {
    return run.start + run.length - offset;
  }

  /** `length` bytes of `run` from `offset`; they stand until the next call. */
  read(run: Run, offset: GuestOffset, length: number): Uint8Array {
    const into = this.#buffer.subarray(0, length);
    try {
      readRun(partOf(run, offset), into);
    } catch (error) {
      throw told('compare/read', this.name, offset, error);
    }
    return into;
  }
}

/** The run from `offset` on. */
function partOf(run: Run, offset: GuestOffset): Run {
  const skip = offset - run.start;
  if (skip === 0) return run;
  const { mapping } = run;
  const rest = { ...run, start: offset, length: run.length - skip };
  switch (mapping.kind) {
    case 'data':
      return { ...rest, mapping: { ...mapping, offset: mapping.offset + skip, length: rest.length } };
    case 'packed':
      return { ...rest, mapping: { ...mapping, skip: mapping.skip + skip, length: rest.length } };
    case 'zero':
      return rest;
  }
}

/** What strict mode compares: kind, whether some layer says it, whether it has a place in a file, whether it reaches the end. */
function statusOf(side: Side, run: Run): string {
  const { mapping } = run;
  const pastEnd = mapping.kind === 'zero' && !mapping.explicit && run.start >= run.node.size;
  const allocated = mapping.kind !== 'zero' || mapping.explicit || pastEnd;
  const placed =
    mapping.kind === 'data' ? mapping.cipher === undefined : mapping.kind === 'zero' && mapping.reserved !== undefined;
  const atEnd = run.start + run.length === side.size && (run.depth === 0 || !allocated);
  return [mapping.kind === 'zero', allocated, placed, atEnd].join();
}

// The guest's disk of an image that may be damaged: what can be read, and what cannot be with the reason, stretch by stretch.
import { isImageError, type ImageError } from '../errors/image-error.ts';
import type { BlockNode, Mapping } from './node.ts';
import { checkRange, follow, readRun, type Run, type Unread } from './read.ts';
import type { Storage } from './storage.ts';
import { alignDown, type GuestRange } from './units.ts';

/** True for a stretch that cannot be read. */
export function isUnread(found: Run | Unread): found is Unread {
  return 'error' in found;
}

/**
 * The first stretch of `range` (which lies within the disk) with one answer. What a format does not bound itself is passed over by the unit
 * of its layer, and further only as far as the same entry of a table is to blame. Throws only what is no fault of an image.
 */
export function surveyOne(node: BlockNode, range: GuestRange): Run | Unread {
  return follow(node, range, tolerantMap);
}

/** The stretches of `range` in order, without gap or overlap. Throws `request/out-of-range`. */
export function* survey(
  node: BlockNode,
  range: GuestRange = { start: 0, length: node.size },
): Generator<Run | Unread, void, void> {
  checkRange(node, range);
  const end = range.start + range.length;
  for (let start = range.start; start < end;) {
    const found = surveyOne(node, { start, length: end - start });
    yield found;
    start += found.length;
  }
}

function tolerantMap(layer: BlockNode, range: GuestRange): Mapping {
  try {
    return layer.map(range);
  } catch (error) {
    if (!isImageError(error)) throw error;
    return { kind: 'unreadable', length: reachOf(layer, range, error), error };
  }
}

/** Bytes from the start of `range` that one fault covers. */
function reachOf(layer: BlockNode, { start, length }: GuestRange, fault: ImageError): number {
  const unit = Math.max(512, layer.granularity);
  const limit = start + length;
  const next = (from: number): number => Math.min(limit, alignDown(from, unit) + unit);
  let end = next(start);
  for (let step = unit; end < limit; step *= 2) {
    const further = next(Math.min(limit - 1, end + step - unit));
    if (!isSameFault(layer, fault, further - 1) || !isSameFault(layer, fault, end)) break;
    end = further;
  }
  return end - start;
}

/** The same entry of a table is to blame for the byte at `at`; where it is unknown which, nothing is taken for granted. */
function isSameFault(layer: BlockNode, fault: ImageError, at: number): boolean {
  if (fault.where.offset === undefined && fault.where.field === undefined) return false;
  try {
    layer.map({ start: at, length: 1 });
    return false;
  } catch (error) {
    if (!isImageError(error, fault.code)) return false;
    return error.where.offset === fault.where.offset && error.where.field === fault.where.field;
  }
}

/** A stretch that cannot be read, and why. Offsets and lengths in bytes. */
export interface Lost {
  readonly start: number;
  readonly length: number;
  readonly error: ImageError;
}

/** What storage cannot read in one piece is tried in pieces of this size. */
const smallPiece = 4096;

/**
 * Fills `into` with the guest bytes from `start` as far as they can be read, and with zeroes where they cannot: those stretches are what it
 * returns, in order. Throws `request/out-of-range`.
 */
export function readReadable(node: BlockNode, into: Uint8Array, start: number): Lost[] {
  const lost: Lost[] = [];
  for (const found of survey(node, { start, length: into.length })) {
    const part = into.subarray(found.start - start, found.start - start + found.length);
    if (isUnread(found)) lose(lost, part, found);
    else readInPieces(lost, part, found.start, (bytes, at) => readRun(partOf(found, at, bytes.length), bytes));
  }
  return lost;
}

/** The same of a storage, from its byte `start` on. */
export function readStored(storage: Storage, into: Uint8Array, start: number): Lost[] {
  const lost: Lost[] = [];
  readInPieces(lost, into, start, (bytes, at) => storage.readAt(bytes, at));
  return lost;
}

function readInPieces(
  lost: Lost[],
  into: Uint8Array,
  start: number,
  read: (into: Uint8Array, at: number) => void,
): void {
  if (into.length === 0 || failureOf(() => read(into, start)) === null) return;
  for (let done = 0; done < into.length;) {
    const at = start + done;
    const part = into.subarray(done, Math.min(into.length, alignDown(at, smallPiece) + smallPiece - start));
    const error = failureOf(() => read(part, at));
    if (error !== null) lose(lost, part, { start: at, length: part.length, error });
    done += part.length;
  }
}

function failureOf(work: () => void): ImageError | null {
  try {
    work();
    return null;
  } catch (error) {
    if (isImageError(error)) return error;
    throw error;
  }
}

function lose(lost: Lost[], part: Uint8Array, { start, length, error }: Lost): void {
  part.fill(0);
  const last = lost.at(-1);
  if (last === undefined || last.start + last.length !== start || last.error.message !== error.message) {
    lost.push({ start, length, error });
  } else lost.splice(-1, 1, { ...last, length: last.length + length });
}

/** `length` bytes of a run from byte `at` of the disk on. */
function partOf(run: Run, at: number, length: number): Run {
  const into = at - run.start;
  const { mapping } = run;
  if (mapping.kind === 'zero') return { ...run, start: at, length };
  const moved =
    mapping.kind === 'data'
      ? { ...mapping, length, offset: mapping.offset + into }
      : { ...mapping, length, skip: mapping.skip + into };
  return { ...run, start: at, length, mapping: moved };
}

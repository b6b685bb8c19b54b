// What an image must hold itself when another layer takes the place of the one below it: clusters that read otherwise there.
import { encoder } from '../block/encode.ts';
import type { BlockNode, PackedWriter, WritableNode } from '../block/node.ts';
import { readGuest, resolveOne, type Run } from '../block/read.ts';
import { alignDown, alignUp, MiB, type GuestOffset } from '../block/units.ts';
import { writeGuest } from '../block/write.ts';
import { nonZeroSpans, type Span } from '../block/copy/zeroes.ts';
import { ImageError } from '../errors/image-error.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';

/** Bytes that are compared at once, at least; and the largest unit that is judged as a whole. */
const pieceLength = MiB;
const largestUnit = 2 * MiB;

/** Does the image itself say what `run` of it holds, whatever is put below it? */
export function isOwn(top: WritableNode, { depth, mapping }: Run): boolean {
  if (depth > 0) return false;
  if (mapping.kind !== 'zero') return true;
  return mapping.explicit && (top.backing !== null || top.zeroesLast === true);
}

/**
 * Copies into `top` what reads otherwise in `base` (null: nothing, zeroes) than it does through `top`, in whole units of `top`. What is
 * zero in both, and what both take from one place, is not read. The bytes copied. Throws `rebase/*`, `request/cancelled`.
 */
export async function keepDifferences(
  top: WritableNode,
  base: BlockNode | null,
  how: { readonly compress: boolean; readonly storeZeroes: boolean },
  job: Job,
): Promise<number> {
  const work = new Comparison(top, base, how.compress ? (top.packed ?? null) : null, how.storeZeroes);
  const pause = breather();
  const total = top.size;
  let at = 0;
  while (at < total) {
    job.throwIfCancelled();
    job.progress({ phase: 'compare', done: at, total });
    at = work.step(at);
    await pause();
  }
  job.progress({ phase: 'compare', done: total, total });
  return work.copied;
}

interface Look {
  /** The image's own; the same in both; to be read and compared. */
  readonly kind: 'own' | 'same' | 'open';
  readonly length: number;
}

class Comparison {
  copied = 0;
  readonly #top: WritableNode;
  readonly #base: BlockNode | null;
  readonly #packed: PackedWriter | null;
  /** Zeroes before this offset are stored as bytes. */
  readonly #storedTo: number;
  readonly #unit: number;
  readonly #piece: number;
  readonly #old: Buffer;
  readonly #new: Buffer;
  readonly #zeroes: Buffer;

  constructor(top: WritableNode, base: BlockNode | null, packed: PackedWriter | null, storeZeroes: boolean) {
    this.#top = top;
    this.#base = base;
    this.#packed = packed;
    this.#storedTo = storeZeroes ? (top.backing?.size ?? 0) : 0;
    this.#unit = packed === null ? Math.min(largestUnit, Math.max(512, top.granularity)) : packed.unit;
    this.#piece = alignUp(pieceLength, this.#unit);
    this.#old = Buffer.alloc(this.#piece);
    this.#new = Buffer.alloc(this.#piece);
    this.#zeroes = Buffer.alloc(this.#unit);
  }

  /** Deals with what begins at `at`; where to go on. */
  step(at: GuestOffset): GuestOffset {
    const { size } = this.#top;
    const first = this.#look(at, size - at);
    const end = at + first.length;
    if (first.kind === 'own') return end;
    const whole = end >= size ? size : alignDown(end, this.#unit);
    if (first.kind === 'same' && whole > at) return whole;
    const stop = Math.min(size, alignDown(at, this.#piece) + this.#piece);
    const open: Span[] = [];
    let cursor = at;
    while (cursor < stop) {
      const look = this.#look(cursor, stop - cursor);
      if (look.kind === 'own') break;
      if (look.kind === 'open') this.#add(open, cursor, look.length);
      cursor += look.length;
    }
    for (const span of open) {
      const from = Math.max(at, span.offset);
      this.#compare(from, Math.min(cursor, span.offset + span.length));
    }
    return cursor;
  }

  /** Whole units around a stretch; neighbours become one. */
  #add(spans: Span[], start: number, length: number): void {
    const offset = alignDown(start, this.#unit);
    const end = alignUp(start + length, this.#unit);
    const last = spans.at(-1);
    if (last !== undefined && last.offset + last.length >= offset) {
      spans[spans.length - 1] = { offset: last.offset, length: Math.max(end, last.offset + last.length) - last.offset };
    } else spans.push({ offset, length: end - offset });
  }

  #look(at: GuestOffset, limit: number): Look {
    try {
      const run = resolveOne(this.#top, { start: at, length: limit });
      if (isOwn(this.#top, run)) return { kind: 'own', length: run.length };
      const base = this.#base;
      const isZero = run.mapping.kind === 'zero';
      if (base === null || at >= base.size) return { kind: isZero ? 'same' : 'open', length: run.length };
      const other = resolveOne(base, { start: at, length: Math.min(run.length, base.size - at) });
      const same = isZero ? other.mapping.kind === 'zero' : isOnePlace(run, other);
      return { kind: same ? 'same' : 'open', length: other.length };
    } catch (error) {
      throw told('rebase/map', at, error);
    }
  }

  #compare(from: GuestOffset, to: GuestOffset): void {
    const length = to - from;
    const before = this.#old.subarray(0, length);
    const after = this.#new.subarray(0, length);
    try {
      readGuest(this.#top, before, from);
    } catch (error) {
      throw told('rebase/read-old', from, error);
    }
    const held = Math.max(0, Math.min(length, (this.#base?.size ?? 0) - from));
    try {
      if (this.#base !== null && held > 0) readGuest(this.#base, after.subarray(0, held), from);
    } catch (error) {
      throw told('rebase/read-new', from, error);
    }
    after.fill(0, held);
    if (before.equals(after)) return;
    let pending = -1;
    for (let at = from; at < to;) {
      const next = Math.min(to, alignDown(at, this.#unit) + this.#unit);
      const differs = before.compare(after, at - from, next - from, at - from, next - from) !== 0;
      if (differs && pending < 0) pending = at;
      if (pending >= 0 && (!differs || next === to)) {
        this.#keep(before, from, { offset: pending, length: (differs ? next : at) - pending });
        pending = -1;
      }
      at = next;
    }
  }

  /** Makes a stretch the image's own, with the bytes it has now (`bytes` from guest offset `origin` on). */
  #keep(bytes: Buffer, origin: GuestOffset, { offset, length }: Span): void {
    const end = offset + length;
    this.copied += length;
    try {
      let at = offset;
      if (at < this.#storedTo) {
        const stored = bytes.subarray(at - origin, Math.min(end, this.#storedTo) - origin);
        this.#keepBytes(stored, at);
        at += stored.length;
        if (at === end) return;
      }
      const spans = nonZeroSpans(bytes, at - origin, end - origin, this.#unit, -(origin % this.#unit));
      for (const span of spans) {
        if (origin + span.offset > at) this.#keepZeroes(at, origin + span.offset);
        at = origin + span.offset + span.length;
        this.#keepBytes(bytes.subarray(span.offset, span.offset + span.length), origin + span.offset);
      }
      if (at < end) this.#keepZeroes(at, end);
    } catch (error) {
      throw told('rebase/write', offset, error);
    }
  }

  #keepBytes(bytes: Buffer, start: GuestOffset): void {
    const packed = this.#packed;
    if (packed === null) {
      writeGuest(this.#top, bytes, start);
      return;
    }
    for (let done = 0; done < bytes.length;) {
      const at = start + done;
      const next = Math.min(bytes.length, alignDown(at, packed.unit) + packed.unit - start);
      const piece = bytes.subarray(done, next);
      const whole = at % packed.unit === 0 && (piece.length === packed.unit || at + piece.length === this.#top.size);
      if (!whole || !writePacked(packed, piece, at)) writeGuest(this.#top, piece, at);
      done = next;
    }
  }

  /** By the tables where those say it themselves afterwards, else as bytes. */
  #keepZeroes(from: GuestOffset, to: GuestOffset): void {
    const top = this.#top;
    for (let at = from; at < to;) {
      const rest = { start: at, length: to - at };
      const done = top.cover?.(rest) ?? (top.backing === null ? null : top.zero(rest));
      if (done !== null && done.start === at && done.length > 0) {
        const run = resolveOne(top, { start: at, length: done.length });
        if (isOwn(top, run)) {
          at += run.length;
          continue;
        }
      }
      const next = Math.min(to, alignDown(at, this.#unit) + this.#unit);
      writeGuest(top, this.#zeroes.subarray(0, next - at), at);
      at = next;
    }
  }
}

/** Stores a whole unit packed; false: it is not worth it. */
function writePacked(writer: PackedWriter, bytes: Buffer, start: GuestOffset): boolean {
  const { unit, codec, always = false } = writer;
  const whole = bytes.length === unit ? bytes : Buffer.concat([bytes, Buffer.alloc(unit - bytes.length)]);
  const into = Buffer.alloc(always ? unit + 64 * 1024 : unit - 1);
  const stored = encoder(codec)(whole, into);
  if (stored === null) return false;
  const reserved = writer.reservePacked(start, into.subarray(0, stored));
  if (reserved === null) return false;
  reserved.place.storage.writeAt(reserved.bytes, reserved.place.offset);
  reserved.place.publish();
  return true;
}

/** Both runs are the same stored bytes of one file, read in the same way. */
function isOnePlace({ mapping: a }: Run, { mapping: b }: Run): boolean {
  if (a.kind === 'zero' || b.kind === 'zero' || a.offset !== b.offset) return false;
  const { identity } = a.storage;
  if (a.storage !== b.storage && (identity === null || identity !== b.storage.identity)) return false;
  if (a.kind === 'packed') return b.kind === 'packed' && a.skip === b.skip && a.codec.id === b.codec.id;
  return b.kind === 'data' && a.cipher === undefined && b.cipher === undefined;
}

function told(code: 'rebase/map' | 'rebase/read-old' | 'rebase/read-new' | 'rebase/write', at: number, error: unknown) {
  if (!(error instanceof ImageError)) return error;
  return new ImageError(code, { offset: at, reason: error.message }, error.where, error);
}

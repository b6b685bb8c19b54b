// From a slot into the target: zeroes are found, places reserved in order, writes overlapped, each published when it is done.
import { ImageError } from '../../errors/image-error.ts';
import type { Place, WritableNode } from '../node.ts';
import type { GuestOffset } from '../units.ts';
import { writePlace } from '../write.ts';
import type { Lanes } from './lanes.ts';
import type { Piece } from './plan.ts';
import type { Slot } from './slots.ts';
import { transferOut } from './transfer.ts';
import { nonZeroSpans, type Span } from './zeroes.ts';

export interface StoreRules {
  readonly target: WritableNode;
  /** From this guest offset on, what is not written reads as zeroes already. */
  readonly zeroFrom: GuestOffset;
  /** Room that is set aside in the target stays set aside where zeroes take its place. */
  readonly keepSpace: boolean;
  /** Zero detection works in units of this; 0: everything is written. */
  readonly granule: number;
  readonly packed: boolean;
}

/** A chunk that is ready to be placed: what is data, what is zero, what was packed. Offsets count from the chunk's start. */
export interface Prepared {
  readonly start: GuestOffset;
  readonly length: number;
  readonly spans: readonly Span[];
  readonly zeroes: readonly Span[];
  /** Length of each packed unit in the side buffer by its offset in the chunk; -1: store it plainly. */
  readonly packed: ReadonlyMap<number, Span> | null;
}

/** What a copy wrote, in bytes. */
export interface StoreCounts {
  data: number;
  packed: number;
  zeroes: number;
}

/** Finds the zeroes of a chunk and packs what will be stored packed. */
export async function prepareChunk(
  slot: Slot,
  chunk: { readonly start: GuestOffset; readonly length: number; readonly pieces: readonly Piece[] },
  rules: StoreRules,
  lanes: Lanes,
): Promise<Prepared> {
  // Bytes behind the end of the disk fill the last unit up.
  slot.data.fill(0, chunk.length, Math.min(slot.data.length, chunk.length + rules.target.granularity));
  const spans: Span[] = [];
  const zeroes: Span[] = [];
  for (const solid of solidSpans(chunk.pieces)) {
    const end = solid.offset + solid.length;
    const found =
      rules.granule === 0
        ? [solid]
        : nonZeroSpans(slot.data, solid.offset, end, rules.granule, -(chunk.start % rules.granule));
    let at = solid.offset;
    for (const span of found) {
      if (span.offset > at) zeroes.push({ offset: at, length: span.offset - at });
      spans.push(span);
      at = span.offset + span.length;
    }
    if (at < end) zeroes.push({ offset: at, length: end - at });
  }
  const packed = rules.packed && rules.target.packed !== undefined ? await packUnits(slot, spans, rules, lanes) : null;
  return { start: chunk.start, length: chunk.length, spans, zeroes, packed };
}

/** The stretches between the pieces that are left to the layer below. */
function solidSpans(pieces: readonly Piece[]): Span[] {
  const spans: { offset: number; length: number }[] = [];
  for (const piece of pieces) {
    if (piece.keep) continue;
    const last = spans.at(-1);
    if (last !== undefined && last.offset + last.length === piece.offset) last.length += piece.length;
    else spans.push({ offset: piece.offset, length: piece.length });
  }
  return spans;
}

async function packUnits(
  slot: Slot,
  spans: readonly Span[],
  rules: StoreRules,
  lanes: Lanes,
): Promise<Map<number, Span>> {
  const writer = rules.target.packed;
  const packed = new Map<number, Span>();
  if (writer === undefined) return packed;
  const at: number[] = [];
  for (const span of spans) {
    for (let offset = span.offset; offset < span.offset + span.length; offset += writer.unit) at.push(offset);
  }
  if (at.length === 0) return packed;
  const { codec, unit } = writer;
  const task = { kind: 'pack', codec, unit, at, side: slot.sideMemory, data: slot.dataMemory } as const;
  const { lengths } = await lanes.run({ ...task, always: writer.always === true });
  let end = 0;
  at.forEach((offset, index) => {
    const length = lengths[index] ?? -1;
    packed.set(offset, { offset: end, length });
    if (length > 0) end += length;
  });
  return packed;
}

/** A stretch of a chunk that was stored, and how. `offset` counts from the chunk's start. */
export interface Stored {
  readonly kind: 'data' | 'packed';
  readonly offset: number;
  length: number;
}

/** Neighbours that are alike become one. */
function note(stored: Stored[] | null, kind: Stored['kind'], offset: number, length: number): void {
  const last = stored?.at(-1);
  if (last !== undefined && last.kind === kind && last.offset + last.length === offset) last.length += length;
  else stored?.push({ kind, offset, length });
}

/**
 * Reserves all places of a prepared chunk now; the promise ends when its bytes are written and published. `stored` takes up what is
 * stored how; null: nobody wants to know. Throws `copy/write`.
 */
export function placeChunk(
  slot: Slot,
  prepared: Prepared,
  rules: StoreRules,
  counts: StoreCounts,
  stored: Stored[] | null = null,
): Promise<void> {
  const writes: Promise<void>[] = [];
  for (const span of prepared.zeroes) zeroTarget(rules, prepared.start + span.offset, span.length);
  for (const span of prepared.zeroes) counts.zeroes += span.length;
  const gather = new Gather(writes);
  let failure: { error: unknown } | null = null;
  for (const span of prepared.spans) {
    try {
      if (prepared.packed === null) {
        placePlain(slot, prepared, span, rules, gather, counts);
        note(stored, 'data', span.offset, span.length);
      } else placePacked(slot, prepared, span, rules, gather, counts, stored);
    } catch (error) {
      failure = { error: writeFailure(error, prepared.start + span.offset) };
      break;
    }
  }
  gather.close();
  return settle(writes, failure);
}

async function settle(writes: readonly Promise<void>[], failure: { readonly error: unknown } | null): Promise<void> {
  const results = await Promise.allSettled(writes);
  if (failure !== null) throw failure.error;
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** Joins places that follow each other in one file into one write. */
class Gather {
  readonly #writes: Promise<void>[];
  #places: Place[] = [];
  #pieces: Buffer[] = [];
  #end = 0;

  constructor(writes: Promise<void>[]) {
    this.#writes = writes;
  }

  add(place: Place, bytes: Buffer): void {
    const first = this.#places[0];
    if (first !== undefined && (first.storage !== place.storage || this.#end !== place.offset)) this.close();
    this.#places.push(place);
    this.#pieces.push(bytes);
    this.#end = place.offset + bytes.length;
  }

  close(): void {
    const [first] = this.#places;
    if (first === undefined) return;
    const places = this.#places;
    const pieces = this.#pieces;
    this.#places = [];
    this.#pieces = [];
    this.#writes.push(
      transferOut(first.storage, pieces, first.offset).then(
        () => {
          for (const place of places) place.publish();
        },
        (error: unknown) => {
          throw writeFailure(error, first.covers.start);
        },
      ),
    );
  }
}

/** What went wrong, with the place on the target's disk. */
function writeFailure(error: unknown, offset: GuestOffset): unknown {
  if (!(error instanceof ImageError)) return error;
  return new ImageError('copy/write', { offset, reason: error.detail.reason ?? error.message }, error.where, error);
}

function placePlain(
  slot: Slot,
  prepared: Prepared,
  span: Span,
  rules: StoreRules,
  gather: Gather,
  counts: StoreCounts,
): void {
  const { target } = rules;
  const { start } = prepared;
  let at = span.offset;
  const end = span.offset + span.length;
  while (at < end) {
    const place = target.reserve({ start: start + at, length: end - at });
    const from = place.covers.start - start;
    const to = from + place.covers.length;
    const length = Math.min(end, to) - at;
    const padded = to > prepared.length && start + prepared.length === target.size && to <= slot.data.length;
    if (from === at && (to <= end || padded)) {
      const bytes = slot.data.subarray(from, to);
      place.cipher?.encrypt(bytes, place.covers.start, place.offset);
      gather.add(place, bytes);
    } else {
      writePlace(target, place, slot.data.subarray(at, at + length), start + at);
    }
    counts.data += length;
    at += length;
  }
}

function placePacked(
  slot: Slot,
  prepared: Prepared,
  span: Span,
  rules: StoreRules,
  gather: Gather,
  counts: StoreCounts,
  told: Stored[] | null,
): void {
  const writer = rules.target.packed;
  if (writer === undefined) return;
  const end = span.offset + span.length;
  for (let at = span.offset; at < end; at += writer.unit) {
    const length = Math.min(writer.unit, end - at);
    const packed = prepared.packed?.get(at);
    const stored =
      packed === undefined || packed.length < 0
        ? null
        : slot.side.subarray(packed.offset, packed.offset + packed.length);
    const reserved = stored === null ? null : writer.reservePacked(prepared.start + at, stored);
    note(told, reserved === null ? 'data' : 'packed', at, length);
    if (reserved === null) {
      placePlain(slot, prepared, { offset: at, length }, rules, gather, counts);
    } else {
      const { bytes } = reserved;
      gather.add(reserved.place, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      counts.packed += bytes.length;
    }
  }
}

/** Makes a stretch of the target read as zeroes: by its tables where they can say so, else by writing zeroes. */
export function zeroTarget({ target, zeroFrom, keepSpace }: StoreRules, start: GuestOffset, length: number): void {
  let at = start;
  const end = Math.min(start + length, zeroFrom);
  while (at < end) {
    const rest = { start: at, length: end - at };
    // An image that can say so itself does: what lies below it now or later does not show through.
    const covered = keepSpace ? null : target.cover?.(rest);
    const done = covered ?? target.zero(rest, keepSpace);
    if (done !== null && done.start === at && done.length > 0) {
      at += done.length;
      continue;
    }
    const unit = Math.max(512, target.granularity);
    const next = Math.min(end, at - (at % unit) + unit, at + zeroPiece.length);
    writeZeroes(target, at, next - at);
    at = next;
  }
}

const zeroPiece = new Uint8Array(1024 * 1024);

function writeZeroes(target: WritableNode, start: GuestOffset, length: number): void {
  let at = start;
  while (at < start + length) {
    const place = target.reserve({ start: at, length: start + length - at });
    const part = Math.min(start + length, place.covers.start + place.covers.length) - at;
    writePlace(target, place, zeroPiece.subarray(0, part), at);
    at += part;
  }
}

// From the sources into a slot: overlapped reads, packed units through the lanes.
import { ImageError } from '../../errors/image-error.ts';
import type { Mapping } from '../node.ts';
import { readRun, unpackRun } from '../read.ts';
import { decodablePrefix } from '../salvage.ts';
import type { GuestOffset } from '../units.ts';
import type { Lanes, UnpackItem } from './lanes.ts';
import type { Piece } from './plan.ts';
import type { Slot } from './slots.ts';
import { transferIn } from './transfer.ts';

type Packed = Extract<Mapping, { kind: 'packed' }>;
interface PackedPiece {
  readonly piece: Piece;
  readonly mapping: Packed;
  readonly stored: number;
}

/** Packed units further apart than this are read one by one. */
const largestGap = 64 * 1024;

/**
 * Fills the slot's data buffer with a chunk. Throws the first fault as `copy/read` with its place on the target; with `salvage` what cannot be read becomes zeroes, and each
 * such stretch is told (offset from the chunk's start).
 */
export async function fetchChunk(
  slot: Slot,
  chunk: { readonly start: GuestOffset; readonly pieces: readonly Piece[] },
  lanes: Lanes,
  salvage: ((offset: number, length: number, error: unknown) => void) | null,
): Promise<void> {
  const { start, pieces } = chunk;
  const reads: Promise<void>[] = [];
  const packed: PackedPiece[] = [];
  const guard = (piece: Piece, work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) => {
      if (salvage === null) throw readFailure(error, start + piece.offset);
      salvagePiece(slot, piece, salvage);
    });
  for (const piece of pieces) {
    const mapping = piece.run?.mapping;
    if (mapping === undefined || mapping.kind === 'zero' || piece.keep) {
      slot.data.fill(0, piece.offset, piece.offset + piece.length);
    } else if (mapping.kind === 'data') {
      reads.push(guard(piece, fetchData(slot, piece, mapping)));
    } else {
      const stored = Math.max(0, Math.min(mapping.storedLength, mapping.storage.size - mapping.offset));
      packed.push({ piece, mapping, stored });
    }
  }
  for (const group of groupPacked(packed, slot.side.length)) reads.push(fetchGroup(slot, group, lanes, guard));
  const results = await Promise.allSettled(reads);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** What went wrong, with the place on the target's disk. */
function readFailure(error: unknown, offset: GuestOffset): unknown {
  if (!(error instanceof ImageError)) return error;
  return new ImageError('copy/read', { offset, reason: error.detail.reason ?? error.message }, error.where, error);
}

async function fetchData(slot: Slot, piece: Piece, mapping: Extract<Mapping, { kind: 'data' }>): Promise<void> {
  const { cipher } = mapping;
  const guest = piece.run?.start ?? 0;
  if (cipher !== undefined && (guest % cipher.sectorSize !== 0 || piece.length % cipher.sectorSize !== 0)) {
    readPiece(piece, slot.data.subarray(piece.offset, piece.offset + piece.length));
    return;
  }
  await transferIn(mapping.storage, slot.data, piece.offset, piece.length, mapping.offset);
  cipher?.decrypt(slot.data.subarray(piece.offset, piece.offset + piece.length), guest, mapping.offset);
}

function readPiece(piece: Piece, into: Uint8Array): void {
  if (piece.run !== null) readRun(piece.run, into);
}

interface Group {
  readonly items: readonly PackedPiece[];
  readonly start: number;
  readonly length: number;
  /** Where in the side buffer; null: it does not fit, these are read one by one. */
  readonly at: number | null;
}

/** Neighbours in the file are read together; the groups share the side buffer. */
function groupPacked(packed: readonly PackedPiece[], capacity: number): Group[] {
  const groups: Group[] = [];
  let used = 0;
  let current: PackedPiece[] = [];
  let start = 0;
  let end = 0;
  const close = (): void => {
    if (current.length === 0) return;
    const length = end - start;
    const fits = used + length <= capacity;
    groups.push({ items: current, start, length, at: fits ? used : null });
    if (fits) used += length;
    current = [];
  };
  for (const item of packed) {
    const { offset, storage, codec } = item.mapping;
    const last = current.at(-1)?.mapping;
    const joins =
      last !== undefined &&
      last.storage === storage &&
      last.codec.id === codec.id &&
      offset >= start &&
      offset <= end + largestGap &&
      offset + item.stored - start <= capacity / 2;
    if (!joins) {
      close();
      start = offset;
      end = offset;
    }
    current.push(item);
    end = Math.max(end, offset + item.stored);
  }
  close();
  return groups;
}

async function fetchGroup(
  slot: Slot,
  group: Group,
  lanes: Lanes,
  guard: (piece: Piece, work: Promise<void>) => Promise<void>,
): Promise<void> {
  const { at } = group;
  const first = group.items[0];
  if (first === undefined) return;
  const oneByOne = async (item: PackedPiece): Promise<void> => {
    await guard(
      item.piece,
      new Promise((resolve) => {
        readPiece(item.piece, slot.data.subarray(item.piece.offset, item.piece.offset + item.piece.length));
        resolve();
      }),
    );
  };
  if (at === null) {
    for (const item of group.items) await oneByOne(item);
    return;
  }
  try {
    await transferIn(first.mapping.storage, slot.side, at, group.length, group.start);
  } catch {
    for (const item of group.items) await oneByOne(item);
    return;
  }
  const items: UnpackItem[] = group.items.map(({ piece, mapping, stored }) => ({
    from: at + mapping.offset - group.start,
    stored,
    unpacked: mapping.unpackedLength,
    skip: mapping.skip,
    to: piece.offset,
    length: piece.length,
    file: mapping.storage.name,
    offset: mapping.offset,
  }));
  const result = await lanes.run({
    kind: 'unpack',
    codec: first.mapping.codec,
    side: slot.sideMemory,
    data: slot.dataMemory,
    items,
  });
  for (const fault of result.faults) {
    const item = group.items[fault.item];
    if (item !== undefined) await guard(item.piece, Promise.reject(ImageError.fromWire(fault.error)));
  }
}

/** Reads a damaged stretch sector by sector; what stays unreadable becomes zeroes and is told, neighbours in one. */
function salvagePiece(slot: Slot, piece: Piece, tell: (offset: number, length: number, error: unknown) => void): void {
  const sector = 512;
  const { run } = piece;
  if (run === null) return;
  if (run.mapping.kind === 'packed') {
    salvagePacked(slot, piece, run.mapping, tell);
    return;
  }
  let bad: { offset: number; length: number; error: unknown } | null = null;
  for (let at = 0; at < piece.length;) {
    const length = Math.min(sector - ((run.start + at) % sector), piece.length - at);
    const into = slot.data.subarray(piece.offset + at, piece.offset + at + length);
    try {
      readRun(shifted(run, at, length), into);
      if (bad !== null) tell(bad.offset, bad.length, bad.error);
      bad = null;
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      into.fill(0);
      if (bad === null) bad = { offset: piece.offset + at, length, error };
      else bad.length += length;
    }
    at += length;
  }
  if (bad !== null) tell(bad.offset, bad.length, bad.error);
}

/** The decodable start of a packed unit, and zeroes behind it. */
function salvagePacked(
  slot: Slot,
  piece: Piece,
  mapping: Packed,
  tell: (offset: number, length: number, error: unknown) => void,
): void {
  const { storage, offset, codec, unpackedLength, skip } = mapping;
  const into = slot.data.subarray(piece.offset, piece.offset + piece.length).fill(0);
  let whole: Uint8Array;
  let reason: ImageError;
  try {
    into.set(unpackRun(mapping).subarray(skip, skip + piece.length));
    return;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    reason = error;
  }
  try {
    const stored = new Uint8Array(Math.max(0, Math.min(mapping.storedLength, storage.size - offset)));
    storage.readAt(stored, offset);
    whole = decodablePrefix(codec, stored, unpackedLength);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    whole = new Uint8Array(0);
  }
  const prefix = whole.subarray(skip, skip + piece.length);
  into.set(prefix);
  if (prefix.length < piece.length) tell(piece.offset + prefix.length, piece.length - prefix.length, reason);
}

/** The part of `run` from `by` on. */
function shifted(run: NonNullable<Piece['run']>, by: GuestOffset, length: number): NonNullable<Piece['run']> {
  const { mapping } = run;
  const start = run.start + by;
  if (mapping.kind !== 'data') return { ...run, start, length };
  return { ...run, start, length, mapping: { ...mapping, offset: mapping.offset + by, length } };
}

// A raw disk in a gzipped tar, in one pass: chunk after chunk deflated on its own, so that zeroes cost next to nothing.
import zlib from 'node:zlib';
import { Readable } from 'node:stream';
import { isZero } from '../block/copy/zeroes.ts';
import type { CopyResult } from '../block/copy/copy.ts';
import { Pace } from '../block/copy/pace.ts';
import type { CopyPart } from '../block/copy/plan.ts';
import { readGuest, resolveOne } from '../block/read.ts';
import type { Storage } from '../block/storage.ts';
import { alignUp, MiB } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';
import { blockSize } from '../formats/ova/spec.ts';
import { fileHeader } from '../formats/ova/tar-header.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';

export interface ArchiveRequest {
  /** Of the disk in the archive: at most 100 bytes. */
  readonly name: string;
  readonly parts: readonly CopyPart[];
  /** Bytes of the disk; behind the parts it is zero. */
  readonly size: number;
  readonly storage: Storage;
  /** Bytes per second; 0 or absent: no limit. */
  readonly rate?: number;
}

/** Bytes that are deflated at a time. */
const chunk = MiB;

/** RFC 1952: deflated, no name, no time, maximum compression not claimed, Unix. */
const gzipHead = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);

/** RFC 1951: an empty last block of fixed codes. */
const lastBlock = Buffer.from([0x03, 0x00]);

/** A stretch that ends on a byte and needs nothing that came before. */
function deflated(bytes: Uint8Array): Buffer {
  return zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH });
}

/**
 * Writes the archive in GNU tar's old form, which Compute Engine asks for, with the disk as its only file. The caller flushes. Throws
 * `storage/*`, `request/cancelled`, and what reading the parts throws.
 */
export async function writeArchive(request: ArchiveRequest, job: Job): Promise<CopyResult> {
  const { storage, size } = request;
  const counts = { data: 0, packed: 0, zeroes: 0 };
  const breathe = breather();
  const pace = new Pace(request.rate ?? 0);
  const noughts = { bytes: Buffer.alloc(chunk), deflated: deflated(Buffer.alloc(chunk)) };
  let at = 0;
  let crc = 0;
  let length = 0;
  const put = (bytes: Uint8Array): void => {
    storage.writeAt(bytes, at);
    at += bytes.length;
  };
  const add = (bytes: Uint8Array, packed: Uint8Array): void => {
    crc = zlib.crc32(bytes, crc);
    length += bytes.length;
    put(packed);
  };
  put(gzipHead);
  const header = fileHeader(request.name, size, 'gnu');
  add(header, deflated(header));
  for (const { bytes, zero } of chunksOf(request)) {
    job.throwIfCancelled();
    if (zero) counts.zeroes += bytes.length;
    else counts.data += bytes.length;
    if (zero && bytes.length === chunk) add(noughts.bytes, noughts.deflated);
    else add(bytes, deflated(bytes));
    job.progress({ phase: 'copy', done: counts.data + counts.zeroes, total: size });
    await pace.wait(bytes.length);
    await breathe();
  }
  // The disk is filled up to whole blocks; two blocks of zeroes end the archive.
  const rest = Buffer.alloc(alignUp(size, blockSize) - size + 2 * blockSize);
  add(rest, deflated(rest));
  put(lastBlock);
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc, 0);
  tail.writeUInt32LE(length % 2 ** 32, 4);
  put(tail);
  return counts;
}

/** The disk in chunks, in order. `bytes` is good until the next one. */
function* chunksOf({ parts, size }: ArchiveRequest): Generator<{ bytes: Buffer; zero: boolean }, void, void> {
  const buffer = Buffer.alloc(chunk);
  for (let start = 0; start < size; start += chunk) {
    const bytes = buffer.subarray(0, Math.min(chunk, size - start));
    const known = isKnownZero(parts, start, bytes.length);
    bytes.fill(0);
    if (!known) for (const part of parts) fillFrom(part, bytes, start);
    yield { bytes, zero: known || isZero(bytes, 0, bytes.length) };
  }
}

/** The map says so: nothing has to be read. */
function isKnownZero(parts: readonly CopyPart[], start: number, length: number): boolean {
  return parts.every((part) => {
    const from = Math.max(start, part.start) - part.start;
    const to = Math.min(start + length, part.start + part.source.size) - part.start;
    if (from >= to) return true;
    const run = resolveOne(part.source, { start: from, length: to - from });
    return run.mapping.kind === 'zero' && run.length >= to - from;
  });
}

/** Fills the bytes of the disk from `start` that lie in `part`. */
function fillFrom({ source, start: base }: CopyPart, into: Buffer, start: number): void {
  const from = Math.max(start, base);
  const to = Math.min(start + into.length, base + source.size);
  if (from < to) readGuest(source, into.subarray(from - start, to - start), from - base);
}

/** Unpacks what was written and compares it with the parts. Throws `convert/differs`; true when all is the same. */
export async function verifyArchive(request: ArchiveRequest, job: Job): Promise<boolean> {
  const { storage, size } = request;
  const unpacked = Readable.from(piecesOf(storage)).pipe(zlib.createGunzip());
  const expected = chunksOf(request);
  let current: Buffer = Buffer.alloc(0);
  /** Bytes of the header that are still to come. */
  let skip = blockSize;
  let done = 0;
  try {
    for await (const piece of unpacked as AsyncIterable<Buffer>) {
      job.throwIfCancelled();
      let rest = piece.subarray(Math.min(skip, piece.length));
      skip -= piece.length - rest.length;
      while (rest.length > 0 && done < size) {
        if (current.length === 0) current = expected.next().value?.bytes ?? current;
        const length = Math.min(rest.length, current.length);
        if (rest.compare(current, 0, length, 0, length) !== 0) throw differs(storage, done);
        rest = rest.subarray(length);
        current = current.subarray(length);
        done += length;
        job.progress({ phase: 'verify', done, total: size });
      }
    }
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw differs(storage, done, error);
  }
  if (done < size) throw differs(storage, done);
  return true;
}

function differs(storage: Storage, offset: number, cause?: unknown): ImageError {
  return new ImageError('convert/differs', { offset }, { file: storage.name }, cause);
}

function* piecesOf(storage: Storage): Generator<Buffer, void, void> {
  for (let at = 0; at < storage.size; at += chunk) {
    const piece = Buffer.alloc(Math.min(chunk, storage.size - at));
    storage.readAt(piece, at);
    yield piece;
  }
}

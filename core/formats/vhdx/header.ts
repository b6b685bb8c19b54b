// The header section: file identifier and the two headers, of which one is current; and how a header is replaced.
import { randomUUID } from 'node:crypto';
import type { Storage } from '../../block/storage.ts';
import { crc32cWithHole } from '../../bytes/checksum.ts';
import { ImageError, isImageError } from '../../errors/image-error.ts';
import {
  fileIdentifier,
  fileIdentifierOffset,
  header,
  headerLength,
  headerOffsets,
  headerSectionLength,
  maxLogLength,
  zeroGuid,
  type Header,
} from './spec.ts';

const checksumAt = header.fields.Checksum.offset;
const largestSequence = 2n ** 64n - 1n;

/** The header section as read. */
export interface HeaderSection {
  readonly creator: string;
  /** Both headers; null: not valid (signature, checksum). */
  readonly copies: readonly [Header | null, Header | null];
  /** Which of them is current. */
  readonly current: 0 | 1;
  readonly header: Header;
}

/**
 * Reads the header section. Throws `vhdx/not-vhdx`, `vhdx/no-header`, `vhdx/version`, `vhdx/log-version`, `vhdx/log-place`.
 * Two headers with one sequence number are accepted when they are the same: Disk2vhd writes them so.
 */
export function readHeaderSection(storage: Storage): HeaderSection {
  const where = { file: storage.name, offset: fileIdentifierOffset };
  if (storage.size < headerSectionLength) throw new ImageError('vhdx/not-vhdx', {}, where);
  const identifier = new Uint8Array(fileIdentifier.size);
  storage.readAt(identifier, fileIdentifierOffset);
  const { Creator } = fileIdentifier.parse(identifier, where);
  const copies: [Header | null, Header | null] = [readHeader(storage, 0), readHeader(storage, 1)];
  const current = chooseCurrent(copies);
  const chosen = current === null ? null : copies[current];
  if (current === null || chosen === null) {
    throw new ImageError('vhdx/no-header', {}, { file: storage.name, offset: headerOffsets[0] });
  }
  const at = { file: storage.name, offset: headerOffsets[current] };
  header.check(chosen, at);
  checkLogPlace(storage, chosen, at.offset);
  return { creator: decodeCreator(Creator), copies, current, header: chosen };
}

function readHeader(storage: Storage, slot: 0 | 1): Header | null {
  const bytes = new Uint8Array(headerLength);
  storage.readAt(bytes, headerOffsets[slot]);
  return parseHeader(bytes);
}

/** The header in 4 KiB of bytes, or null where signature or checksum say that it is none. */
function parseHeader(bytes: Uint8Array): Header | null {
  let values: Header;
  try {
    values = header.parseLoosely(bytes);
  } catch (error) {
    if (isImageError(error, 'storage/too-large')) return null;
    throw error;
  }
  if (values.Signature !== 'head' || values.Checksum !== crc32cWithHole(bytes, checksumAt)) return null;
  return values;
}

function chooseCurrent(copies: readonly [Header | null, Header | null]): 0 | 1 | null {
  const [first, second] = copies;
  if (first === null) return second === null ? null : 1;
  if (second === null || first.SequenceNumber > second.SequenceNumber) return 0;
  if (second.SequenceNumber > first.SequenceNumber) return 1;
  return first.Checksum === second.Checksum ? 0 : null;
}

function checkLogPlace(storage: Storage, values: Header, offset: number): void {
  const where = { file: storage.name, offset: offset + header.fields.LogOffset.offset, field: 'LogOffset' };
  const { LogLength, LogOffset, LogGuid, LogVersion } = values;
  if (LogVersion !== 0) {
    throw new ImageError('vhdx/log-version', { found: LogVersion }, { ...where, field: 'LogVersion' });
  }
  if (LogLength === 0 && LogGuid === zeroGuid) return;
  const refuse = (reason: string): never => {
    throw new ImageError('vhdx/log-place', { offset: LogOffset, length: LogLength, reason }, where);
  };
  if (LogLength === 0) refuse('has no length, and entries to replay');
  if (LogLength > maxLogLength) refuse('is larger than 1 GB');
  if (LogOffset % headerSectionLength !== 0 || LogLength % headerSectionLength !== 0) refuse('is not in whole MB');
  if (LogOffset < headerSectionLength) refuse('lies in the header section');
  if (LogOffset + LogLength > storage.size) refuse('reaches beyond the end of the file');
}

function decodeCreator(bytes: Uint8Array): string {
  const text = new TextDecoder('utf-16le').decode(bytes);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** The 512 bytes of the Creator field for `text`. */
export function encodeCreator(text: string): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < Math.min(text.length, 255); i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return bytes;
}

/** The 4 KiB of a header with its checksum; `before`: what stands there now, whose reserved bytes are kept. */
export function serialiseHeader(values: Header, before?: Uint8Array): Uint8Array {
  const bytes = before === undefined ? new Uint8Array(headerLength) : before.slice(0, headerLength);
  header.patch(bytes, values);
  header.patch(bytes, { Checksum: crc32cWithHole(bytes, checksumAt) });
  return bytes;
}

/** The headers of a file that is open for writing. */
export class HeaderWriter {
  readonly #storage: Storage;
  #header: Header;
  #current: 0 | 1;

  constructor(storage: Storage, section: Pick<HeaderSection, 'header' | 'current'>) {
    this.#storage = storage;
    this.#header = section.header;
    this.#current = section.current;
  }

  get header(): Header {
    return this.#header;
  }

  /**
   * Makes `changes` current (2.2.2): the header that is not current is written with a larger sequence number and flushed, then the
   * other one, so that both say the same. A power cut in between leaves one valid header, old or new. `durable` false: not flushed.
   */
  update(changes: Partial<Header>, durable = true): void {
    const next = { ...this.#header, ...changes };
    for (let round = 0; round < 2; round++) {
      if (this.#header.SequenceNumber >= largestSequence) {
        throw new ImageError('vhdx/sequence-end', {}, { file: this.#storage.name, field: 'SequenceNumber' });
      }
      const values = { ...next, Signature: 'head', SequenceNumber: this.#header.SequenceNumber + 1n };
      const slot = this.#current === 0 ? 1 : 0;
      const before = new Uint8Array(headerLength);
      this.#storage.readAt(before, headerOffsets[slot]);
      this.#storage.writeAt(serialiseHeader(values, before), headerOffsets[slot]);
      if (durable) this.#storage.flush();
      this.#header = values;
      this.#current = slot;
    }
  }

  /** Fresh identities for the first change in this session (2.2.2): `data`: a reader of the disk can see it. */
  static freshGuids(data: boolean): Partial<Header> {
    const FileWriteGuid = randomUUID();
    return data ? { FileWriteGuid, DataWriteGuid: randomUUID() } : { FileWriteGuid };
  }
}

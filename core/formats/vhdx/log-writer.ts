// Writing the log: changed sectors become entries before they go to their places, so that a power cut leaves either state.
import { randomUUID } from 'node:crypto';
import type { Storage } from '../../block/storage.ts';
import { crc32cWithHole } from '../../bytes/checksum.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { HeaderWriter } from './header.ts';
import { descriptorArea } from './log.ts';
import type { DirtySector } from './pages.ts';
import { dataDescriptor, dataSector, descriptorLength, logEntryHeader, logSectorLength, zeroGuid } from './spec.ts';

/** Sectors that one entry takes at most, so that two neighbours fit into the log: the older stays valid until the newer is. */
export function sectorsPerEntry(logLength: number): number {
  const room = Math.floor(logLength / 2 / logSectorLength) * logSectorLength;
  let count = Math.floor(room / logSectorLength);
  while (count > 0 && descriptorArea(count) + count * logSectorLength > room) count--;
  return count;
}

/** The bytes of an entry (2.3.1) that writes `sectors`. Offsets within the log. */
function serialiseEntry(entry: {
  readonly guid: string;
  readonly sequence: bigint;
  readonly tail: number;
  readonly fileLength: number;
  readonly sectors: readonly DirtySector[];
}): Uint8Array {
  const { sectors, sequence } = entry;
  const area = descriptorArea(sectors.length);
  const bytes = new Uint8Array(area + sectors.length * logSectorLength);
  logEntryHeader.patch(bytes, {
    Signature: 'loge',
    EntryLength: bytes.length,
    Tail: entry.tail,
    SequenceNumber: sequence,
    DescriptorCount: sectors.length,
    LogGuid: entry.guid,
    FlushedFileOffset: entry.fileLength,
    LastFileOffset: entry.fileLength,
  });
  sectors.forEach((sector, index) => {
    dataDescriptor.patch(bytes.subarray(logEntryHeader.size + index * descriptorLength), {
      DataSignature: 'desc',
      LeadingBytes: sector.bytes.subarray(0, 8),
      TrailingBytes: sector.bytes.subarray(logSectorLength - 4),
      FileOffset: sector.offset,
      SequenceNumber: sequence,
    });
    dataSector.patch(bytes.subarray(area + index * logSectorLength), {
      DataSignature: 'data',
      SequenceHigh: Number(sequence >> 32n),
      Data: sector.bytes.subarray(8, logSectorLength - 4),
      SequenceLow: Number(sequence & 0xffffffffn),
    });
  });
  logEntryHeader.patch(bytes, { Checksum: crc32cWithHole(bytes, logEntryHeader.fields.Checksum.offset) });
  return bytes;
}

/**
 * The log of a file that is open for writing. Every entry is written when all earlier ones stand in their places for good, so that each
 * is its own tail.
 */
export class LogWriter {
  readonly #storage: Storage;
  readonly #headers: HeaderWriter;
  readonly #guid = randomUUID();
  #active = false;
  #head = 0;
  #sequence = 1n;

  constructor(storage: Storage, headers: HeaderWriter) {
    this.#storage = storage;
    this.#headers = headers;
  }

  /** Entries of this session may stand in the log. */
  get active(): boolean {
    return this.#active;
  }

  /** Sectors that `append` takes at once. Throws `vhdx/no-log`. */
  get capacity(): number {
    const { LogLength, LogOffset } = this.#headers.header;
    if (LogLength === 0) {
      throw new ImageError('vhdx/no-log', {}, { file: this.#storage.name, offset: LogOffset, field: 'LogLength' });
    }
    return sectorsPerEntry(LogLength);
  }

  /**
   * Writes one entry and waits for the disk: from here on a power cut leaves `sectors` written. What was logged before is durable in
   * its place already (the caller has flushed). The first entry of a session comes before the header that makes the log count.
   */
  append(sectors: readonly DirtySector[]): void {
    const { LogLength, LogOffset } = this.#headers.header;
    const bytes = serialiseEntry({
      guid: this.#guid,
      sequence: this.#sequence,
      tail: this.#head,
      fileLength: this.#storage.size,
      sectors,
    });
    const first = Math.min(bytes.length, LogLength - this.#head);
    this.#storage.writeAt(bytes.subarray(0, first), LogOffset + this.#head);
    if (first < bytes.length) this.#storage.writeAt(bytes.subarray(first), LogOffset);
    this.#storage.flush();
    if (!this.#active) {
      this.#headers.update({ LogGuid: this.#guid });
      this.#active = true;
    }
    this.#head = (this.#head + bytes.length) % LogLength;
    this.#sequence++;
  }

  /** Empties the log (2.3.3): everything logged stands in its place, and the caller has flushed it. */
  clear(): void {
    if (!this.#active) return;
    this.#headers.update({ LogGuid: zeroGuid });
    this.#active = false;
  }
}

// Writing a streamOptimized extent: compressed grains behind their markers, in ascending order, then tables, directory and footer.
import type { Codec } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { ExtentPlace, ExtentWriter } from './extent-writer.ts';
import { streamTrailerLength } from './layout.ts';
import type { SparseExtent } from './sparse.ts';
import {
  grainMarkerLength,
  hostedHeader,
  marker,
  markerType,
  sectorSize,
  sparseFileLimit,
  type HostedHeader,
} from './spec.ts';
import { TableWriter } from './table-writer.ts';

/** One sector that says what follows. `sectors`: how many of it. */
function markerSector(type: number, sectors: number): Uint8Array {
  const bytes = new Uint8Array(sectorSize);
  bytes.set(marker.serialise({ val: sectors, size: 0, type }));
  return bytes;
}

/** Grain tables as bytes, padded to whole sectors. */
function littleEndian(entries: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(alignUp(entries.length * 4, sectorSize));
  const view = new DataView(bytes.buffer);
  entries.forEach((entry, i) => view.setUint32(4 * i, entry, true));
  return bytes;
}

/**
 * What ends a stream, to be written at byte `at`: directory marker and directory, footer marker and footer, end of stream.
 * `header` is that of the file; the footer is the same but for the offset of the directory.
 */
export function streamTrailer(header: HostedHeader, directory: Uint32Array, at: HostOffset): Uint8Array {
  const table = littleEndian(directory);
  const footer = hostedHeader.serialise({ ...header, gdOffset: at / sectorSize + 1 });
  return Buffer.concat(
    [
      markerSector(markerType.grainDirectory, table.length / sectorSize),
      table,
      markerSector(markerType.footer, 1),
      footer,
      markerSector(markerType.endOfStream, 0),
    ],
    streamTrailerLength(directory.length),
  );
}

const codec: Codec = { id: 'zlib' };

/** Buffers for grains come in few lengths, so that they can be used again. */
const spareStep = 64 * 1024;

/** What both layouts of a stream share: no plain data, no change of what is written. */
abstract class StreamWriter implements ExtentWriter {
  readonly codec = codec;
  protected readonly extent: SparseExtent;
  protected readonly storage: Storage;

  /** Buffers whose bytes are in the file: used again for the next grains. */
  readonly #spare: Uint8Array[] = [];

  constructor(extent: SparseExtent) {
    this.extent = extent;
    this.storage = extent.storage;
  }

  abstract reservePacked(offset: number, stored: Uint8Array): { place: ExtentPlace; bytes: Uint8Array };
  abstract settle(durable: boolean): void;

  reserve(offset: number, length: number): ExtentPlace {
    const code = this.extent.map(offset, length).kind === 'packed' ? 'vmdk/stream-finished' : 'vmdk/stream-plain';
    throw new ImageError(code, {}, { file: this.storage.name });
  }

  /** What was never written reads as zeroes where nothing is below; that is all a stream can do. */
  zero(offset: number, length: number, _keepSpace: boolean, below: boolean): number {
    const { kind, length: found } = this.extent.map(offset, length);
    return kind === 'zero' || (kind === 'absent' && !below) ? found : 0;
  }

  release(offset: number, length: number): number {
    const { kind, length: found } = this.extent.map(offset, length);
    return kind === 'absent' ? found : 0;
  }

  /** Whole sectors that a compressed grain takes with its marker. */
  protected lengthOf(stored: Uint8Array): number {
    return alignUp(grainMarkerLength + stored.length, sectorSize);
  }

  /** A grain that goes to byte `host` of the file. Its bytes are valid until it is published. Throws `vmdk/full`. */
  protected packedAt(
    grain: number,
    host: HostOffset,
    stored: Uint8Array,
    publish: () => void,
  ): { place: ExtentPlace; bytes: Uint8Array } {
    const { grainSize, size } = this.extent;
    const length = this.lengthOf(stored);
    if (host + length > sparseFileLimit) {
      throw new ImageError('vmdk/full', {}, { file: this.storage.name, offset: host });
    }
    const spare = this.#spare.pop();
    const buffer = spare !== undefined && spare.length >= length ? spare : new Uint8Array(alignUp(length, spareStep));
    const bytes = buffer.subarray(0, length);
    const val = (grain * grainSize) / sectorSize;
    bytes.set(marker.serialise({ val, size: stored.length }).subarray(0, grainMarkerLength));
    bytes.set(stored, grainMarkerLength);
    bytes.fill(0, grainMarkerLength + stored.length);
    const start = grain * grainSize;
    const place = {
      start,
      length: Math.min(grainSize, size - start),
      storage: this.storage,
      offset: host,
      fresh: true,
      publish: () => {
        publish();
        this.#spare.push(buffer);
      },
    };
    return { place, bytes };
  }
}

/**
 * The usual stream, with the directory at the end. It can be written once, from empty, in ascending order; `settle` ends it (what was
 * written can be read from then on), and more grains may follow after that in the same session.
 */
export class EndedStreamWriter extends StreamWriter {
  readonly #header: HostedHeader;
  readonly #empty: boolean;
  /** Where the next marker goes. */
  #next: HostOffset;
  #lastGrain = -1;
  /** The table of the last grain: not in the file yet. */
  readonly #table: Uint32Array;
  #changed = false;

  /** `header`: that at the beginning of the file. */
  constructor(extent: SparseExtent, header: HostedHeader) {
    super(extent);
    this.#header = header;
    this.#empty = extent.directory.entries.every((entry) => entry === 0);
    this.#next = header.overHead * sectorSize;
    this.#table = new Uint32Array(extent.entriesPerTable);
  }

  reservePacked(offset: number, stored: Uint8Array): { place: ExtentPlace; bytes: Uint8Array } {
    const { grainSize, entriesPerTable } = this.extent;
    const grain = Math.floor(offset / grainSize);
    if (!this.#empty) throw new ImageError('vmdk/stream-finished', {}, { file: this.storage.name });
    if (grain <= this.#lastGrain) {
      const detail = { guest: offset, last: this.#lastGrain * grainSize };
      throw new ImageError('vmdk/stream-order', detail, { file: this.storage.name });
    }
    const table = Math.floor(grain / entriesPerTable);
    const current = Math.floor(this.#lastGrain / entriesPerTable);
    if (this.#lastGrain >= 0 && table !== current) {
      this.#next += this.#writeTable(current, this.#next);
      this.#table.fill(0);
    }
    const reserved = this.packedAt(grain, this.#next, stored, () => {});
    this.#table[grain - table * entriesPerTable] = this.#next / sectorSize;
    this.#next += reserved.bytes.length;
    this.#lastGrain = grain;
    this.#changed = true;
    return reserved;
  }

  /** Writes the current table and its marker at `at`; how many bytes that took. */
  #writeTable(table: number, at: HostOffset): number {
    const entries = littleEndian(this.#table);
    const bytes = Buffer.concat([markerSector(markerType.grainTable, entries.length / sectorSize), entries]);
    this.storage.writeAt(bytes, at);
    this.extent.directory.entries[table] = at / sectorSize + 1;
    return bytes.length;
  }

  /** Until the stream is ended its last grains are known here only. */
  override zero(offset: number, length: number, keepSpace: boolean, below: boolean): number {
    return this.#isOpen(offset) ? 0 : super.zero(offset, length, keepSpace, below);
  }

  override release(offset: number, length: number): number {
    return this.#isOpen(offset) ? 0 : super.release(offset, length);
  }

  #isOpen(offset: number): boolean {
    return this.#changed && offset < (this.#lastGrain + 1) * this.extent.grainSize;
  }

  settle(durable: boolean): void {
    if (!this.#changed) return;
    // Grains that follow later overwrite what is written here: `next` stays where it is.
    const { directory, entriesPerTable, tables } = this.extent;
    let at = this.#next;
    at += this.#writeTable(Math.floor(this.#lastGrain / entriesPerTable), at);
    if (at + streamTrailerLength(directory.entries.length) > sparseFileLimit) {
      throw new ImageError('vmdk/full', {}, { file: this.storage.name, offset: at });
    }
    const trailer = streamTrailer(this.#header, directory.entries, at);
    this.storage.writeAt(trailer, at);
    this.storage.truncate(at + trailer.length);
    tables.forget();
    this.extent.moveDirectory(at + sectorSize);
    if (durable) this.storage.flush();
    this.#changed = false;
  }
}

/** A stream with its tables in front, as qemu-img makes it: grains are added behind, wherever they belong on the disk. */
export class FrontedStreamWriter extends StreamWriter {
  readonly #tables: TableWriter;

  /** Throws `vmdk/directory-outside`. */
  constructor(extent: SparseExtent) {
    super(extent);
    this.#tables = new TableWriter(extent, sectorSize);
  }

  reservePacked(offset: number, stored: Uint8Array): { place: ExtentPlace; bytes: Uint8Array } {
    const { grainSize } = this.extent;
    const grain = Math.floor(offset / grainSize);
    if (this.extent.isPlace(this.extent.entryOf(grain))) {
      throw new ImageError('vmdk/stream-finished', {}, { file: this.storage.name });
    }
    const host = this.#tables.allocate(this.lengthOf(stored));
    return this.packedAt(grain, host, stored, () => this.#tables.set(grain, host / sectorSize));
  }

  settle(durable: boolean): void {
    this.#tables.settle(durable);
  }
}

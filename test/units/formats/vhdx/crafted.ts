// Images with something crafted into them: entries of the log, headers, tables, with their checksums put right.
import { MemoryStorage } from '../../../../core/block/memory.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import type { BlockNode } from '../../../../core/block/node.ts';
import { MiB } from '../../../../core/block/units.ts';
import { crc32cWithHole } from '../../../../core/bytes/checksum.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OpenGate, OptionValue } from '../../../../core/formats/driver.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { serialiseHeader } from '../../../../core/formats/vhdx/header.ts';
import { descriptorArea } from '../../../../core/formats/vhdx/log.ts';
import {
  dataDescriptor,
  dataSector,
  header,
  headerLength,
  headerOffsets,
  logEntryHeader,
  logSectorLength,
  regionTableLength,
  regionTableOffsets,
  zeroDescriptor,
  type Header,
} from '../../../../core/formats/vhdx/spec.ts';
import { positionCoded } from '../../../position-coded.ts';
import { createIn } from '../new-image.ts';

export const logGuid = '12345678-1234-4234-8234-123456789abc';

export const noGate: OpenGate = {
  openImage: () => {
    throw new Error('no parent is expected');
  },
  openFile: () => {
    throw new Error('no file is expected');
  },
};

export function openBytes(bytes: Uint8Array, writable = false): BlockNode {
  return openStorage(new MemoryStorage(bytes, 'crafted.vhdx'), writable);
}

export function openStorage(storage: Storage, writable = true): BlockNode {
  return vhdx.open(storage, {
    writable,
    gate: noGate,
    withBacking: true,
    runtime: {},
    forRepair: false,
  });
}

/** A disk of 8 MiB with blocks of 1 MiB, of which blocks 0 and 2 hold the pattern: BAT at 2 MiB, metadata at 3, blocks from 4 on. */
export function smallImage(options: Readonly<Record<string, OptionValue>> = {}): Uint8Array {
  const storage = new MemoryStorage();
  createIn(vhdx, storage, 'crafted.vhdx', { size: 8 * MiB, options: { block_size: MiB, ...options } });
  const node = vhdx.open(storage, { writable: true, gate: noGate, withBacking: true, runtime: {}, forRepair: false });
  if (!isWritable(node)) throw new Error('not writable');
  writeGuest(node, positionCoded(0, MiB, 1), 0);
  writeGuest(node, positionCoded(2 * MiB, MiB, 1), 2 * MiB);
  node.flush();
  node.close();
  return storage.bytes();
}

export const batOffset = 2 * MiB;
export const metadataOffset = 3 * MiB;

/** Both headers say `changes` and are valid, the second one current. */
export function setHeaders(image: Uint8Array, changes: Partial<Header>): void {
  headerOffsets.forEach((offset, slot) => {
    const values = { ...header.parseLoosely(image.subarray(offset)), ...changes };
    const SequenceNumber = changes.SequenceNumber ?? values.SequenceNumber;
    const bytes = serialiseHeader({ ...values, SequenceNumber: slot === 0 ? SequenceNumber : SequenceNumber + 1n });
    image.set(bytes, offset);
  });
}

/** Puts the checksums of headers and region tables right. */
export function seal(image: Uint8Array): void {
  for (const [offset, length] of [
    ...headerOffsets.map((at) => [at, headerLength] as const),
    ...regionTableOffsets.map((at) => [at, regionTableLength] as const),
  ]) {
    const piece = image.subarray(offset, offset + length);
    new DataView(piece.buffer, piece.byteOffset).setUint32(4, crc32cWithHole(piece, 4), true);
  }
}

export type Change =
  | { readonly kind: 'data'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number };

export interface Entry {
  readonly at: number;
  readonly sequence: bigint;
  readonly changes: readonly Change[];
  readonly tail?: number;
  readonly guid?: string;
  readonly flushed?: number;
  readonly last?: number;
  /** Fields of the entry's header to spoil before its checksum is made. */
  readonly spoil?: Readonly<Record<string, number | bigint>>;
}

/** The bytes of an entry of the log. */
export function entryBytes(image: Uint8Array, entry: Entry): Uint8Array {
  const { changes, sequence } = entry;
  const data = changes.filter((change) => change.kind === 'data');
  const area = descriptorArea(changes.length);
  const bytes = new Uint8Array(area + data.length * logSectorLength);
  logEntryHeader.patch(bytes, {
    Signature: 'loge',
    EntryLength: bytes.length,
    Tail: entry.tail ?? entry.at,
    SequenceNumber: sequence,
    DescriptorCount: changes.length,
    LogGuid: entry.guid ?? logGuid,
    FlushedFileOffset: entry.flushed ?? image.length,
    LastFileOffset: entry.last ?? image.length,
    ...entry.spoil,
  });
  let sector = area;
  changes.forEach((change, index) => {
    const descriptor = bytes.subarray(logEntryHeader.size + index * 32);
    if (change.kind === 'zero') {
      zeroDescriptor.patch(descriptor, {
        ZeroSignature: 'zero',
        ZeroLength: change.length,
        FileOffset: change.offset,
        SequenceNumber: sequence,
      });
      return;
    }
    dataDescriptor.patch(descriptor, {
      DataSignature: 'desc',
      TrailingBytes: change.bytes.subarray(4092),
      LeadingBytes: change.bytes.subarray(0, 8),
      FileOffset: change.offset,
      SequenceNumber: sequence,
    });
    dataSector.patch(bytes.subarray(sector), {
      DataSignature: 'data',
      SequenceHigh: Number(sequence >> 32n),
      Data: change.bytes.subarray(8, 4092),
      SequenceLow: Number(sequence & 0xffffffffn),
    });
    sector += logSectorLength;
  });
  const view = new DataView(bytes.buffer);
  view.setUint32(4, crc32cWithHole(bytes, 4), true);
  return bytes;
}

/** Puts entries into the log (1 MiB at 1 MiB, around its end if they reach it) and makes the headers name it. */
export function putLog(image: Uint8Array, entries: readonly Entry[]): void {
  for (const entry of entries) {
    entryBytes(image, entry).forEach((byte, index) => {
      image[MiB + ((entry.at + index) % MiB)] = byte;
    });
  }
  setHeaders(image, { LogGuid: logGuid });
}

/** The first sector of the BAT with some entries changed: block → state and place. */
export function batSector(
  image: Uint8Array,
  changes: Readonly<Record<number, readonly [state: number, place: number]>>,
): Uint8Array {
  const sector = image.slice(batOffset, batOffset + logSectorLength);
  const view = new DataView(sector.buffer);
  for (const [block, [state, place]] of Object.entries(changes)) {
    const at = Number(block) * 8;
    view.setUint32(at, ((place / MiB) % 4096) * MiB + state, true);
    view.setUint32(at + 4, Math.floor(place / MiB / 4096), true);
  }
  return sector;
}

// File records of NTFS: fetched through the runs of the master file table, put right (fixups), and taken apart into attributes.
import { KiB, MiB } from '../block/units.ts';
import { attributeHead, attributeType, fileRecord, listEntry, nonResidentPart, residentPart } from './ntfs-spec.ts';
import { damaged, type Volume } from './volume.ts';

/** Sizes in bytes. */
export interface NtfsLayout {
  readonly clusterSize: number;
  readonly clusters: number;
  readonly mftOffset: number;
  readonly recordSize: number;
}

/** Clusters of a value that lie one behind the other. */
export interface ClusterRun {
  readonly vcn: number;
  readonly lcn: number;
  readonly length: number;
}

/** A value: its bytes, or where they are. */
export type AttributeValue =
  | { readonly kind: 'resident'; readonly bytes: Uint8Array }
  | { readonly kind: 'runs'; readonly runs: readonly ClusterRun[]; readonly size: number; readonly written: number };

/** Runs that one value may have. */
const mostRuns = 1024 * 1024;
const largestList = 256 * KiB;
const fixupStride = 512;

/** Undoes the update sequence (multi sector transfer protection) in place. False: the sectors do not belong together. */
export function applyFixups(bytes: Uint8Array, at: number, count: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (count < 1 || at % 2 !== 0 || at + count * 2 > bytes.length || (count - 1) * fixupStride > bytes.length)
    return false;
  const stamp = view.getUint16(at, true);
  for (let sector = 1; sector < count; sector++) {
    const end = sector * fixupStride - 2;
    if (view.getUint16(end, true) !== stamp) return false;
    view.setUint16(end, view.getUint16(at + sector * 2, true), true);
  }
  return true;
}

/** The files of a volume, by number. */
export class FileRecords {
  readonly volume: Volume;
  readonly layout: NtfsLayout;
  /** Of the master file table; at first as much as is needed to read its own record. */
  #mft: readonly ClusterRun[];

  /** Throws `guest/damaged`. */
  constructor(volume: Volume, layout: NtfsLayout) {
    this.volume = volume;
    this.layout = layout;
    const { clusterSize, mftOffset, recordSize } = layout;
    const lcn = mftOffset / clusterSize;
    this.#mft = [{ vcn: 0, lcn, length: Math.ceil(recordSize / clusterSize) }];
    const own = this.#valueIn(this.record(0), attributeType.data, '');
    if (own?.kind !== 'runs') throw damaged('the master file table has no clusters', volume.start + mftOffset);
    this.#mft = own.runs;
  }

  /** Record `number`, in use and put right. Throws `guest/damaged`. */
  record(number: number): Uint8Array {
    const { recordSize } = this.layout;
    const bytes = new Uint8Array(recordSize);
    this.readRuns(this.#mft, bytes, number * recordSize, `file record ${number}`);
    const head = fileRecord.parseLoosely(bytes);
    const where = this.volume.start;
    const whole = head.magic === 'FILE' && head.usa_count === recordSize / fixupStride + 1;
    if (!whole || !applyFixups(bytes, head.usa_ofs, head.usa_count)) {
      throw damaged(`file record ${number} is not whole`, where);
    }
    if ((head.flags & 1) === 0) throw damaged(`file record ${number} is not in use`, where);
    return bytes;
  }

  /** The value of an attribute of file `number`; null: it has none. Attribute lists are followed. Throws `guest/damaged`. */
  value(number: number, type: number, name: string): AttributeValue | null {
    const base = this.record(number);
    const list = this.#valueIn(base, attributeType.list, '');
    if (list === null) return this.#valueIn(base, type, name);
    return this.#valueFromList(number, this.wholeValue(list, largestList, 'an attribute list'), type, name);
  }

  /** The bytes of a value of at most `most` bytes. Throws `guest/damaged`. */
  wholeValue(value: AttributeValue, most: number, what: string): Uint8Array {
    if (value.kind === 'resident') return value.bytes;
    if (value.size > most) throw damaged(`${what} has ${value.size} bytes`, this.volume.start);
    const bytes = new Uint8Array(value.size);
    this.readRuns(value.runs, bytes.subarray(0, Math.min(value.size, value.written)), 0, what);
    return bytes;
  }

  /** Fills `into` from byte `offset` of a value. Throws `guest/damaged` where no run has it. */
  readRuns(runs: readonly ClusterRun[], into: Uint8Array, offset: number, what: string): void {
    const { clusterSize } = this.layout;
    let done = 0;
    while (done < into.length) {
      const at = offset + done;
      const run = runAt(runs, Math.floor(at / clusterSize));
      if (run === null) throw damaged(`${what} has no clusters at byte ${at}`, this.volume.start);
      const within = at - run.vcn * clusterSize;
      const length = Math.min(into.length - done, run.length * clusterSize - within);
      this.volume.readInto(into.subarray(done, done + length), run.lcn * clusterSize + within, what);
      done += length;
    }
  }

  #valueFromList(base: number, list: Uint8Array, type: number, name: string): AttributeValue | null {
    const runs: ClusterRun[] = [];
    let first: AttributeValue | null = null;
    for (let at = 0; at + listEntry.size <= list.length;) {
      const entry = listEntry.parseLoosely(list.subarray(at));
      if (entry.length < listEntry.size || at + entry.length > list.length) {
        throw damaged(`the attribute list of file ${base} makes no sense`, this.volume.start);
      }
      const number = entry.mft_reference_low + entry.mft_reference_high * 0x1_0000_0000;
      if (entry.type === type && nameIn(list, at + entry.name_offset, entry.name_length) === name) {
        const part = this.#valueIn(this.record(number), type, name, entry.lowest_vcn);
        if (part === null) throw damaged(`file record ${number} lacks a part of file ${base}`, this.volume.start);
        first ??= part;
        if (part.kind === 'runs') for (const run of part.runs) runs.push(run);
        if (runs.length > mostRuns) throw damaged(`file ${base} is in too many pieces`, this.volume.start);
      }
      at += entry.length;
    }
    return first?.kind === 'runs' ? { ...first, runs } : first;
  }

  /** The attribute in one record whose runs begin at `lowest`. */
  #valueIn(record: Uint8Array, type: number, name: string, lowest = 0): AttributeValue | null {
    const head = fileRecord.parseLoosely(record);
    const end = Math.min(head.bytes_in_use, record.length);
    for (let at = head.attrs_offset; at + 4 <= end;) {
      const view = new DataView(record.buffer, record.byteOffset + at);
      if (view.getUint32(0, true) === attributeType.end) return null;
      if (at + attributeHead.size > end) break;
      const attribute = attributeHead.parseLoosely(record.subarray(at));
      if (attribute.length < residentPart.size || at + attribute.length > end) break;
      const bytes = record.subarray(at, at + attribute.length);
      if (attribute.type === type && nameIn(bytes, attribute.name_offset, attribute.name_length) === name) {
        if (attribute.non_resident === 0) return residentValue(bytes, this.volume);
        const value = this.#runsValue(bytes);
        if (value.first === lowest) return value.value;
      }
      at += attribute.length;
    }
    return null;
  }

  #runsValue(bytes: Uint8Array): { first: number; value: AttributeValue } {
    if (bytes.length < nonResidentPart.size) throw damaged('an attribute is too short', this.volume.start);
    const part = nonResidentPart.parseLoosely(bytes);
    const runs = this.#runs(bytes.subarray(part.mapping_pairs_offset), part.lowest_vcn);
    // Only the first part of a value says how long it is.
    return {
      first: part.lowest_vcn,
      value: { kind: 'runs', runs, size: part.data_size, written: part.initialized_size },
    };
  }

  /** The mapping pairs: each run's length, and the step to its first cluster from that of the run before. Holes are left out. */
  #runs(pairs: Uint8Array, lowest: number): ClusterRun[] {
    const runs: ClusterRun[] = [];
    let vcn = lowest;
    let lcn = 0;
    for (let at = 0; at < pairs.length;) {
      const head = pairs[at] ?? 0;
      if (head === 0) return runs;
      const lengthBytes = head & 0xf;
      const stepBytes = head >> 4;
      const next = at + 1 + lengthBytes + stepBytes;
      if (lengthBytes === 0 || lengthBytes > 6 || stepBytes > 6 || next > pairs.length) break;
      const length = signed(pairs, at + 1, lengthBytes);
      if (length <= 0) break;
      if (stepBytes > 0) {
        lcn += signed(pairs, at + 1 + lengthBytes, stepBytes);
        if (lcn < 0 || lcn + length > this.layout.clusters) break;
        runs.push({ vcn, lcn, length });
      }
      vcn += length;
      at = next;
    }
    throw damaged('the runs of a file make no sense', this.volume.start);
  }
}

function residentValue(bytes: Uint8Array, volume: Volume): AttributeValue {
  const { value_offset: from, value_length: length } = residentPart.parseLoosely(bytes);
  if (from + length > bytes.length) throw damaged('an attribute is longer than its record', volume.start);
  return { kind: 'resident', bytes: bytes.slice(from, from + length) };
}

function runAt(runs: readonly ClusterRun[], vcn: number): ClusterRun | null {
  let low = 0;
  let high = runs.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((runs[middle]?.vcn ?? 0) <= vcn) low = middle;
    else high = middle - 1;
  }
  const run = runs[low];
  return run !== undefined && run.vcn <= vcn && vcn < run.vcn + run.length ? run : null;
}

/** A little-endian number of `width` bytes with a sign. */
function signed(bytes: Uint8Array, at: number, width: number): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readIntLE(at, width);
}

/** A name in UTF-16. */
export function nameIn(bytes: Uint8Array, at: number, characters: number): string {
  return Buffer.from(bytes.subarray(at, at + characters * 2)).toString('utf16le');
}

/** Bytes of the root directory's index that are looked through at most. */
export const largestIndex = 8 * MiB;

// A read-only file with its log replayed in memory: changed sectors are answered from the log, everything else from the file.
import type { Provision, Storage, StorageExtent } from '../../block/storage.ts';
import { alignDown } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { changesOf, LogArea, lengthAfter, readChange, type LogChange, type LogSequence } from './log.ts';
import { logSectorLength, type Header } from './spec.ts';

/** Changes that are held at most; a log of 1 MiB has some 250. */
const maxDataChanges = 262_144;
const maxZeroChanges = 16_384;

type DataChange = Extract<LogChange, { kind: 'data' }>;
interface Stretch {
  readonly start: number;
  readonly end: number;
}

/**
 * The file as the replayed log makes it. Sectors are fetched from the log when they are read. Throws `vhdx/log-outside`,
 * `vhdx/log-too-full`.
 */
export class ReplayedStorage implements Storage {
  readonly base: Storage;
  readonly name: string;
  readonly writable = false;
  readonly descriptor = null;
  readonly identity: string | null;
  readonly size: number;
  readonly #sectors = new Map<number, DataChange>();
  /** Starts of the changed sectors in order. */
  readonly #starts: Float64Array;
  readonly #zeroes: readonly Stretch[];

  constructor(base: Storage, header: Header, sequence: LogSequence) {
    this.base = base;
    this.name = base.name;
    this.identity = base.identity;
    this.size = lengthAfter(base, sequence);
    const log = new LogArea(base, header);
    const zeroes: Stretch[] = [];
    // From the newest entry back: what a later change says, an earlier one does not change any more.
    for (const entry of [...sequence.entries].reverse()) {
      const { DescriptorCount } = entry.header;
      if (DescriptorCount > maxDataChanges) this.#tooFull(DescriptorCount);
      for (const change of [...changesOf(log, entry, this.size)].reverse()) {
        if (change.kind === 'zero') {
          if (change.length > 0) addStretch(zeroes, { start: change.offset, end: change.offset + change.length });
        } else if (!this.#sectors.has(change.offset) && stretchAt(zeroes, change.offset) === null) {
          this.#sectors.set(change.offset, change);
        }
      }
      if (this.#sectors.size > maxDataChanges) this.#tooFull(this.#sectors.size);
      if (zeroes.length > maxZeroChanges) this.#tooFull(zeroes.length);
    }
    this.#zeroes = zeroes;
    this.#starts = Float64Array.from(this.#sectors.keys()).sort();
  }

  /** True when the log changes some of these bytes, or the file does not have them yet. */
  changes(offset: number, length: number): boolean {
    if (offset + length > this.base.size) return true;
    if (this.#zeroes.some((stretch) => stretch.start < offset + length && stretch.end > offset)) return true;
    const first = lowerBound(this.#starts, alignDown(offset, logSectorLength));
    const start = this.#starts[first];
    return start !== undefined && start < offset + length;
  }

  readAt(into: Uint8Array, offset: number): void {
    const end = offset + into.length;
    if (end > this.size) {
      const detail = { found: Math.max(0, this.size - offset), length: into.length, size: this.size };
      throw new ImageError('storage/short-read', detail, { file: this.name, offset });
    }
    const inBase = Math.max(0, Math.min(into.length, this.base.size - offset));
    this.base.readAt(into.subarray(0, inBase), offset);
    into.fill(0, inBase);
    for (const stretch of this.#zeroes) {
      const from = Math.max(stretch.start, offset);
      const to = Math.min(stretch.end, end);
      if (from < to) into.fill(0, from - offset, to - offset);
    }
    const sector = new Uint8Array(logSectorLength);
    for (let index = lowerBound(this.#starts, alignDown(offset, logSectorLength)); ; index++) {
      const start = this.#starts[index];
      const change = start === undefined ? undefined : this.#sectors.get(start);
      if (start === undefined || start >= end || change === undefined) break;
      readChange(this.base, change, sector);
      const from = Math.max(start, offset);
      const to = Math.min(start + logSectorLength, end);
      into.set(sector.subarray(from - start, to - start), from - offset);
    }
  }

  extentAt(offset: number, limit: number): StorageExtent {
    return { kind: 'data', length: Math.min(limit, this.size - offset) };
  }

  allocated(): number {
    return this.base.allocated();
  }

  close(): void {
    this.base.close();
  }

  writeAt(_from: Uint8Array, offset: number): void {
    this.#refuse(offset);
  }

  truncate(size: number): void {
    this.#refuse(size);
  }

  flush(): void {
    this.#refuse(0);
  }

  zeroAt(offset: number, _length: number): void {
    this.#refuse(offset);
  }

  provide(offset: number, _length: number, _how: Provision): void {
    this.#refuse(offset);
  }

  #tooFull(found: number): never {
    throw new ImageError('vhdx/log-too-full', { found, allowed: maxDataChanges }, { file: this.name });
  }

  #refuse(offset: number): never {
    throw new ImageError('storage/read-only', {}, { file: this.name, offset });
  }
}

/** Adds a stretch to a list in order without overlaps. */
function addStretch(list: Stretch[], added: Stretch): void {
  let from = 0;
  let high = list.length;
  while (from < high) {
    const middle = (from + high) >>> 1;
    if ((list[middle]?.end ?? 0) < added.start) from = middle + 1;
    else high = middle;
  }
  let to = from;
  let { start, end } = added;
  for (let stretch = list[to]; stretch !== undefined && stretch.start <= end; stretch = list[++to]) {
    start = Math.min(start, stretch.start);
    end = Math.max(end, stretch.end);
  }
  list.splice(from, to - from, { start, end });
}

function stretchAt(list: readonly Stretch[], offset: number): Stretch | null {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle]?.end ?? 0) <= offset) low = middle + 1;
    else high = middle;
  }
  const stretch = list[low];
  return stretch !== undefined && stretch.start <= offset ? stretch : null;
}

function lowerBound(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

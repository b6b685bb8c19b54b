// What of an image need not be stored: its units looked through one by one, and given up as they are found if that is asked.
import { isZero } from '../block/copy/zeroes.ts';
import type { BlockNode, Mapping, WritableNode } from '../block/node.ts';
import { readRun, resolve } from '../block/read.ts';
import { alignDown, MiB, type GuestOffset, type GuestRange } from '../block/units.ts';
import type { CompactDriver, CompactPlan } from '../formats/compact-driver.ts';
import type { UnusedSpace } from '../guest/unused-space.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';

/** What was found. Bytes of the guest's disk that the image stores in vain. */
export interface ScanResult {
  /** Units that hold zeroes only. */
  readonly zeroUnits: number;
  /** Units that hold what the guest does not use, and zeroes. */
  readonly unusedUnits: number;
  /** Zeroes in units that stay, where they can become holes. */
  readonly zeroHoles: number;
  /** What the guest does not use in units that stay, where it can become holes. */
  readonly unusedHoles: number;
  /** Bytes that the image stores in all. */
  readonly stored: number;
  /** Some of it is stored packed. */
  readonly packed: boolean;
}

/** `node` null: only look. */
export interface ScanRequest {
  readonly node: BlockNode;
  readonly change: WritableNode | null;
  readonly plan: CompactPlan;
  readonly driver: CompactDriver;
  /** Null: every byte counts as used. */
  readonly unused: UnusedSpace | null;
}

type Kind = 'zero' | 'unused' | 'data';

interface Span {
  readonly start: GuestOffset;
  length: number;
  readonly kind: Kind;
  readonly run: DataRun | null;
}
type DataRun = Extract<Mapping, { kind: 'data' }> & { readonly start: GuestOffset };

const pieceLength = MiB;

/**
 * Looks through the units of the image itself, not those of layers below. Throws what reading and the format's changes throw,
 * `request/cancelled`.
 */
export async function scan(request: ScanRequest, job: Job): Promise<ScanResult> {
  const { node, plan } = request;
  const breathe = breather();
  const state = new UnitScan(request);
  let reported = 0;
  for (let start = 0; start < node.size;) {
    if (start - reported >= MiB || start === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'look', done: start, total: node.size });
      reported = start;
      await breathe();
    }
    const free = emptyUnits(node, plan, start);
    if (free > 0) {
      start += free;
      continue;
    }
    const length = Math.min(plan.unit, node.size - start);
    state.unit({ start, length });
    start += length;
  }
  job.progress({ phase: 'look', done: node.size, total: node.size });
  return state.found;
}

/** Bytes from `start` on, in whole units, of which the image stores nothing. */
function emptyUnits(node: BlockNode, { unit, way }: CompactPlan, start: GuestOffset): number {
  const mapping = node.map({ start, length: node.size - start });
  if (mapping.kind === 'unreadable') throw mapping.error;
  if (mapping.kind === 'data' || mapping.kind === 'packed') return 0;
  // Zeroes with room set aside for them.
  if (mapping.kind === 'zero' && mapping.reserved !== undefined && way !== 'holes') return 0;
  const end = start + mapping.length;
  return (end >= node.size ? node.size : alignDown(end, unit)) - start;
}

class UnitScan {
  readonly found = { zeroUnits: 0, unusedUnits: 0, zeroHoles: 0, unusedHoles: 0, stored: 0, packed: false };
  readonly #request: ScanRequest;
  readonly #piece = Buffer.alloc(pieceLength);

  constructor(request: ScanRequest) {
    this.#request = request;
  }

  unit(unit: GuestRange): void {
    const spans: Span[] = [];
    let stored = 0;
    const end = unit.start + unit.length;
    for (let start = unit.start; start < end;) {
      const mapping = this.#request.node.map({ start, length: end - start });
      if (mapping.kind === 'unreadable') throw mapping.error;
      if (mapping.kind === 'data') {
        this.#look(start, mapping, spans);
        stored += mapping.length;
      } else if (mapping.kind === 'packed') {
        this.found.packed = true;
        this.#look(start, mapping, spans);
        stored += mapping.length;
      } else if (mapping.kind === 'zero' && mapping.reserved !== undefined && mapping.hole !== true) {
        stored += mapping.length;
      }
      start += mapping.length;
    }
    if (stored === 0) return;
    this.found.stored += stored;
    const hasData = spans.some(({ kind }) => kind === 'data');
    if (!hasData && this.#give(unit)) {
      if (spans.some(({ kind }) => kind === 'unused')) this.found.unusedUnits += stored;
      else this.found.zeroUnits += stored;
    } else if (this.#request.plan.hole > 0) {
      for (const span of spans) this.#makeHole(span);
    }
  }

  #give(unit: GuestRange): boolean {
    const { node, change, plan, driver } = this.#request;
    if (plan.way === 'holes') return false;
    const below = showsBelow(node, unit);
    return driver.give?.(node, unit, { below, dry: change === null }) === true;
  }

  /** The spans of one stored run: what is not used is not read. */
  #look(start: GuestOffset, mapping: Exclude<Mapping, { kind: 'zero' | 'below' | 'unreadable' }>, spans: Span[]): void {
    const { node, unused } = this.#request;
    const run = mapping.kind === 'data' ? { ...mapping, start } : null;
    for (let done = 0; done < mapping.length;) {
      const at = start + done;
      const most = Math.min(pieceLength, mapping.length - done);
      const use = unused?.at(at, most) ?? { unused: false, length: most };
      if (use.unused) {
        append(spans, { start: at, length: use.length, kind: 'unused', run });
        done += use.length;
        continue;
      }
      const hole = run === null ? 0 : holeAt(run, at, use.length);
      if (hole > 0) {
        append(spans, { start: at, length: hole, kind: 'zero', run: null });
        done += hole;
        continue;
      }
      const part = mapping.kind === 'packed' ? { ...mapping, skip: mapping.skip + done } : shifted(mapping, done);
      const bytes = this.#piece.subarray(0, use.length);
      readRun({ start: at, length: use.length, depth: 0, node, mapping: part }, bytes);
      this.#classify(at, bytes, run, spans);
      done += use.length;
    }
  }

  #classify(start: GuestOffset, bytes: Buffer, run: DataRun | null, spans: Span[]): void {
    const granule = this.#request.plan.hole === 0 ? pieceLength : this.#request.plan.hole;
    for (let done = 0; done < bytes.length;) {
      const length = Math.min(bytes.length - done, granule - ((start + done) % granule));
      const kind = isZero(bytes, done, length) ? 'zero' : 'data';
      append(spans, { start: start + done, length, kind, run });
      done += length;
    }
  }

  /** A hole in the place of what is zero or not used. Encrypted bytes that are zero are not zero for the guest. */
  #makeHole({ start, length, kind, run }: Span): void {
    const { change, plan } = this.#request;
    if (kind === 'data' || run === null || run.cipher !== undefined) return;
    const from = Math.ceil(start / plan.hole) * plan.hole;
    const isLast = start + length === this.#request.node.size;
    const end = isLast ? start + length : alignDown(start + length, plan.hole);
    for (let at = from; at < end;) {
      const offset = run.offset + (at - run.start);
      const extent = run.storage.extentAt(offset, end - at);
      const part = Math.min(extent.length, end - at);
      if (part <= 0) return;
      if (extent.kind === 'data') {
        if (kind === 'zero') this.found.zeroHoles += part;
        else this.found.unusedHoles += part;
        if (change !== null) run.storage.zeroAt(offset, part);
      }
      at += part;
    }
  }
}

/** Bytes from `at` on that the host keeps as a hole of the file. */
function holeAt(run: DataRun, at: GuestOffset, limit: number): number {
  if (run.cipher !== undefined) return 0;
  const offset = run.offset + (at - run.start);
  if (offset >= run.storage.size) return 0;
  const extent = run.storage.extentAt(offset, limit);
  return extent.kind === 'hole' ? Math.min(extent.length, limit) : 0;
}

function shifted(mapping: Extract<Mapping, { kind: 'data' }>, by: number): Extract<Mapping, { kind: 'data' }> {
  return { ...mapping, offset: mapping.offset + by, length: mapping.length - by };
}

/** Adds a span; neighbours of one kind and run become one. */
function append(spans: Span[], span: Span): void {
  const last = spans.at(-1);
  const continues = last !== undefined && last.kind === span.kind && last.start + last.length === span.start;
  if (continues && last.run?.offset === span.run?.offset && last.run?.storage === span.run?.storage) {
    last.length += span.length;
  } else {
    spans.push(span);
  }
}

/** Without this unit the layer below would show something that is not known to be zero. */
function showsBelow({ backing }: BlockNode, unit: GuestRange): boolean {
  if (backing === null || unit.start >= backing.size) return false;
  const length = Math.min(unit.length, backing.size - unit.start);
  for (const { mapping } of resolve(backing, { start: unit.start, length })) {
    if (mapping.kind !== 'zero') return true;
  }
  return false;
}

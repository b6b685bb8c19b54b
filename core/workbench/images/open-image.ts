// An image that a window looks into: its bytes, what they mean, where the guest's disk lies, and what is found in it.
import type { Annotation } from '../../bytes/struct.ts';
import type { BlockNode } from '../../block/node.ts';
import { readGuest, resolveOne } from '../../block/read.ts';
import type { Storage } from '../../block/storage.ts';
import { KiB, MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, Region } from '../../formats/driver.ts';
import { openImage, type OpenOptions } from '../../formats/open.ts';
import type { ComparedStep, RegionFacts, Searched } from '../contract.ts';

/** Milliseconds that a search or comparison takes before it hands back where it is. */
const stepTime = 200;
const piece = MiB;
/** Bytes of a region that are annotated around the window at most. */
const annotatedBytes = 64 * KiB;

/** One image, open for reading. Offsets and lengths in bytes; `view` is `guest` or the role of a file. Throws what reading throws. */
export class OpenImage {
  readonly node: BlockNode;
  readonly driver: FormatDriver;
  #other: { readonly key: string; readonly node: BlockNode } | null = null;

  constructor(path: string, options: OpenOptions) {
    ({ node: this.node, driver: this.driver } = openImage(path, { ...options, share: true }));
  }

  /** Layers that it reads through, itself included. */
  get depth(): number {
    let depth = 1;
    for (let below = this.node.backing; below !== null; below = below.backing) depth++;
    return depth;
  }

  close(): void {
    this.#other?.node.close();
    this.node.close();
  }

  /** The bytes from `start`, as many as there are. */
  bytes(view: string, start: number, length: number): Uint8Array {
    const size = this.#sizeOf(view);
    const into = new Uint8Array(Math.max(0, Math.min(length, size - start)));
    if (into.length > 0) this.#read(view, into, start);
    return into;
  }

  /** The regions of a file from the one that holds `from`, at most `limit`. */
  regions(role: string, from: number, limit: number): RegionFacts[] {
    const found: RegionFacts[] = [];
    for (const { start, length, label, kind } of this.driver.regions(this.node, this.#fileOf(role).role)) {
      if (start + length <= from) continue;
      found.push({ start, length, label, kind });
      if (found.length === limit) break;
    }
    return found;
  }

  /** What the fields mean that lie in a stretch of a file. */
  annotations(role: string, start: number, length: number): Annotation[] {
    const end = start + length;
    const found: Annotation[] = [];
    for (const region of this.driver.regions(this.node, this.#fileOf(role).role)) {
      if (region.start >= end) break;
      if (region.start + region.length <= start) continue;
      found.push(...annotate(region, start, end));
    }
    return found;
  }

  /** The next place from `from` where `pattern` stands; stops after a while and says where to go on. */
  find(view: string, from: number, pattern: Uint8Array): Searched {
    const size = this.#sizeOf(view);
    const until = performance.now() + stepTime;
    const overlap = pattern.length - 1;
    const buffer = new Uint8Array(piece + overlap);
    let at = from;
    while (at + pattern.length <= size) {
      const skipped = view === 'guest' && pattern.some((byte) => byte !== 0) ? this.#zeroesFrom(at) : 0;
      if (skipped > overlap) {
        at += skipped - overlap;
      } else {
        const part = buffer.subarray(0, Math.min(buffer.length, size - at));
        this.#read(view, part, at);
        const found = Buffer.from(part.buffer, part.byteOffset, part.length).indexOf(pattern);
        if (found >= 0) return { found: at + found, next: at + found + 1 };
        at += Math.max(1, part.length - overlap);
      }
      if (performance.now() > until) return { found: null, next: at };
    }
    return { found: null, next: null };
  }

  /** Stretches from `from` in which another disk differs, in steps of 512 bytes; `key` tells whether it is open already. */
  compare(other: { readonly key: string; open(): BlockNode }, from: number, limit: number): ComparedStep {
    if (this.#other?.key !== other.key) {
      this.#other?.node.close();
      this.#other = null;
      this.#other = { key: other.key, node: other.open() };
    }
    return compareStep(this.node, this.#other.node, from, limit);
  }

  #sizeOf(view: string): number {
    return view === 'guest' ? this.node.size : this.#fileOf(view).storage.size;
  }

  #read(view: string, into: Uint8Array, start: number): void {
    if (view === 'guest') readGuest(this.node, into, start);
    else this.#fileOf(view).storage.readAt(into, start);
  }

  #fileOf(role: string): { role: string; storage: Storage } {
    const file = this.node.files.find((one) => one.role === role);
    if (file === undefined) throw new ImageError('session/no-file', { role }, { file: this.node.name });
    return file;
  }

  /** How many bytes from `at` are known to be zero without being read. */
  #zeroesFrom(at: number): number {
    const run = resolveOne(this.node, { start: at, length: this.node.size - at });
    return run.mapping.kind === 'zero' ? run.length : 0;
  }
}

/** A large region is annotated around the window only. */
function annotate(region: Region, start: number, end: number): Annotation[] {
  const from = Math.max(start, region.start);
  const length = Math.min(end, region.start + region.length, from + annotatedBytes) - from;
  return region
    .annotate({ start: from, length })
    .filter((annotation) => annotation.start < end && annotation.start + annotation.length > start);
}

const sector = 512;

function compareStep(one: BlockNode, two: BlockNode, from: number, limit: number): ComparedStep {
  const until = performance.now() + stepTime;
  const size = Math.max(one.size, two.size);
  const differing: { start: number; length: number }[] = [];
  const buffers = [new Uint8Array(piece), new Uint8Array(piece)] as const;
  let at = from;
  while (at < size) {
    const known = Math.min(sameZeroes(one, at, size), sameZeroes(two, at, size));
    if (known > 0) {
      at += known;
    } else {
      const length = Math.min(piece, size - at);
      fill(one, buffers[0].subarray(0, length), at);
      fill(two, buffers[1].subarray(0, length), at);
      collect(buffers[0].subarray(0, length), buffers[1].subarray(0, length), at, differing);
      at += length;
    }
    if (differing.length >= limit || performance.now() > until) break;
  }
  return { differing: differing.slice(0, limit), next: nextOf(differing, limit, at, size) };
}

/** Where to go on: behind the last stretch that is handed over, so that none is lost. */
function nextOf(differing: readonly { start: number }[], limit: number, at: number, size: number): number | null {
  const cut = differing[limit];
  if (cut !== undefined) return cut.start;
  return at < size ? at : null;
}

/** Bytes from `at` that read as zeroes on `node` for certain; beyond its end everything does. */
function sameZeroes(node: BlockNode, at: number, size: number): number {
  if (at >= node.size) return size - at;
  const run = resolveOne(node, { start: at, length: node.size - at });
  return run.mapping.kind === 'zero' ? run.length : 0;
}

function fill(node: BlockNode, into: Uint8Array, at: number): void {
  const inside = Math.max(0, Math.min(into.length, node.size - at));
  if (inside > 0) readGuest(node, into.subarray(0, inside), at);
  into.fill(0, inside);
}

function collect(a: Uint8Array, b: Uint8Array, base: number, into: { start: number; length: number }[]): void {
  if (Buffer.compare(a, b) === 0) return;
  for (let at = 0; at < a.length; at += sector) {
    const end = Math.min(a.length, at + sector);
    if (Buffer.compare(a.subarray(at, end), b.subarray(at, end)) === 0) continue;
    const last = into.at(-1);
    if (last !== undefined && last.start + last.length === base + at) last.length += end - at;
    else into.push({ start: base + at, length: end - at });
  }
}

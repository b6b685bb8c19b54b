// Every way to read a disk's content, each of which must give the same bytes: whole, in awkward ranges, round each boundary of the map.
import fs from 'node:fs';
import type { BlockNode } from '../../core/block/node.ts';
import { readGuest, resolve } from '../../core/block/read.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import { difference } from '../position-coded.ts';
import { type Digest, SparseDigest } from './digest.ts';

/** The content that is right, as a plain file. */
export class Reference {
  readonly size: number;
  readonly #file: number;

  constructor(path: string) {
    this.#file = fs.openSync(path, 'r');
    this.size = fs.fstatSync(this.#file).size;
  }

  read(start: number, length: number): Uint8Array {
    const bytes = Buffer.alloc(length);
    fs.readSync(this.#file, bytes, 0, length, start);
    return bytes;
  }

  close(): void {
    fs.closeSync(this.#file);
  }
}

/** A disk up to this size is read byte by byte; of a larger one, what its map calls zero is taken at its word (and probed). */
const wholeLimit = 1024 * 1024 * 1024;

/** Reads everything in steps of `step` bytes (any number) and digests it. */
export function digestOfNode(node: BlockNode, step: number): Digest {
  const digest = new SparseDigest();
  const into = new Uint8Array(step);
  const read = (start: number, end: number): void => {
    for (let at = start; at < end; at += step) {
      const piece = into.subarray(0, Math.min(step, end - at));
      piece.fill(0xee);
      readGuest(node, piece, at);
      digest.add(piece);
    }
  };
  if (node.size <= wholeLimit) read(0, node.size);
  else {
    for (const run of resolve(node)) {
      if (run.mapping.kind === 'zero') digest.addZeroes(run.length);
      else read(run.start, run.start + run.length);
    }
  }
  return digest.finish();
}

/** Where the kind of the content changes: starts of the runs, and the end of the disk. At most `limit`, spread evenly. */
export function boundaries(node: BlockNode, limit: number): number[] {
  const all = [...resolve(node)].map((run) => run.start);
  all.push(node.size);
  const stride = Math.max(1, all.length / limit);
  const chosen = new Set<number>();
  for (let at = 0; at < all.length; at += stride) chosen.add(all[Math.floor(at)] ?? 0);
  chosen.add(node.size);
  return [...chosen];
}

/** Distances from a boundary to where a read starts, and lengths of reads. */
const before = [0, 1, 7, 511, 512, 513, 4095];
const lengths = [1, 2, 511, 512, 1025, 4096, 70_001];

/** The first read round a boundary of the map that is not what `reference` holds, in words; null: all agree. */
export function wrongAtBoundaries(node: BlockNode, reference: Reference, limit = 60): string | null {
  for (const boundary of boundaries(node, limit)) {
    for (const distance of before) {
      for (const length of lengths) {
        const start = Math.max(0, boundary - distance);
        const count = Math.min(length, node.size - start);
        if (count <= 0) continue;
        const wrong = wrongIn(node, reference, start, count);
        if (wrong !== null) return `reading ${count} bytes at ${start} (boundary ${boundary}): ${wrong}`;
      }
    }
  }
  return null;
}

/** The same for ranges that respect nothing: odd lengths at odd places, all over the disk, the last byte, nothing at all. */
export function wrongInAwkwardRanges(node: BlockNode, reference: Reference): string | null {
  const ranges: [number, number][] = [
    [0, 0],
    [node.size, 0],
    [Math.max(0, node.size - 1), Math.min(1, node.size)],
    [0, Math.min(node.size, 3 * 1024 * 1024 + 1)],
  ];
  const stride = Math.max(1, Math.floor(node.size / 97));
  for (let start = 3; start < node.size; start += stride) ranges.push([start, Math.min(131_071, node.size - start)]);
  for (const [start, length] of ranges) {
    const wrong = wrongIn(node, reference, start, length);
    if (wrong !== null) return `reading ${length} bytes at ${start}: ${wrong}`;
  }
  return null;
}

/** What a read past the end gives in place of the coded refusal; null: it is refused. */
export function wrongPastTheEnd(node: BlockNode): string | null {
  for (const [start, length] of [
    [node.size, 1],
    [Math.max(0, node.size - 1), 2],
    [node.size + 512, 512],
  ] as const) {
    try {
      readGuest(node, new Uint8Array(length), start);
      return `reading ${length} bytes at ${start} of ${node.size} gives an answer`;
    } catch (error) {
      if (!isImageError(error, 'request/out-of-range')) throw error;
    }
  }
  return null;
}

function wrongIn(node: BlockNode, reference: Reference, start: number, length: number): string | null {
  const found = new Uint8Array(length).fill(0xee);
  readGuest(node, found, start);
  return difference(found, reference.read(start, length), start);
}

/** The first fault of the map itself, in words: runs must tile the disk, every answer must be longer than nothing. */
export function wrongInMap(node: BlockNode): string | null {
  let end = 0;
  for (const run of resolve(node)) {
    if (run.start !== end) return `a run starts at ${run.start}, the one before ended at ${end}`;
    if (!(run.length > 0)) return `a run at ${run.start} has length ${run.length}`;
    end += run.length;
  }
  return end === node.size ? null : `the runs end at ${end}, the disk at ${node.size}`;
}

// The bytes of one view in blocks: those in sight are fetched, the ones used last are kept, what cannot be read is marked.
import { client, faultOf } from '../../bridge.ts';

export const blockSize = 32 * 1024;
/** Blocks kept, and fetched at the same time, at most. */
const mostKept = 96;
const mostAtOnce = 3;
/** What cannot be read in one piece is tried in pieces of this size. */
const smallPiece = 4096;

interface Block {
  readonly bytes: Uint8Array;
  /** A byte per small piece: 1 where it cannot be read. Null: all of it can. */
  readonly lost: Uint8Array | null;
}

/** Bytes of `view` of an open image. Its owner asks for what is in sight with `want`, and is drawn again when `version` changes. */
export class ByteSource {
  readonly session: string;
  readonly view: string;
  readonly size: number;
  /** Counts the blocks that have come. */
  version = $state(0);
  /** Why some bytes cannot be read; the first reason. */
  fault = $state<string | null>(null);
  readonly #blocks = new Map<number, Block>();
  readonly #fetching = new Set<number>();
  #wanted: readonly number[] = [];
  #closed = false;

  constructor(session: string, view: string, size: number) {
    this.session = session;
    this.view = view;
    this.size = size;
  }

  /** Nothing is fetched any more. */
  close(): void {
    this.#closed = true;
  }

  /** The byte at `offset`; -1: not there yet, -2: it cannot be read, -3: behind the end. */
  at(offset: number): number {
    if (offset >= this.size) return -3;
    const block = this.#blocks.get(Math.floor(offset / blockSize));
    if (block === undefined) return -1;
    const within = offset % blockSize;
    if (block.lost !== null && block.lost[Math.floor(within / smallPiece)] === 1) return -2;
    return block.bytes[within] ?? -3;
  }

  /** These bytes are in sight now; what was wanted before and is not fetched yet is forgotten. */
  want(start: number, length: number): void {
    const first = Math.floor(start / blockSize);
    const last = Math.floor(Math.max(start, Math.min(this.size, start + length) - 1) / blockSize);
    const wanted: number[] = [];
    for (let block = first; block <= last; block++) wanted.push(block);
    this.#wanted = wanted;
    this.#next();
  }

  /** The bytes of a stretch, fetched if need be; at most 1 MiB. Throws what reading throws. */
  async read(start: number, length: number): Promise<Uint8Array> {
    const blob = await client.sessions.bytes({ session: this.session, view: this.view, start, length });
    return new Uint8Array(await blob.arrayBuffer());
  }

  #next(): void {
    for (const block of this.#wanted) {
      if (this.#closed || this.#fetching.size >= mostAtOnce) return;
      if (block * blockSize >= this.size || this.#fetching.has(block)) continue;
      const known = this.#blocks.get(block);
      if (known !== undefined) {
        this.#blocks.delete(block);
        this.#blocks.set(block, known);
        continue;
      }
      this.#fetching.add(block);
      void this.#fetch(block).finally(() => {
        this.#fetching.delete(block);
        this.#next();
      });
    }
  }

  async #fetch(block: number): Promise<void> {
    const start = block * blockSize;
    let found: Block;
    try {
      found = { bytes: await this.read(start, blockSize), lost: null };
    } catch (error) {
      this.fault ??= faultOf(error).text;
      found = await this.#fetchInPieces(start);
    }
    if (this.#closed) return;
    this.#blocks.set(block, found);
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size <= mostKept) break;
      this.#blocks.delete(oldest);
    }
    this.version += 1;
  }

  async #fetchInPieces(start: number): Promise<Block> {
    const bytes = new Uint8Array(Math.min(blockSize, this.size - start));
    const lost = new Uint8Array(Math.ceil(bytes.length / smallPiece));
    for (let piece = 0; piece < lost.length && !this.#closed; piece++) {
      try {
        bytes.set(await this.read(start + piece * smallPiece, smallPiece), piece * smallPiece);
      } catch {
        lost[piece] = 1; // why is in `fault` already, and the grid says which bytes
      }
    }
    return { bytes, lost };
  }
}

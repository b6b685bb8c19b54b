// The bytes of one view in blocks: those in sight are fetched, the ones used last are kept, what cannot be read is marked.
import { client, faultOf, faultSaid, type Fault } from '../../bridge.ts';

export const blockSize = 32 * 1024;
/** Blocks kept, and fetched at the same time, at most. */
const mostKept = 96;
const mostAtOnce = 3;

interface Lost {
  readonly start: number;
  readonly end: number;
  readonly fault: Fault;
}

interface Block {
  readonly bytes: Uint8Array;
  /** What of it cannot be read, in order. */
  readonly lost: readonly Lost[];
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
    if (block.lost.length > 0 && lostIn(block, offset) !== null) return -2;
    return block.bytes[offset % blockSize] ?? -3;
  }

  /** Why the byte at `offset` cannot be read; null: it can, or it is not there yet. */
  lostAt(offset: number): Fault | null {
    const block = this.#blocks.get(Math.floor(offset / blockSize));
    return block === undefined ? null : (lostIn(block, offset)?.fault ?? null);
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
      found = { bytes: await this.read(start, blockSize), lost: [] };
    } catch (error) {
      const fault = faultOf(error);
      this.fault ??= fault.text;
      found = await this.#fetchReadable(start, fault);
    }
    if (this.#closed) return;
    this.#blocks.set(block, found);
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size <= mostKept) break;
      this.#blocks.delete(oldest);
    }
    this.version += 1;
  }

  /** The block without what cannot be read; where even that is not told, nothing of it can. */
  async #fetchReadable(start: number, fault: Fault): Promise<Block> {
    const bytes = new Uint8Array(Math.min(blockSize, this.size - start));
    const end = start + bytes.length;
    const lost: Lost[] = [];
    try {
      const window = { session: this.session, view: this.view, start, length: bytes.length };
      const { unread, more } = await client.sessions.unread(window);
      for (const one of unread) {
        lost.push({ start: one.start, end: one.start + one.length, fault: faultSaid(one) });
      }
      const last = lost.at(-1);
      if (more > 0 && last !== undefined) lost.push({ start: last.end, end, fault });
      let at = start;
      for (const gap of [...lost, { start: end, end }]) {
        if (gap.start > at) bytes.set(await this.read(at, gap.start - at), at - start);
        at = gap.end;
      }
      return { bytes, lost };
    } catch (error) {
      return { bytes, lost: [{ start, end, fault: faultOf(error) }] };
    }
  }
}

function lostIn({ lost }: Block, offset: number): Lost | null {
  return lost.find(({ start, end }) => offset >= start && offset < end) ?? null;
}

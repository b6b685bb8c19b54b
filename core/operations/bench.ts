// bench: the same request again and again, a number of them under way at once; how long it takes.
import { transferIn, transferOut } from '../block/copy/transfer.ts';
import { isWritable, type BlockNode, type WritableNode } from '../block/node.ts';
import { readGuest, resolveOne } from '../block/read.ts';
import { GiB } from '../block/units.ts';
import { writeGuest } from '../block/write.ts';
import { ImageError } from '../errors/image-error.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';
import { changeInPlace } from './in-place.ts';

export interface BenchParams {
  readonly path: string;
  readonly options: OpenOptions;
  readonly write: boolean;
  /** Requests in all, and under way at once. */
  readonly count: number;
  readonly depth: number;
  /** Guest offset of the first request, bytes of each, and from one's start to the next. Behind the end it goes on at the start. */
  readonly offset: number;
  readonly length: number;
  readonly step: number;
  /** The byte that is written. */
  readonly pattern: number;
  /** A flush after so many requests; 0: none. `drain`: it waits for the others, and they for it. */
  readonly flushInterval: number;
  readonly drain: boolean;
}

export interface BenchResult {
  readonly seconds: number;
}

/**
 * Runs the requests; `ready` is called when the image is open. A write changes the image. Throws what opening throws, `in-place/*`,
 * `bench/memory`, `bench/request`, `bench/flush`, `request/cancelled`.
 */
export async function bench(params: BenchParams, job: Job, ready: () => void = () => {}): Promise<BenchResult> {
  if (!params.write) {
    const { node } = openImage(params.path, params.options);
    try {
      ready();
      return await measure(node, params, job);
    } finally {
      node.close();
    }
  }
  // Every request overwrites: there is nothing that could be taken back, and a journal would be what is measured.
  const open: OpenOptions = { ...params.options, undo: 'none' };
  return await changeInPlace(params.path, { verb: 'bench', open }, ({ node }) => {
    ready();
    return measure(node, params, job);
  });
}

async function measure(node: BlockNode, params: BenchParams, job: Job): Promise<BenchResult> {
  const run = new Run(node, params, job);
  const started = performance.now();
  await run.all();
  return { seconds: (performance.now() - started) / 1000 };
}

const mostMemory = GiB;

class Run {
  readonly #node: BlockNode;
  readonly #params: BenchParams;
  readonly #job: Job;
  #begun = 0;
  #ended = 0;
  #offset: number;

  constructor(node: BlockNode, params: BenchParams, job: Job) {
    this.#node = node;
    this.#params = params;
    this.#job = job;
    this.#offset = params.offset;
  }

  /** Rounds that end with a flush which waits, or one round of all. */
  async all(): Promise<void> {
    const { count, flushInterval, drain, depth, length, pattern } = this.#params;
    const lanes = Math.min(depth, count);
    if (lanes * length > mostMemory) {
      throw new ImageError('bench/memory', { found: lanes * length, allowed: mostMemory }, { file: this.#node.name });
    }
    const buffers = Array.from({ length: lanes }, () => Buffer.alloc(length, pattern));
    const round = flushInterval > 0 && drain ? flushInterval : count;
    for (let until = Math.min(round, count); this.#begun < count; until = Math.min(until + round, count)) {
      const results = await Promise.allSettled(buffers.map((buffer) => this.#lane(buffer, until)));
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      if (flushInterval > 0 && drain && until % flushInterval === 0) this.#flush();
    }
  }

  /** One request after the other. */
  async #lane(buffer: Buffer, until: number): Promise<void> {
    const { step, write, flushInterval, drain, count } = this.#params;
    const pause = breather();
    while (this.#begun < until) {
      this.#job.throwIfCancelled();
      const at = this.#offset;
      this.#begun++;
      this.#offset = this.#node.size === 0 ? 0 : (at + step) % this.#node.size;
      try {
        if (write) await writeOne(this.#node as WritableNode, buffer, at);
        else await readOne(this.#node, buffer, at);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        throw new ImageError('bench/request', { reason: reasonOf(error) }, error.where, error);
      }
      this.#ended++;
      if (flushInterval > 0 && !drain && this.#ended % flushInterval === 0) this.#flush();
      this.#job.progress({ phase: 'bench', done: this.#ended, total: count });
      await pause();
    }
  }

  #flush(): void {
    const node = this.#node;
    try {
      if (isWritable(node)) node.flush();
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      throw new ImageError('bench/flush', { reason: reasonOf(error) }, error.where, error);
    }
  }
}

function reasonOf(error: ImageError): string {
  return error.code === 'request/out-of-range' ? 'Input/output error' : String(error.facts.reason ?? error.message);
}

/** A request past the end of the disk fails; one that begins in it and ends behind it too, as with qemu-img. */
function refuseOutside(node: BlockNode, length: number, start: number): void {
  if (start + length > node.size) {
    throw new ImageError('request/out-of-range', { start, length, size: node.size }, { file: node.name });
  }
}

async function readOne(node: BlockNode, into: Buffer, start: number): Promise<void> {
  refuseOutside(node, into.length, start);
  for (let done = 0; done < into.length;) {
    const run = resolveOne(node, { start: start + done, length: into.length - done });
    const { mapping, length } = run;
    if (mapping.kind === 'data' && mapping.cipher === undefined) {
      await transferIn(mapping.storage, into, done, length, mapping.offset);
    } else readGuest(node, into.subarray(done, done + length), start + done);
    done += length;
  }
}

/** In place where the bytes have a place already; with all that belongs to it where they need one. */
async function writeOne(node: WritableNode, bytes: Buffer, start: number): Promise<void> {
  refuseOutside(node, bytes.length, start);
  const mapping = bytes.length === 0 ? null : node.map({ start, length: bytes.length });
  if (mapping?.kind === 'data' && mapping.writable && mapping.cipher === undefined && mapping.length === bytes.length) {
    const place = node.reserve({ start, length: bytes.length });
    if (!place.fresh && place.covers.length === bytes.length) {
      await transferOut(place.storage, [bytes], place.offset);
      place.publish();
      return;
    }
  }
  writeGuest(node, bytes, start);
}

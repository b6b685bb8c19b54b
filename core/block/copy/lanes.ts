// Lanes: threads that pack and unpack for the copy plane. Buffers are shared, messages carry only places in them.
import os from 'node:os';
import { Worker } from 'node:worker_threads';
import { ImageError, type WireError } from '../../errors/image-error.ts';
import type { Codec } from '../node.ts';

/** One packed unit on its way in: `stored` bytes at `from` of the side buffer give `length` guest bytes (after `skip`) at `to`. */
export interface UnpackItem {
  readonly from: number;
  readonly stored: number;
  readonly unpacked: number;
  readonly skip: number;
  readonly to: number;
  readonly length: number;
  /** For the error, if it is damaged. */
  readonly file: string;
  readonly offset: number;
}

export interface UnpackTask {
  readonly kind: 'unpack';
  readonly codec: Codec;
  readonly side: SharedArrayBuffer;
  readonly data: SharedArrayBuffer;
  readonly items: readonly UnpackItem[];
}

/** Units of `unit` bytes to pack: `at` are their places in `data`; results go one after the other into `side`. */
export interface PackTask {
  readonly kind: 'pack';
  readonly codec: Codec;
  readonly side: SharedArrayBuffer;
  readonly data: SharedArrayBuffer;
  readonly unit: number;
  readonly at: readonly number[];
  /** Pack even what gains nothing by it (formats that hold nothing else). */
  readonly always: boolean;
}

export type LaneTask = UnpackTask | PackTask;

/** For `pack`: the length of each result in `side`; -1 where packing gains nothing. For `unpack`: what was damaged, by item. */
export interface LaneResult {
  readonly lengths: readonly number[];
  readonly faults: readonly { readonly item: number; readonly error: WireError }[];
}

/** What a lane answers: the result, or the message of a bug in it. */
export type LaneReply = { readonly id: number } & (LaneResult | { readonly bug: string });

/** A pool of lanes, started on first use. */
export class Lanes {
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, { resolve: (r: LaneResult) => void; reject: (e: Error) => void }>();
  readonly #count: number;
  #next = 0;

  /** `count` threads at most; by default one per processor, four at most. */
  constructor(count: number = Math.min(4, os.availableParallelism())) {
    this.#count = count;
  }

  run(task: LaneTask): Promise<LaneResult> {
    const id = this.#next++;
    const worker = this.#workers[id % this.#count] ?? this.#start();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, task });
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    this.#workers.length = 0;
  }

  #start(): Worker {
    const file = import.meta.url.endsWith('.ts') ? './lane.ts' : './copy-lane.js';
    const worker = new Worker(new URL(file, import.meta.url), { resourceLimits: { maxOldGenerationSizeMb: 64 } });
    worker.unref();
    worker.on('message', (reply: LaneReply) => {
      const waiter = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ('bug' in reply) waiter?.reject(new Error(reply.bug));
      else waiter?.resolve(reply);
    });
    worker.on('error', (error) => {
      const failed = new ImageError('request/lane-died', {
        reason: error instanceof Error ? error.message : String(error),
      });
      for (const waiter of this.#waiting.values()) waiter.reject(failed);
      this.#waiting.clear();
    });
    this.#workers.push(worker);
    return worker;
  }
}

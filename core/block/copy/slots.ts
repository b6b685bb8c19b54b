// Slots: the fixed set of buffers that a copy works with, so that its memory does not grow with the disk.

/** One chunk's worth of guest bytes, and room for their packed form. Shared memory, so that lanes work on it in place. */
export interface Slot {
  readonly dataMemory: SharedArrayBuffer;
  readonly sideMemory: SharedArrayBuffer;
  readonly data: Buffer;
  readonly side: Buffer;
}

/** `count` slots, made on first use; `take` waits for a free one. */
export class Slots {
  readonly #free: Slot[] = [];
  readonly #waiting: ((slot: Slot) => void)[] = [];
  readonly #dataLength: number;
  readonly #sideLength: number;
  #left: number;

  constructor(count: number, dataLength: number, sideLength: number) {
    this.#left = count;
    this.#dataLength = dataLength;
    this.#sideLength = sideLength;
  }

  take(): Promise<Slot> {
    const slot = this.#free.pop() ?? this.#make();
    if (slot !== null) return Promise.resolve(slot);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(slot: Slot): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next(slot);
  }

  #make(): Slot | null {
    if (this.#left === 0) return null;
    this.#left--;
    const dataMemory = new SharedArrayBuffer(this.#dataLength);
    const sideMemory = new SharedArrayBuffer(this.#sideLength);
    return { dataMemory, sideMemory, data: Buffer.from(dataMemory), side: Buffer.from(sideMemory) };
  }
}

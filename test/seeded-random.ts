// Random numbers that a seed repeats: a test that fails prints the seed.

/** A generator of numbers made from `seed` (mulberry32). */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 … 2^32 - 1. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** 0 … limit - 1. */
  below(limit: number): number {
    return Math.floor((this.bits() / 0x1_0000_0000) * limit);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    const chosen = choices[this.below(choices.length)];
    if (chosen === undefined) throw new Error('nothing to choose from');
    return chosen;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.bits() & 0xff;
    return bytes;
  }
}

/** A seed for a name, the same every time (FNV-1a). */
export function seedOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** The seed that SEED names; else the subject's own in the short run, a new one in the long one. Printed, so that a failure can be repeated. */
export function chosenSeed(subject: string): number {
  const { SEED: stated, PLATTER_LONG: long } = process.env;
  const unstated = long === '1' ? (Date.now() ^ (process.pid << 16)) >>> 0 : seedOf(subject);
  const seed = stated === undefined ? unstated : Number(stated);
  console.log(`${subject}: SEED=${seed}`);
  return seed;
}

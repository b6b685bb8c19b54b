// How a job's thread is told to stop or to wait: two words of memory that both threads see.

/** Words: whether to stop, whether to wait. */
const stop = 0;
const wait = 1;

export type ControlWords = Int32Array<SharedArrayBuffer>;

export function newControl(): ControlWords {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** Asks the job to stop; a waiting one wakes up to do so. */
export function askToStop(words: ControlWords): void {
  Atomics.store(words, stop, 1);
  letGoOn(words);
}

export function askToWait(words: ControlWords): void {
  Atomics.store(words, wait, 1);
}

export function letGoOn(words: ControlWords): void {
  Atomics.store(words, wait, 0);
  Atomics.notify(words, wait);
}

export function shouldStop(words: ControlWords): boolean {
  return Atomics.load(words, stop) !== 0;
}

export function isWaiting(words: ControlWords): boolean {
  return Atomics.load(words, wait) !== 0;
}

/** Blocks the calling thread while it is asked to wait. */
export function waitWhileAsked(words: ControlWords): void {
  while (Atomics.load(words, wait) !== 0) Atomics.wait(words, wait, 1);
}

// What anything long is handed: a place to report progress, and the question whether to stop.
import { ImageError } from './errors/image-error.ts';

/** `done` and `total` are bytes of work in the phase named. */
export interface Progress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

/** A new image that a job writes, as whoever watches the job hears of it. */
export interface NewImage {
  /** The name that it has when it is complete, and the file that is written until then. */
  readonly path: string;
  readonly partial: string;
  readonly format: string;
  /** Bytes of its disk, and of the unit in which that is mapped. */
  readonly size: number;
  readonly granularity: number;
}

/** What became of a stretch of a new image's disk: stored, stored packed, left to the layer below, known to be zero. */
export const fillKinds = ['data', 'packed', 'below', 'zeroes'] as const;

/** Hears of each stretch of the disk once it is written. Bytes. */
export type Fill = (kind: (typeof fillKinds)[number], start: number, length: number) => void;

export interface Job {
  progress(p: Progress): void;
  /** From now on this image is written; gives whom to tell of its stretches. Absent: nobody watches. */
  makes?(image: NewImage): Fill;
  /** Throws `request/cancelled` once somebody has asked to stop. */
  throwIfCancelled(): void;
}

/** A job that nobody watches and nobody cancels. */
export const silentJob: Job = { progress: () => {}, throwIfCancelled: () => {} };

/** A job cancelled through `signal`; `report` hears of progress. */
export function jobWithSignal(signal: AbortSignal, report: (p: Progress) => void = () => {}): Job {
  return {
    progress: report,
    throwIfCancelled() {
      if (signal.aborted) throw new ImageError('request/cancelled');
    },
  };
}

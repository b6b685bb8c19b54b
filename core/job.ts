// What anything long is handed: a place to report progress, and the question whether to stop.
import { ImageError } from './errors/image-error.ts';

/** `done` and `total` are bytes of work in the phase named. */
export interface Progress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

export interface Job {
  progress(p: Progress): void;
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

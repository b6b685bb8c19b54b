// What an operation is: plain data in, plain data out, with a job to report to.
import type { Job } from '../job.ts';

/** Async only because it may await the copy plane, or let the event loop breathe between pieces of long work. */
export type Operation<Params, Result> = (params: Params, job: Job) => Promise<Result>;

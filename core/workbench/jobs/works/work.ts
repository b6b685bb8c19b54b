// A work that a job can do: the shape of its parameters, what it touches, and what it does in the job's thread.
import * as v from 'valibot';
import type { Job } from '../../../job.ts';
import type { Fence } from '../../fence.ts';
import type { KeptGate } from '../../kept-gate.ts';

/** What a work is handed besides its parameters. */
export interface WorkContext {
  readonly job: Job;
  /** A line for the job's log. */
  readonly log: (text: string) => void;
  readonly secrets: Readonly<Record<string, string>>;
  readonly fence: Fence;
  /** What was decided about references of images. */
  readonly gate: KeptGate;
  /** Path of the catalogue. */
  readonly catalogue: string;
}

export interface Work<Schema extends v.GenericSchema> {
  readonly params: Schema;
  /** The files it is told to read and write: they must lie within the fence, and works on one slow device wait for each other. */
  files(params: v.InferOutput<Schema>): readonly string[];
  /** Whether it writes to images, before anybody knows with what it is asked; null: that depends on it. */
  readonly always: boolean | null;
  /** It writes to images. */
  changes(params: v.InferOutput<Schema>): boolean;
  /** `params` have the shape. Its result is plain data and does not grow with the disk. */
  run(params: unknown, context: WorkContext): Promise<unknown>;
}

/** Makes a work; its parameters are checked once more in the thread. */
export function work<Schema extends v.GenericSchema>(
  params: Schema,
  changes: boolean | ((params: v.InferOutput<Schema>) => boolean),
  files: (params: v.InferOutput<Schema>) => readonly string[],
  run: (params: v.InferOutput<Schema>, context: WorkContext) => Promise<unknown>,
): Work<Schema> {
  return {
    params,
    files,
    always: typeof changes === 'boolean' ? changes : null,
    changes: typeof changes === 'boolean' ? () => changes : changes,
    run: (given, context) => run(v.parse(params, given), context),
  };
}

// Jobs as the catalogue keeps them: running ones, finished ones, and those that a crash interrupted.
import crypto from 'node:crypto';
import type { WireError } from '../../errors/image-error.ts';
import type { NewImage, Progress } from '../../job.ts';
import type { Catalogue } from '../../catalogue/catalogue.ts';

export type JobState = 'queued' | 'running' | 'paused' | 'done' | 'failed' | 'cancelled' | 'interrupted';

/** The new image that a job is writing now, and the bytes of a cell of its map. */
export interface MadeImage extends NewImage {
  readonly unit: number;
}

/** A job, as it is listed. Times in milliseconds since 1970. */
export interface JobRecord {
  readonly id: string;
  readonly work: string;
  readonly params: unknown;
  readonly state: JobState;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly progress: Progress | null;
  /** Null: it writes no new image, or not yet, or it is over. */
  readonly makes: MadeImage | null;
  readonly result: unknown;
  readonly error: WireError | null;
}

export interface JobLine {
  readonly number: number;
  readonly at: number;
  readonly kind: string;
  readonly text: string;
}

interface JobRow {
  id: string;
  operation: string;
  params: string;
  state: JobState;
  created_at: number;
  started_at: number | null;
  ended_at: number | null;
  progress: string | null;
  result: string | null;
  error: string | null;
}

/** Lines of a job's log that are kept; later ones are counted only. */
const linesKept = 2000;

export class JobStore {
  readonly #catalogue: Catalogue;

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
  }

  add(work: string, params: unknown): string {
    const id = crypto.randomUUID();
    this.#catalogue.database.run(
      `insert into job (id, operation, params, state, pid, created_at) values (:id, :work, :params, 'queued', :pid, :now)`,
      { id, work, params: JSON.stringify(params), pid: process.pid, now: Date.now() },
    );
    return id;
  }

  setState(id: string, state: JobState): void {
    const column =
      state === 'running' ? ', started_at = coalesce(started_at, :now)' : isOver(state) ? ', ended_at = :now' : '';
    this.#catalogue.database.run(`update job set state = :state${column} where id = :id`, {
      id,
      state,
      ...(column === '' ? {} : { now: Date.now() }),
    });
  }

  finish(
    id: string,
    state: JobState,
    outcome: { result?: unknown; error?: WireError; progress: Progress | null },
  ): void {
    this.#catalogue.database.run(
      `update job set state = :state, ended_at = :now, result = :result, error = :error, progress = :progress where id = :id`,
      {
        id,
        state,
        now: Date.now(),
        result: outcome.result === undefined ? null : JSON.stringify(outcome.result),
        error: outcome.error === undefined ? null : JSON.stringify(outcome.error),
        progress: outcome.progress === null ? null : JSON.stringify(outcome.progress),
      },
    );
  }

  log(id: string, kind: string, text: string): void {
    const { database } = this.#catalogue;
    const next = database.one<{ next: number }>(
      'select coalesce(max(number), 0) + 1 as next from job_event where job_id = :id',
      { id },
    );
    const number = next?.next ?? 1;
    if (number > linesKept) return;
    // Another program may have forgotten the job meanwhile.
    database.run(
      `insert into job_event (job_id, number, at, kind, body)
       select :id, :number, :at, :kind, :text where exists (select 1 from job where id = :id)`,
      { id, number, at: Date.now(), kind, text: number === linesKept ? 'further lines are left out' : text },
    );
  }

  one(id: string): JobRecord | null {
    const row = this.#catalogue.database.one<JobRow>('select * from job where id = :id', { id });
    return row === null ? null : recordOf(row);
  }

  /** Newest first; with `pid` those of one program only. */
  list(limit: number, offset: number, pid: number | null = null): JobRecord[] {
    return this.#catalogue.database
      .all<JobRow>(
        `select * from job where :pid is null or pid = :pid
         order by created_at desc, rowid desc limit :limit offset :offset`,
        { limit, offset, pid },
      )
      .map(recordOf);
  }

  lines(id: string, after: number, limit: number): JobLine[] {
    return this.#catalogue.database.all<JobLine>(
      'select number, at, kind, body as text from job_event where job_id = :id and number > :after order by number limit :limit',
      { id, after, limit },
    );
  }

  forget(id: string): void {
    this.#catalogue.database.run('delete from job where id = :id', { id });
  }

  /** Marks jobs of programs that are no longer there; gives their ids. Asked for when a program starts. */
  markInterrupted(): string[] {
    const open = this.#catalogue.database.all<{ id: string; pid: number | null }>(
      `select id, pid from job where state in ('queued', 'running', 'paused')`,
    );
    const lost = open.filter(({ pid }) => pid === null || !isAlive(pid));
    for (const { id } of lost) this.setState(id, 'interrupted');
    return lost.map(({ id }) => id);
  }
}

function isOver(state: JobState): boolean {
  return ['done', 'failed', 'cancelled', 'interrupted'].includes(state);
}

/** Our own number may have been another program's before: a job of ours is known to the host that asks. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function recordOf(row: JobRow): JobRecord {
  const parsed = (text: string | null): unknown => (text === null ? null : JSON.parse(text));
  return {
    id: row.id,
    work: row.operation,
    params: parsed(row.params),
    state: row.state,
    createdAt: row.created_at,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    progress: parsed(row.progress) as Progress | null,
    makes: null,
    result: parsed(row.result),
    error: parsed(row.error) as WireError | null,
  };
}

// The jobs of a program: queued by device, one thread each, paused, cancelled, remembered.
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import { Worker, type ResourceLimits } from 'node:worker_threads';
import * as v from 'valibot';
import type { Catalogue } from '../../catalogue/catalogue.ts';
import { deviceOf } from '../../catalogue/storage/devices.ts';
import { mountOf } from '../../catalogue/storage/mounts.ts';
import { ImageError, type WireError } from '../../errors/image-error.ts';
import type { Progress } from '../../job.ts';
import { leftoversOf } from '../../operations/target.ts';
import path from 'node:path';
import { requireChange, requireWithin, type Fence } from '../fence.ts';
import { readGate } from '../kept-gate.ts';
import { askToStop, askToWait, isWaiting, letGoOn, newControl, type ControlWords } from './control.ts';
import { fillTile, type FillMap, type FillTile } from '../map/fill.ts';
import { JobStore, type JobLine, type JobRecord, type JobState, type MadeImage } from './job-store.ts';
import type { ThreadMessage, ThreadTask } from './job-thread.ts';
import { works, type WorkName } from './works.ts';

/** What becomes of a job. `rate` is bytes of work per second, `left` seconds. */
export type JobNews =
  | { readonly kind: 'state'; readonly id: string; readonly state: JobState }
  | {
      readonly kind: 'progress';
      readonly id: string;
      readonly progress: Progress;
      readonly rate: number;
      readonly left: number | null;
    }
  /** It begins to write a new image; how far that is filled can be asked for. */
  | { readonly kind: 'makes'; readonly id: string; readonly image: MadeImage }
  | { readonly kind: 'log'; readonly id: string; readonly text: string };

interface RunningJob {
  readonly id: string;
  readonly work: WorkName;
  readonly params: unknown;
  readonly secrets: Readonly<Record<string, string>>;
  readonly devices: readonly string[];
  readonly control: ControlWords;
  worker: Worker | null;
  progress: Progress | null;
  /** The image that it writes, and how far that is filled. */
  making: { readonly image: MadeImage; readonly fill: FillMap } | null;
  phaseStarted: { readonly phase: string; readonly at: number; readonly done: number };
}

/** Memory of a job's thread, in MiB: what it cannot do with that, it does not do; the program goes on. */
const resourceLimits = { maxOldGenerationSizeMb: 1024, maxYoungGenerationSizeMb: 64 };

/** Jobs at once on one device: those that seek or are shared by others one at a time. */
const slowDevice = 1;
const quickDevice = 3;

/** The file that a job makes, if it makes one. */
function targetOf(params: unknown): string | null {
  if (typeof params !== 'object' || params === null || !('target' in params)) return null;
  return typeof params.target === 'string' ? params.target : null;
}

/** Runs jobs. One per program; `close` ends them. */
export class JobHost {
  readonly #catalogue: Catalogue;
  readonly #fence: Fence;
  readonly #resourceLimits: ResourceLimits;
  readonly #thread: URL;
  readonly #store: JobStore;
  readonly #news = new EventEmitter<{ news: [JobNews] }>();
  readonly #waiting: RunningJob[] = [];
  readonly #running = new Map<string, RunningJob>();
  readonly #limits = new Map<string, number>();
  #closed = false;

  constructor(
    catalogue: Catalogue,
    fence: Fence = { roots: null, readOnly: false },
    limits: ResourceLimits = resourceLimits,
    /** The file that a job's thread runs. */
    thread: URL = new URL(import.meta.url.endsWith('.ts') ? './job-thread.ts' : './job-thread.js', import.meta.url),
  ) {
    this.#thread = thread;
    this.#resourceLimits = limits;
    this.#catalogue = catalogue;
    this.#fence = fence;
    this.#store = new JobStore(catalogue);
    this.#store.markInterrupted();
    this.#news.setMaxListeners(0);
  }

  /** Queues a job; gives its id. Throws `job/params` for parameters of a wrong shape, `access/outside`, `access/read-only`. */
  start(work: WorkName, params: unknown, secrets: Readonly<Record<string, string>> = {}): string {
    const parsed = v.safeParse(works[work].params, params);
    if (!parsed.success) {
      const issue = parsed.issues[0];
      const detail = { work, field: v.getDotPath(issue) ?? '', reason: issue.message };
      throw new ImageError('job/params', detail);
    }
    const files = (works[work].files as (given: unknown) => readonly string[])(parsed.output);
    for (const file of files) requireWithin(this.#fence, file);
    if ((works[work].changes as (given: unknown) => boolean)(parsed.output)) requireChange(this.#fence);
    const id = this.#store.add(work, parsed.output);
    this.#waiting.push({
      id,
      work,
      params: parsed.output,
      secrets,
      devices: [...new Set(files.map((file) => this.#deviceOf(file)))],
      control: newControl(),
      worker: null,
      progress: null,
      making: null,
      phaseStarted: { phase: '', at: 0, done: 0 },
    });
    this.#tell({ kind: 'state', id, state: 'queued' });
    this.#next();
    return id;
  }

  /** Asks a job to stop, or takes it out of the queue. Throws `job/unknown`, `job/over`. */
  cancel(id: string): void {
    const queued = this.#waiting.findIndex((job) => job.id === id);
    if (queued >= 0) {
      this.#waiting.splice(queued, 1);
      this.#store.finish(id, 'cancelled', { progress: null });
      this.#tell({ kind: 'state', id, state: 'cancelled' });
      return;
    }
    askToStop(this.#require(id).control);
  }

  /** Throws `job/unknown`, `job/over`. */
  pause(id: string): void {
    const job = this.#require(id);
    askToWait(job.control);
    this.#setState(id, 'paused');
  }

  /** Throws `job/unknown`, `job/over`. */
  resume(id: string): void {
    const job = this.#require(id);
    if (!isWaiting(job.control)) return;
    letGoOn(job.control);
    job.phaseStarted = { phase: '', at: 0, done: 0 };
    this.#setState(id, 'running');
  }

  /** Forgets a job that is over. Throws `job/unknown`, `job/running`. */
  forget(id: string): void {
    if (this.#running.has(id) || this.#waiting.some((job) => job.id === id))
      throw new ImageError('job/running', { id });
    if (this.#store.one(id) === null) throw new ImageError('job/unknown', { id });
    this.#store.forget(id);
  }

  /** Throws `job/unknown`. */
  job(id: string): JobRecord {
    const record = this.#store.one(id);
    if (record === null) throw new ImageError('job/unknown', { id });
    return this.#live(record);
  }

  /** Newest first. */
  list(limit: number, offset: number): JobRecord[] {
    // What others did outside of the fence is none of its business.
    const pid = this.#fence.roots === null ? null : process.pid;
    return this.#store.list(limit, offset, pid).map((record) => this.#live(record));
  }

  /**
   * The map of the disk that a job is writing, as far as it is filled now. Throws `job/unknown`, `job/over`, and
   * `job/makes-nothing` for one that writes no new image, or not yet.
   */
  fill(id: string): FillTile & { readonly size: number; readonly unit: number } {
    const { making } = this.#require(id);
    if (making === null) throw new ImageError('job/makes-nothing', { id });
    const { size, unit } = making.fill;
    return { ...fillTile(making.fill), size, unit };
  }

  lines(id: string, after: number, limit: number): JobLine[] {
    return this.#store.lines(id, after, limit);
  }

  /**
   * What an interrupted job left of the file that it was making; nothing while another job makes the same one. Throws `job/unknown`.
   */
  leftovers(id: string): string[] {
    const { state, params } = this.job(id);
    const target = targetOf(params);
    if (state !== 'interrupted' || target === null) return [];
    const others = [...this.#waiting, ...this.#running.values()];
    return others.some((job) => targetOf(job.params) === target) ? [] : leftoversOf(target);
  }

  /** Removes `leftovers`; gives what was removed. Throws `job/unknown`, `access/*`. */
  tidy(id: string): string[] {
    const files = this.leftovers(id);
    if (files.length === 0) return [];
    requireChange(this.#fence);
    for (const file of files) {
      requireWithin(this.#fence, file);
      fs.rmSync(file, { force: true });
    }
    return files;
  }

  /** Hears of every job until the returned function is called. */
  onNews(listener: (news: JobNews) => void): () => void {
    this.#news.on('news', listener);
    return () => this.#news.off('news', listener);
  }

  /** Resolves when the job is over. Throws `job/unknown`. */
  whenOver(id: string): Promise<JobRecord> {
    const now = this.job(id);
    if (!['queued', 'running', 'paused'].includes(now.state)) return Promise.resolve(now);
    return new Promise((resolve) => {
      const stop = this.onNews((news) => {
        if (news.id !== id || news.kind !== 'state' || ['queued', 'running', 'paused'].includes(news.state)) return;
        stop();
        resolve(this.job(id));
      });
    });
  }

  /** Asks all jobs to stop and waits until they have, at most `patience` milliseconds; then their threads are ended. */
  async close(patience = 10_000): Promise<void> {
    this.#closed = true;
    for (const { id } of [...this.#waiting]) this.cancel(id);
    const ending = [...this.#running.values()].map(async (job) => {
      askToStop(job.control);
      await this.whenOver(job.id);
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patience);
    });
    await Promise.race([Promise.all(ending), late]);
    clearTimeout(timer);
    await Promise.all(
      [...this.#running.values()].flatMap(({ worker }) => (worker === null ? [] : [worker.terminate()])),
    );
  }

  #live(record: JobRecord): JobRecord {
    const job = this.#running.get(record.id);
    return job === undefined ? record : { ...record, progress: job.progress, makes: job.making?.image ?? null };
  }

  #require(id: string): RunningJob {
    const job = this.#running.get(id);
    if (job !== undefined) return job;
    throw new ImageError(this.#store.one(id) === null ? 'job/unknown' : 'job/over', { id });
  }

  #deviceOf(file: string): string {
    const mount = mountOf(path.dirname(path.resolve(file)));
    if (mount === null) return '';
    const key = mount.device ?? mount.source;
    if (!this.#limits.has(key)) {
      const device = deviceOf(mount);
      const slow = device.rotational === true || ['nas', 'san', 'distributed', 'removable'].includes(device.resource);
      this.#limits.set(key, slow ? slowDevice : quickDevice);
    }
    return key;
  }

  /** Starts whatever may start, in the order in which it was asked for. */
  #next(): void {
    if (this.#closed) return;
    const busy = new Map<string, number>();
    const occupy = (job: RunningJob): void => {
      for (const device of job.devices) busy.set(device, (busy.get(device) ?? 0) + 1);
    };
    for (const job of this.#running.values()) occupy(job);
    for (const job of [...this.#waiting]) {
      const free = job.devices.every((device) => (busy.get(device) ?? 0) < (this.#limits.get(device) ?? quickDevice));
      // A job that must wait keeps its place: later ones do not overtake it on its devices.
      occupy(job);
      if (!free) continue;
      this.#waiting.splice(this.#waiting.indexOf(job), 1);
      this.#launch(job);
    }
  }

  #launch(job: RunningJob): void {
    const { id, work, params, secrets, control } = job;
    const task: ThreadTask = {
      work,
      params,
      control,
      secrets,
      catalogue: this.#catalogue.path,
      fence: this.#fence,
      gate: readGate(this.#catalogue),
    };
    const worker = new Worker(this.#thread, {
      workerData: task,
      resourceLimits: this.#resourceLimits,
      name: `${work} ${id}`,
    });
    job.worker = worker;
    this.#running.set(id, job);
    this.#setState(id, 'running');
    let over = false;
    const end = (state: JobState, outcome: { result?: unknown; error?: WireError }): void => {
      if (over) return;
      over = true;
      this.#running.delete(id);
      this.#store.finish(id, state, { ...outcome, progress: job.progress });
      this.#tell({ kind: 'state', id, state });
      this.#next();
    };
    const fail = (error: ImageError): void => end('failed', { error: error.toWire() });
    worker.on('message', (message: ThreadMessage) => {
      switch (message.kind) {
        case 'progress':
          this.#advance(job, message.progress);
          return;
        case 'makes': {
          const image = { ...message.image, unit: message.fill.unit };
          job.making = { image, fill: message.fill };
          this.#tell({ kind: 'makes', id, image });
          return;
        }
        case 'log':
          this.#store.log(id, 'log', message.text);
          this.#tell({ kind: 'log', id, text: message.text });
          return;
        case 'done':
          end('done', { result: message.result });
          return;
        case 'fault':
          end(message.error.code === 'request/cancelled' ? 'cancelled' : 'failed', { error: message.error });
          return;
        case 'bug':
          this.#store.log(id, 'bug', message.stack);
          fail(new ImageError('job/bug', { work, reason: message.stack.split('\n')[0] ?? '' }));
      }
    });
    worker.on('error', (error: Error) => {
      const code = 'code' in error ? error.code : null;
      fail(
        new ImageError(code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'job/memory' : 'job/bug', { work, reason: error.message }),
      );
    });
    worker.on('exit', (code) => fail(new ImageError('job/died', { work, exit: code })));
  }

  #advance(job: RunningJob, progress: Progress): void {
    const now = performance.now();
    if (job.phaseStarted.phase !== progress.phase) {
      job.phaseStarted = { phase: progress.phase, at: now, done: progress.done };
    }
    job.progress = progress;
    const seconds = (now - job.phaseStarted.at) / 1000;
    const rate = seconds > 0 ? (progress.done - job.phaseStarted.done) / seconds : 0;
    const left = rate > 0 ? (progress.total - progress.done) / rate : null;
    this.#tell({ kind: 'progress', id: job.id, progress, rate, left });
  }

  #setState(id: string, state: JobState): void {
    this.#store.setState(id, state);
    this.#tell({ kind: 'state', id, state });
  }

  #tell(news: JobNews): void {
    this.#news.emit('news', news);
  }
}

// Which jobs are at work now and how far they are, kept from their news: what the taskbar, notifications and quitting ask.
import type { JobHost, JobNews } from '../core/workbench/jobs/job-host.ts';
import type { JobRecord } from '../core/workbench/jobs/job-store.ts';

interface AtWork {
  readonly done: number;
  readonly total: number;
  readonly paused: boolean;
}

/** Looking through a datastore comes and goes by itself: nobody waits for it. */
const quiet = 'scan';

export class Activity {
  readonly #jobs: JobHost;
  readonly #atWork = new Map<string, AtWork>();
  readonly #quiet = new Set<string>();
  readonly #changed: (() => void)[] = [];
  readonly #ended: ((job: JobRecord) => void)[] = [];

  constructor(jobs: JobHost) {
    this.#jobs = jobs;
    jobs.onNews((news) => this.#hear(news));
  }

  get count(): number {
    return this.#atWork.size;
  }

  get paused(): boolean {
    return this.#atWork.size > 0 && [...this.#atWork.values()].every(({ paused }) => paused);
  }

  /** From 0 to 1 over all of them; null: not known yet. */
  get fraction(): number | null {
    const parts = [...this.#atWork.values()].map(({ done, total }) => (total > 0 ? Math.min(1, done / total) : null));
    const known = parts.filter((part) => part !== null);
    return known.length === 0 ? null : known.reduce((sum, part) => sum + part, 0) / parts.length;
  }

  onChange(listener: () => void): void {
    this.#changed.push(listener);
  }

  onEnd(listener: (job: JobRecord) => void): void {
    this.#ended.push(listener);
  }

  #hear(news: JobNews): void {
    const { id } = news;
    if (news.kind === 'log' || news.kind === 'makes' || this.#quiet.has(id)) return;
    const known = this.#atWork.get(id) ?? { done: 0, total: 0, paused: false };
    if (news.kind === 'progress') {
      this.#atWork.set(id, { ...known, done: news.progress.done, total: news.progress.total });
    } else if (['queued', 'running', 'paused'].includes(news.state)) {
      if (news.state === 'queued' && this.#jobs.job(id).work === quiet) {
        this.#quiet.add(id);
        return;
      }
      this.#atWork.set(id, { ...known, paused: news.state === 'paused' });
    } else {
      this.#atWork.delete(id);
      const job = this.#jobs.job(id);
      for (const listener of this.#ended) listener(job);
    }
    for (const listener of this.#changed) listener();
  }
}

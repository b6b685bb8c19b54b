// A word from the system when a job has ended and nobody was looking at the window.
import { Notification } from 'electron';
import path from 'node:path';
import type { JobRecord } from '../core/workbench/jobs/job-store.ts';
import { ImageError } from '../core/errors/image-error.ts';
import type { Activity } from './activity.ts';
import { workKey, type Texts } from './texts.ts';

export interface Watcher {
  readonly texts: () => Texts;
  /** True while the user looks at the window. */
  readonly isWatched: () => boolean;
  /** What a click on the notification shows. */
  readonly showJobs: () => void;
}

/** They are dropped by the system's garbage collector of pages unless somebody holds them. */
const shown = new Set<Notification>();

export function notifyOfEnds(activity: Activity, watcher: Watcher): void {
  activity.onEnd((job) => {
    if (watcher.isWatched() || !Notification.isSupported()) return;
    const notification = new Notification({ ...textOf(job, watcher.texts()), silent: false });
    shown.add(notification);
    notification.on('click', () => watcher.showJobs());
    notification.on('close', () => shown.delete(notification));
    notification.show();
  });
}

function textOf(job: JobRecord, texts: Texts): { title: string; body: string } {
  const work = texts(workKey(job.work));
  const files = filesOf(job.params);
  if (job.state === 'done') return { title: texts('job-done', { work }), body: files };
  if (job.state === 'cancelled') return { title: texts('job-cancelled', { work }), body: files };
  const title = texts('job-failed', { work });
  if (job.error === null) return { title, body: files };
  // Whatever the thread of a job dies of, it dies alone: that is to be said, since it looks worse than it is.
  const died = ['job/died', 'job/memory', 'job/bug'].includes(job.error.code);
  return { title, body: died ? texts('job-died') : ImageError.fromWire(job.error).message };
}

/** The names of the files that a job is about: the first few words of its parameters, without their folders. */
function filesOf(params: unknown): string {
  if (typeof params !== 'object' || params === null) return '';
  const { source, image, target } = params as Record<string, unknown>;
  return [source, image, target]
    .map((value) => (typeof value === 'object' && value !== null && 'path' in value ? value.path : value))
    .filter((value) => typeof value === 'string' && path.isAbsolute(value))
    .map((value) => path.basename(value as string))
    .join(' → ');
}

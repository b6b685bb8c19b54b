// The jobs: the running ones as their news tells, the finished ones as they are kept; starting one and waiting for its end.
import type { JobEntry, WorkName, WorkParams } from '../../core/workbench/contract.ts';
import { client, desktop, faultOf, faultOfJob, type Fault } from '../bridge.ts';
import { baseName } from '../text/paths.ts';
import { messageOf, t } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import { placeToScan, refreshSoon } from './catalogue.svelte.ts';
import { askForJob } from './references.svelte.ts';
import { settings } from './settings.svelte.ts';

export interface ShownJob {
  entry: JobEntry;
  /** Bytes per second, and seconds; null: not known. */
  rate: number | null;
  left: number | null;
}

export const jobs = $state<{ list: ShownJob[]; fault: Fault | null }>({ list: [], fault: null });

/** Jobs of the page of jobs: newest first. */
const listed = 200;
/** Milliseconds that a job may stand in the queue before who started it waits no longer. */
const patience = 3000;
/** Milliseconds within which a job at work says how far it is or is refused, on a machine that is busy with other things. */
const refusedWithin = 15_000;
const waiting = new Map<string, ((entry: JobEntry) => void)[]>();
/** Who waits for the first progress of a job. */
const watching = new Map<string, () => void>();
/** Started by this window for itself: nothing is said of their end. */
const silent = new Set<string>();
/** Started by this window: their end is told. */
const own = new Set<string>();
/** What they were started with, to be started again when a person has allowed what they were refused. */
const asked = new Map<
  string,
  { readonly work: WorkName; readonly params: unknown; readonly secrets: Record<string, string> }
>();
/** Refused until the person who is asked now has decided. */
const undecided = new Set<string>();
/** Started again as another job. */
const again = new Map<string, string>();

/** The job that a job is now. */
function latest(id: string): string {
  let now = id;
  for (let next = again.get(now); next !== undefined; next = again.get(now)) now = next;
  return now;
}

export function isOver({ state }: JobEntry): boolean {
  return !['queued', 'running', 'paused'].includes(state);
}

/** Looking through a datastore and measuring come and go by themselves. */
export function isAside({ work }: JobEntry): boolean {
  return work === 'scan' || work === 'measure';
}

/** What is at work now. */
export function running(): ShownJob[] {
  return jobs.list.filter(({ entry }) => !isOver(entry) && !isAside(entry));
}

/** The files that a job names, for its title. */
export function titleOf({ work, params }: JobEntry): string {
  const verb = messageOf(`work.${work}`) ?? work;
  const subject = subjectOf(params);
  return subject === null ? verb : `${verb} · ${subject}`;
}

function subjectOf(params: unknown): string | null {
  if (typeof params !== 'object' || params === null) return null;
  const given = params as Record<string, unknown>;
  const paths = [given.source, given.image, given.base, given.first, given.second, given.target].flatMap((value) => {
    if (typeof value === 'object' && value !== null && 'path' in value) return [String(value.path)];
    return typeof value === 'string' && /[/\\]/.test(value) ? [value] : [];
  });
  return paths.length === 0 ? null : paths.map(baseName).join(' → ');
}

/** Hears the news for as long as the window lives; after a lost connection it begins anew. */
export async function watchJobs(): Promise<void> {
  for (;;) {
    try {
      const news = await client.jobs.news();
      await loadJobs();
      for await (const told of news) {
        if (told.kind === 'state') await reload(told.id);
        else if (told.kind === 'progress') {
          const job = jobs.list.find(({ entry }) => entry.id === told.id);
          if (job === undefined) continue;
          job.entry = { ...job.entry, progress: told.progress };
          job.rate = told.rate;
          job.left = told.left;
          watching.get(told.id)?.();
        } else if (told.kind === 'makes') {
          const job = jobs.list.find(({ entry }) => entry.id === told.id);
          if (job !== undefined) job.entry = { ...job.entry, makes: told.image };
        }
      }
    } catch (error) {
      jobs.fault = faultOf(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function loadJobs(): Promise<void> {
  const entries = await client.jobs.list({ offset: 0, limit: listed });
  jobs.list = entries.map((entry) => ({ entry, rate: null, left: null }));
  jobs.fault = null;
  for (const entry of entries) if (isOver(entry)) settle(entry);
}

async function reload(id: string): Promise<void> {
  let entry: JobEntry;
  try {
    entry = await client.jobs.show({ id });
  } catch {
    jobs.list = jobs.list.filter((job) => job.entry.id !== id); // forgotten meanwhile
    refreshSoon();
    return;
  }
  const known = jobs.list.find((job) => job.entry.id === id);
  if (known === undefined) jobs.list = [{ entry, rate: null, left: null }, ...jobs.list];
  else known.entry = entry;
  if (!isOver(entry)) return;
  settle(entry);
  refreshSoon();
}

function settle(entry: JobEntry): void {
  if (undecided.has(entry.id)) return; // the person is being asked
  const started = asked.get(entry.id);
  asked.delete(entry.id);
  if (started !== undefined && entry.error?.code === 'gate/ask') {
    undecided.add(entry.id);
    void askAndRepeat(entry, started.params, started.secrets, started.work);
  } else end(entry);
}

/** A job that was refused for want of a decision goes on as another one, or stays refused. */
async function askAndRepeat(
  entry: JobEntry,
  params: unknown,
  secrets: Record<string, string>,
  work: WorkName,
): Promise<void> {
  try {
    const renewed = await askForJob(params, secrets);
    if (renewed === null) return end(entry);
    const { id } = await client.jobs.start({ work, params: renewed, secrets });
    again.set(entry.id, id);
    asked.set(id, { work, params: renewed, secrets });
    for (const set of [own, silent]) if (set.delete(entry.id)) set.add(id);
    waiting.set(id, [...(waiting.get(id) ?? []), ...(waiting.get(entry.id) ?? [])]);
    waiting.delete(entry.id);
    const watcher = watching.get(entry.id);
    if (watcher !== undefined) watching.set(id, watcher);
    watching.delete(entry.id);
    await reload(id);
    await forgetJob(entry.id);
  } catch (error) {
    jobs.fault = faultOf(error);
    end(entry);
  } finally {
    undecided.delete(entry.id);
  }
}

function end(entry: JobEntry): void {
  undecided.delete(entry.id);
  for (const resolve of waiting.get(entry.id) ?? []) resolve(entry);
  waiting.delete(entry.id);
  if (!own.delete(entry.id) || silent.delete(entry.id)) return;
  announce(entry);
}

/** Somebody who looks at something else is told by the system, where that is wanted; a desktop shell does it by itself. */
function notify(title: string, { state }: JobEntry): void {
  if (!settings.notifications || desktop !== null || !document.hidden || !('Notification' in window)) return;
  if (Notification.permission === 'granted') new Notification(title, { body: t(`state.${state}`), icon: './icon.svg' });
}

function announce(entry: JobEntry): void {
  const title = titleOf(entry);
  const fault = faultOfJob(entry);
  notify(title, entry);
  if (entry.state === 'done') toast('good', t('toast.done', { title }));
  else if (entry.state === 'cancelled') toast('plain', t('toast.cancelled', { title }));
  else toast('bad', t('toast.failed', { title }), fault);
  void rescanAround(entry);
}

/** Starts a work; gives the id of the job. `quiet`: who started it shows its end. Throws what the call throws. */
export async function startJob<Name extends WorkName>(
  work: Name,
  params: WorkParams<Name>,
  options: { readonly secrets?: Record<string, string>; readonly quiet?: boolean } = {},
): Promise<string> {
  const { id } = await client.jobs.start({ work, params, secrets: options.secrets ?? {} });
  own.add(id);
  asked.set(id, { work, params, secrets: options.secrets ?? {} });
  if (options.quiet === true) silent.add(id);
  await reload(id);
  return id;
}

/** Resolves when the job is over. */
export async function whenOver(id: string): Promise<JobEntry> {
  const now = latest(id);
  const known = jobs.list.find(({ entry }) => entry.id === now);
  if (known !== undefined && isOver(known.entry) && !undecided.has(now)) return known.entry;
  return new Promise((resolve) => {
    waiting.set(now, [...(waiting.get(now) ?? []), resolve]);
  });
}

/** Resolves with null when the job says how far it is, or has not ended for a while. */
export function whenMoving(id: string): Promise<null> {
  const since = performance.now();
  const isAtWork = (): boolean => jobs.list.find(({ entry }) => entry.id === latest(id))?.entry.state === 'running';
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      watching.delete(latest(id));
      resolve(null);
    };
    const look = (): void => {
      const waits = undecided.has(id) || (isAtWork() && performance.now() - since < refusedWithin);
      if (waits) timer = setTimeout(look, patience);
      else over();
    };
    let timer = setTimeout(look, patience);
    watching.set(id, over);
  });
}

/** From now on the end of a job that was started quietly is told; at once if it is over. */
export function tellEnd(id: string): void {
  const now = latest(id);
  const known = jobs.list.find(({ entry }) => entry.id === now);
  if (known !== undefined && isOver(known.entry)) announce(known.entry);
  else silent.delete(now);
}

/** Looks through a datastore now; leaves no trace in the list when all is well. */
export async function scanNow(datastore: string, everything = false): Promise<JobEntry> {
  const id = await startJob('scan', { datastore, everything }, { quiet: true });
  const entry = await whenOver(id);
  if (entry.state === 'done') await forgetJob(id);
  return entry;
}

/** What a job has changed is seen at once, not when the watch of the folder gets round to it. */
async function rescanAround(entry: JobEntry): Promise<void> {
  if (entry.work === 'scan' || typeof entry.params !== 'object' || entry.params === null) return;
  const given = entry.params as Record<string, unknown>;
  const files = [given.target, given.onCopy, given.image].flatMap((value) => {
    if (typeof value === 'object' && value !== null && 'path' in value) return [String(value.path)];
    return typeof value === 'string' ? [value] : [];
  });
  const stores = new Set(files.map((file) => placeToScan(file)?.id).filter((id) => id !== undefined));
  for (const id of stores) {
    try {
      await scanNow(id);
    } catch (error) {
      toast('bad', t('toast.scan-failed'), faultOf(error));
    }
  }
}

export async function forgetJob(id: string): Promise<void> {
  await client.jobs.forget({ id });
  jobs.list = jobs.list.filter(({ entry }) => entry.id !== id);
  refreshSoon();
}

/** Asks a job to wait, to go on, to stop; what is refused is shown. */
export async function steerJob(id: string, how: 'pause' | 'resume' | 'cancel'): Promise<void> {
  try {
    await client.jobs[how]({ id });
  } catch (error) {
    toast('bad', t('toast.refused'), faultOf(error));
  }
}

// The first steps of somebody new: which there are, where each leads, and which are done, as the jobs that have run and the pages seen tell.
import type { AddedSamples, ImageEntry, JobEntry } from '../../core/workbench/contract.ts';
import { client, faultOf } from '../bridge.ts';
import { t } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import { jobs } from './jobs.svelte.ts';
import { openPanel } from './panels.svelte.ts';
import { goTo, shown } from './route.svelte.ts';
import { openSheet } from './sheets.svelte.ts';

export const stepNames = ['samples', 'convert', 'snapshot', 'map', 'hex', 'chain', 'repair', 'parent'] as const;
export type StepName = (typeof stepNames)[number];

interface FirstSteps {
  /** The list is shown. */
  open: boolean;
  done: StepName[];
  /** The samples that were made last; null: none. */
  samples: AddedSamples | null;
}

const key = 'platter-first-steps';

function read(): FirstSteps {
  try {
    const kept = JSON.parse(localStorage.getItem(key) ?? '{}') as Partial<FirstSteps> | null;
    const done: readonly unknown[] = Array.isArray(kept?.done) ? kept.done : [];
    const samples = typeof kept?.samples?.images?.disk === 'string' ? kept.samples : null;
    return { open: kept?.open === true, done: stepNames.filter((name) => done.includes(name)), samples };
  } catch {
    return { open: false, done: [], samples: null }; // storage that is blocked or holds something else
  }
}

export const firstSteps = $state(read());

/** A browser that keeps nothing has it until the page is closed. */
function keep(): void {
  try {
    localStorage.setItem(key, JSON.stringify(firstSteps));
  } catch {
    return;
  }
}

export function showSteps(open: boolean): void {
  firstSteps.open = open;
  keep();
}

/** What was made is what the steps are about from now on. */
export function beginSteps(samples: AddedSamples): void {
  Object.assign(firstSteps, { open: true, done: ['samples'], samples });
  keep();
}

/** To be called in an effect: ticks what the jobs and the page that is shown say is done. */
export function tickSteps(): void {
  const { samples, done } = firstSteps;
  if (samples === null) return;
  const seen = jobs.list.flatMap(({ entry }) => (entry.state === 'done' ? stepOf(entry, samples) : []));
  const { route } = shown;
  if (route.page === 'image' && ['map', 'hex', 'chain'].includes(route.tab)) seen.push(route.tab as StepName);
  const fresh = seen.filter((name) => !done.includes(name));
  if (fresh.length === 0) return;
  firstSteps.done = stepNames.filter((name) => done.includes(name) || fresh.includes(name));
  keep();
}

/** The step that a job on a sample is. */
function stepOf({ work, params, startedAt }: JobEntry, { images, folder }: AddedSamples): StepName[] {
  const given = params as { source?: unknown; image?: unknown; repair?: unknown; action?: { kind?: unknown } } | null;
  if (given === null || startedAt === null) return [];
  if (work === 'relink') return ['parent'];
  const file = pathOf(given.source) ?? pathOf(given.image);
  if (file?.startsWith(folder) !== true) return [];
  if (work === 'convert' && file === images.disk) return ['convert'];
  if (work === 'snapshot' && given.action?.kind === 'create') return ['snapshot'];
  if (work === 'check' && typeof given.repair === 'string') return ['repair'];
  return [];
}

function pathOf(image: unknown): string | null {
  return typeof image === 'object' && image !== null && 'path' in image ? String(image.path) : null;
}

/** Goes where a step is done. */
export async function goToStep(name: StepName): Promise<void> {
  const { samples } = firstSteps;
  if (name === 'samples' || samples === null) {
    openPanel({ kind: 'samples' });
    return;
  }
  const { images } = samples;
  try {
    if (name === 'convert') openSheet('convert', await entryAt(images.disk), { format: 'vhdx' });
    else if (name === 'repair') await goToTab(images.damaged, 'check');
    else if (name === 'parent') await goToTab(images.orphan, 'chain');
    else await goToTab(name === 'chain' ? images.overlay : images.disk, name === 'snapshot' ? 'snapshots' : name);
  } catch (error) {
    toast('bad', t('steps.not-there'), faultOf(error));
  }
}

async function goToTab(file: string, tab: string): Promise<void> {
  goTo({ page: 'image', id: (await entryAt(file)).id, tab });
}

/** The sample in the catalogue. Throws what finding it throws. */
function entryAt(file: string): Promise<ImageEntry> {
  return client.images.find({ text: file });
}

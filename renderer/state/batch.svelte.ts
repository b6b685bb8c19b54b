// One work on many images: started a few at a time, with one message at the end in place of one for each.
import type { CheckResult, ImageEntry, JobEntry, WorkName, WorkParams } from '../../core/workbench/contract.ts';
import { faultOf, faultOfJob, type Fault } from '../bridge.ts';
import { t } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import { refreshCatalogue } from './catalogue.svelte.ts';
import { startJob, whenOver } from './jobs.svelte.ts';

/** Jobs that are handed over at once; the rest wait here, where closing the window ends them. */
const atOnce = 4;

export interface BatchEnd {
  readonly image: ImageEntry;
  readonly entry: JobEntry | null;
  readonly fault: Fault | null;
}

/** Runs `work` for each image; gives how each ended, in their order. */
export async function runForEach<Name extends WorkName>(
  images: readonly ImageEntry[],
  work: Name,
  params: (image: ImageEntry) => WorkParams<Name>,
): Promise<BatchEnd[]> {
  const ends: BatchEnd[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < images.length; at = next++) {
      const image = images[at];
      if (image === undefined) return;
      try {
        const entry = await whenOver(await startJob(work, params(image), { quiet: true }));
        ends[at] = { image, entry, fault: faultOfJob(entry) };
      } catch (error) {
        ends[at] = { image, entry: null, fault: faultOf(error) };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, images.length) }, lane));
  await refreshCatalogue();
  return ends;
}

/** Says how many went well, and why the first that did not. */
export function tellEnds(ends: readonly BatchEnd[], title: string): void {
  const bad = ends.filter(({ fault }) => fault !== null);
  const [first] = bad;
  if (first === undefined) toast('good', t('batch.done', { title, count: ends.length }));
  else {
    const values = { title, bad: bad.length, count: ends.length, file: first.image.file };
    toast('bad', t('batch.some-failed', values), first.fault);
  }
}

/** Checks each and keeps the findings in the catalogue. */
export async function checkAll(images: readonly ImageEntry[]): Promise<void> {
  const ends = await runForEach(images, 'check-image', ({ id }) => ({ image: id }));
  if (ends.some(({ fault }) => fault !== null)) return tellEnds(ends, t('work.check-image'));
  const unsound = ends.filter(({ entry }) => {
    const { corruptions, leaks, errors } = entry?.result as CheckResult;
    return corruptions + leaks + errors > 0;
  });
  const [first] = unsound;
  if (first === undefined) toast('good', t('batch.all-sound', { count: ends.length }));
  else toast('bad', t('batch.unsound', { bad: unsound.length, count: ends.length, file: first.image.file }));
}

/** Computes and keeps the digest of each guest's disk. */
export async function digestAll(images: readonly ImageEntry[]): Promise<void> {
  const ends = await runForEach(images, 'digest-image', ({ id }) => ({ image: id, algorithm: 'sha256' }));
  tellEnds(ends, t('work.digest-image'));
}

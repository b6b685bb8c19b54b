// The thread of one job: runs one piece of work, tells how far it is, ends.
import { listenToJournals } from '../../block/journal/notices.ts';
import os from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { ImageError, type WireError } from '../../errors/image-error.ts';
import type { Job, NewImage, Progress } from '../../job.ts';
import type { Fence } from '../fence.ts';
import type { KeptGate } from '../kept-gate.ts';
import { fillRecorder, newFill, type FillMap } from '../map/fill.ts';
import { shouldStop, waitWhileAsked, type ControlWords } from './control.ts';
import { works } from './works.ts';
import type { WorkName } from './works.ts';

/** What the thread is started with. */
export interface ThreadTask {
  readonly work: WorkName;
  readonly params: unknown;
  readonly control: ControlWords;
  /** Passphrases by name; in memory only. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly catalogue: string;
  readonly fence: Fence;
  readonly gate: KeptGate;
}

/** What it says. Exactly one of the last three comes last. */
export type ThreadMessage =
  | { readonly kind: 'progress'; readonly progress: Progress }
  | { readonly kind: 'log'; readonly text: string }
  /** It begins to write a new image; `fill` is shared memory that says how far that is filled. */
  | { readonly kind: 'makes'; readonly image: NewImage; readonly fill: FillMap }
  | { readonly kind: 'done'; readonly result: unknown }
  | { readonly kind: 'fault'; readonly error: WireError }
  | { readonly kind: 'bug'; readonly stack: string };

/** Milliseconds between two messages of progress at least. */
const progressEvery = 50;

/** How nice a job is to the window (0 to 19). */
const niceness = 10;

/**
 * Lets the window and its server go first where a job wants every processor, once it is at work: what refuses it is known soon. Only Linux
 * has a niceness for each thread, which the threads that this one starts take over; elsewhere it would slow the whole program.
 */
function letOthersFirst(): void {
  if (process.platform !== 'linux') return;
  try {
    os.setPriority(0, niceness);
  } catch {
    // A container may forbid it: then the job is as urgent as everything else.
  }
}

function threadJob(control: ControlWords, say: (message: ThreadMessage) => void): Job {
  let last = -Infinity;
  let phase = '';
  return {
    progress(progress) {
      if (last === -Infinity) letOthersFirst();
      const now = performance.now();
      if (progress.phase === phase && progress.done < progress.total && now - last < progressEvery) return;
      last = now;
      ({ phase } = progress);
      say({ kind: 'progress', progress });
    },
    makes(image) {
      const fill = newFill(image.size, image.granularity);
      say({ kind: 'makes', image, fill });
      return fillRecorder(fill);
    },
    throwIfCancelled() {
      waitWhileAsked(control);
      if (shouldStop(control)) throw new ImageError('request/cancelled');
    },
  };
}

async function perform(task: ThreadTask, say: (message: ThreadMessage) => void): Promise<ThreadMessage> {
  try {
    listenToJournals((notice) => say({ kind: 'log', text: notice.message }));
    const context = {
      job: threadJob(task.control, say),
      log: (text: string) => say({ kind: 'log', text }),
      secrets: task.secrets,
      catalogue: task.catalogue,
      fence: task.fence,
      gate: task.gate,
    };
    return { kind: 'done', result: await works[task.work].run(task.params, context) };
  } catch (error) {
    if (error instanceof ImageError) return { kind: 'fault', error: error.toWire() };
    return { kind: 'bug', stack: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

const port = parentPort;
if (port !== null) {
  const say = (message: ThreadMessage): void => port.postMessage(message);
  say(await perform(workerData as ThreadTask, say));
}

// A thread that has an image open, and the questions that are put to it one after the other.
import { Worker } from 'node:worker_threads';
import { ImageError } from '../../errors/image-error.ts';
import type { Answer, ImageTask, Question, Questions } from './image-thread.ts';

interface Asked {
  readonly question: Question;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that has the image open. */
export interface Thread {
  readonly worker: Worker;
  /** The thread has one question at a time; the others wait here, where they can still be taken back. */
  asked: Asked | null;
  readonly queue: Asked[];
  next: number;
  fault: ImageError | null;
}

const resourceLimits = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 32 };

/** Starts a thread that opens the image when it is first asked something. */
export function startThread(task: ImageTask, name: string): Thread {
  const file = import.meta.url.endsWith('.ts') ? './image-thread.ts' : './image-thread.js';
  const worker = new Worker(new URL(file, import.meta.url), { workerData: task, resourceLimits, name });
  const thread: Thread = { worker, asked: null, queue: [], next: 1, fault: null };
  const die = (reason: string): void => {
    thread.fault ??= new ImageError('session/died', { reason }, { file: task.image.path });
    thread.asked?.reject(thread.fault);
    thread.asked = null;
    for (const { reject } of thread.queue.splice(0)) reject(thread.fault);
  };
  worker.on('message', (answer: Answer) => {
    const { asked } = thread;
    thread.asked = null;
    askNext(thread);
    if ('error' in answer) asked?.reject(ImageError.fromWire(answer.error));
    else if ('bug' in answer) asked?.reject(new Error(answer.bug));
    else asked?.resolve(answer.result);
  });
  worker.on('error', (error: Error) => die(error.message));
  worker.on('exit', (code) => die(`exit code ${code}`));
  return thread;
}

/** Something is being asked, or waits to be. */
export function isBusy({ asked, queue }: Thread): boolean {
  return asked !== null || queue.length > 0;
}

/** Puts a question. Throws `session/died`, `request/cancelled` when `signal` says so before its turn comes, and what the question throws. */
export function ask(
  thread: Thread,
  name: keyof Questions,
  args: readonly unknown[],
  signal?: AbortSignal,
): Promise<unknown> {
  if (thread.fault !== null) return Promise.reject(thread.fault);
  const number = thread.next++;
  return new Promise((resolve, reject) => {
    const asked: Asked = { question: { number, name, args }, resolve, reject };
    thread.queue.push(asked);
    signal?.addEventListener('abort', () => {
      const at = thread.queue.indexOf(asked);
      if (at < 0) return;
      thread.queue.splice(at, 1);
      reject(new ImageError('request/cancelled'));
    });
    askNext(thread);
  });
}

function askNext(thread: Thread): void {
  if (thread.asked !== null) return;
  thread.asked = thread.queue.shift() ?? null;
  if (thread.asked !== null) thread.worker.postMessage(thread.asked.question);
}

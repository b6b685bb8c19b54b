// The thread in which create works when that takes long: the main one stays free to hear signals. Also what starts it.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { ImageError, type WireError } from '../core/errors/image-error.ts';
import type { Progress } from '../core/job.ts';
import { create, type CreateParams } from '../core/operations/create.ts';
import type { CommandJob } from './progress.ts';

interface Task {
  readonly params: Omit<CreateParams, 'secret' | 'policy'>;
  /** Not zero: somebody wants to stop. */
  readonly cancel: Int32Array<SharedArrayBuffer>;
}

type Message =
  | { readonly kind: 'progress'; readonly progress: Progress }
  | { readonly kind: 'done' }
  | { readonly kind: 'fault'; readonly error: WireError }
  | { readonly kind: 'bug'; readonly stack: string };

/** Creates the image in a thread of its own. Rejects with what `create` throws, `request/cancelled` after a signal. */
export function createInThread(params: Task['params'], command: CommandJob): Promise<void> {
  const cancel = new Int32Array(new SharedArrayBuffer(4));
  const file = import.meta.url.endsWith('.ts') ? './create-thread.ts' : './create-thread.js';
  const task: Task = { params, cancel };
  const worker = new Worker(new URL(file, import.meta.url), { workerData: task });
  command.signal.addEventListener('abort', () => Atomics.store(cancel, 0, 1));
  return new Promise((resolve, reject) => {
    worker.on('message', (message: Message) => {
      if (message.kind === 'progress') command.job.progress(message.progress);
      else if (message.kind === 'done') resolve();
      else if (message.kind === 'fault') reject(ImageError.fromWire(message.error));
      else reject(new Error(message.stack));
    });
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`the thread of create ended early (${code})`)));
  });
}

async function work({ params, cancel }: Task): Promise<Message> {
  const job = {
    progress: (progress: Progress) => parentPort?.postMessage({ kind: 'progress', progress } satisfies Message),
    throwIfCancelled() {
      if (Atomics.load(cancel, 0) !== 0) throw new ImageError('request/cancelled');
    },
  };
  try {
    await create(params, job);
    return { kind: 'done' };
  } catch (error) {
    if (error instanceof ImageError) return { kind: 'fault', error: error.toWire() };
    return { kind: 'bug', stack: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

if (!isMainThread && parentPort !== null) parentPort.postMessage(await work(workerData as Task));
